"""A stock Faust app with one fault: `python -m faust -A tests.integration.stock worker`.

It does what the agent `dedupe` does, as Faust's documentation would write it: forward each lead once, by a table.
`STOCK_FAULT` is what goes wrong at the lead with the key `default/fault`:

    raise       the body of the agent raises
    kill        the process dies when the key is set (and its changelog written), before the lead is forwarded
    unwritable  no lead: RocksDB refuses what a recovery applies
"""

from __future__ import annotations

import os
import signal
from typing import Any

import faust

from pipeline.topics import ACCEPTED, CAPTURED

__all__ = ["app"]

KEY = b"default/fault"

_fault = os.environ.get("STOCK_FAULT", "")

app = faust.App(
    "stock",
    broker=os.environ["LEADS_BROKER_URL"],
    store="rocksdb://",
    datadir=f"{os.environ['LEADS_DATA_DIR']}/stock",
    topic_partitions=8,
    web_bind="127.0.0.1",
    web_host="127.0.0.1",
    # Defaults: 2.8, 60 and 3 s. They only say how long a test takes.
    broker_commit_interval=0.2,
    broker_session_timeout=2.0,
    broker_heartbeat_interval=0.4,
)
captured = app.topic(CAPTURED, key_type=bytes, value_type=bytes, value_serializer="raw")
accepted = app.topic(ACCEPTED, key_type=bytes, value_type=bytes, value_serializer="raw")
seen = app.Table("seen", partitions=8, key_type=bytes, value_type=bytes, recovery_buffer_size=1)


@app.agent(captured)
async def dedupe(stream: Any) -> None:
    """Forward each lead once."""
    async for event in stream.events():
        if event.key == KEY and _fault == "raise":
            raise ArithmeticError("a bug in the code")
        if event.key in seen:
            continue
        seen[event.key] = b"%d" % event.message.offset
        if event.key == KEY and _fault == "kill":
            await app.producer.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        await accepted.send(key=event.key, value=event.value)


if _fault == "unwritable":

    def refuse(*args: Any, **kwargs: Any) -> None:
        """What RocksDB says on a full disk."""
        raise OSError("no space left on device")

    seen.data.apply_changelog_batch = refuse
