"""Stock Faust from captured leads to PostgreSQL, as its documentation shows it.

A table in front drops repeats ("Tables and Windowing": look the key up, set it, forward); behind it `take` collects
leads and writes them in one transaction ("Streams": `async for values in stream.take(100, within=10)`), with Faust's
own acknowledgements and commits. All settings are the defaults, but for the session timeout: 10 s as with everybody
else here; Faust's own 60 s would make each recovery a minute longer.

No `try` around the write: the documentation has none. An exception of the database goes to Faust, which starts the
agent again; by then `take` has acknowledged what it had handed out.

Run only by the comparison, which sets the variables.
"""

from __future__ import annotations

import os
from typing import Any

import faust

from pipeline.lab.plain_crm import Taken, connect, write
from pipeline.lead import decode

__all__ = ["app"]

TAKE = 1000
#: The documentation has 10 s there, which would keep every lead waiting.
WITHIN_S = 0.1
SESSION_TIMEOUT_S = 10.0

_name = os.environ.get("LAB_GROUP", "stock-crm")
_crm_url = os.environ.get("LAB_CRM_URL", "")

app = faust.App(
    _name,
    broker=f"kafka://{os.environ.get('LAB_BOOTSTRAP', '127.0.0.1:9092')}",
    store="rocksdb://",
    datadir=os.environ.get("LAB_DATA_DIR", f"var/{_name}"),
    topic_partitions=8,
    broker_session_timeout=SESSION_TIMEOUT_S,
    web_bind="127.0.0.1",
    web_host="127.0.0.1",
)
captured = app.topic(
    os.environ.get("LAB_TOPIC", "stock-captured"), key_type=bytes, value_type=bytes, value_serializer="raw"
)
accepted = app.topic(
    os.environ.get("LAB_ACCEPTED", "stock-accepted"), key_type=bytes, value_type=bytes, value_serializer="raw"
)
seen = app.Table("seen", partitions=8, key_type=bytes, value_type=bytes)
_pools: list[Any] = []


@app.agent(captured)
async def dedupe(stream: Any) -> None:
    """Forward each lead once."""
    async for event in stream.events():
        decode(event.value)
        if event.key in seen:
            continue
        seen[event.key] = b"%d" % event.message.offset
        await accepted.send(key=event.key, value=event.value)


@app.agent(accepted)
async def crm_sink(stream: Any) -> None:
    """Write a list of leads in a transaction."""
    # Once for the process, not for each start of the agent: the pool reconnects by itself.
    if not _pools:
        _pools.append(await connect(_crm_url))
    async for events in stream.take_events(TAKE, within=WITHIN_S):
        await write(_pools[0], [_taken(event) for event in events])


def _taken(event: Any) -> Taken:
    message = event.message
    # Faust gives the time in seconds.
    return Taken(event.value, message.partition, message.offset, int(message.timestamp * 1000))
