"""The same work by stock Faust, as its documentation shows it: `faust -A pipeline.lab.peers.stock worker`.

Default settings: one event at a time, Faust's own acknowledgements. It does less than the product does: no content
hash, so no conflict of ids is found, and no dead letters. So the comparison leans to its side.

`BENCH_TAKE=1` makes it use the fastest that its API has, `take_events(1000, within=0.1)`. There a table raises by
itself, for it asks which event is being iterated over; so each event of the list is made that one, as people do.

Run only by the benchmark, which sets the variables.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from weakref import ref

import faust
import msgspec
from faust.streams import _current_event

from pipeline.lead import Lead, decode

__all__ = ["app"]

_TAKE = 1000
_WITHIN_S = 0.1

_INSERT = """
INSERT INTO lead (tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields,
                  source_partition, source_offset, written_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (tenant, message_id) DO NOTHING
"""

_name = os.environ.get("BENCH_APP_ID", "stock")
_takes = os.environ.get("BENCH_TAKE") == "1"
#: The SQLite file, with the table in it; none: only the dedupe.
_crm = os.environ.get("BENCH_CRM")

app = faust.App(
    _name,
    broker=os.environ.get("BENCH_BROKER_URL", "kafka://127.0.0.1:9092"),
    store="rocksdb://",
    datadir=os.environ.get("BENCH_DATA_DIR", f"var/{_name}"),
    topic_partitions=8,
    web_bind="127.0.0.1",
    web_host="127.0.0.1",
)
captured = app.topic(
    os.environ.get("BENCH_CAPTURED", "stock-captured"), key_type=bytes, value_type=bytes, value_serializer="raw"
)
accepted = app.topic(f"{_name}-accepted", key_type=bytes, value_type=bytes, value_serializer="raw")
seen = app.Table("seen", partitions=8, key_type=bytes, value_type=bytes)


async def dedupe(stream: Any) -> None:
    """Forward each lead once."""
    async for event in stream.events():
        await _forward(event)


async def dedupe_taking(stream: Any) -> None:
    """Forward each lead once, a list at a time."""
    async for events in stream.take_events(_TAKE, within=_WITHIN_S):
        for event in events:
            _current_event.set(ref(event))
            await _forward(event)


async def _forward(event: Any) -> None:
    decode(event.value)
    if event.key in seen:
        return
    seen[event.key] = b"%d" % event.message.offset
    await accepted.send(key=event.key, value=event.value)


async def crm_sink(stream: Any) -> None:
    """Write each lead in a transaction."""
    connection = _connect()
    async for event in stream.events():
        with connection:
            connection.execute(_INSERT, _row(event))


async def crm_sink_taking(stream: Any) -> None:
    """Write a list of leads in a transaction."""
    connection = _connect()
    async for events in stream.take_events(_TAKE, within=_WITHIN_S):
        with connection:
            connection.executemany(_INSERT, _rows(events))


def _connect() -> sqlite3.Connection:
    assert _crm is not None
    connection = sqlite3.connect(_crm)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _rows(events: Sequence[Any]) -> list[tuple[object, ...]]:
    return [_row(event) for event in events]


def _row(event: Any) -> tuple[object, ...]:
    lead: Lead = decode(event.value)
    captured_at = None if lead.captured_at is None else lead.captured_at.astimezone(UTC).isoformat()
    return (
        lead.tenant, lead.message_id, lead.email or lead.phone, lead.email, lead.phone,
        lead.name, lead.company, lead.source, lead.campaign,
        captured_at, msgspec.json.encode(lead.fields).decode(), event.message.partition, event.message.offset,
        datetime.now(UTC).isoformat(),
    )  # fmt: skip


app.agent(captured, name="dedupe")(dedupe_taking if _takes else dedupe)
if _crm:
    app.agent(accepted, name="crm_sink")(crm_sink_taking if _takes else crm_sink)
