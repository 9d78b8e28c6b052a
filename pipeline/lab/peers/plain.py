"""What Python can do on aiokafka and asyncpg: no dedupe, no state, no guarantees. `python -m pipeline.lab.peers.plain`.

`copy` takes records of captured leads, undecoded, to another topic. `rows` writes them to PostgreSQL, in the table of
Quix's sink, with COPY on several connections, and decodes no more than this takes. Both run on uvloop, take what one
fetch brings, and let the consumer commit every 5 s what it has handed out, written or not: nobody should use them.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pipeline.lab.peers.quix_table import COLUMNS, TABLE
from pipeline.lab.peers.tally import Tally

__all__ = ["copy", "rows"]

POLL_MS = 100
#: As this product's; Kafka's default for the largest one is a little more.
RECORD_BATCH_SIZE_MAX_BYTES = 1_000_000
#: As many as this product's sink has.
CONNECTIONS = 4
#: Of all partitions.
FETCHES_IN_FLIGHT_MAX = 16


class _Lead(msgspec.Struct, gc=False):
    message_id: str
    tenant: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    company: str | None = None
    source: str | None = None
    campaign: str | None = None
    captured_at: str | None = None
    fields: msgspec.Raw = msgspec.Raw(b"{}")


_decode = msgspec.json.Decoder(_Lead).decode


class _InFlight:
    """At most `count_max` tasks; a task that failed ends the process at the next one."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start it as soon as there is room."""
        self._tasks.add(asyncio.create_task(work))
        while len(self._tasks) >= self._count_max:
            done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


async def copy() -> None:
    """Copy records, each to the partition that it comes from, until the process is killed."""
    in_flight = _InFlight(FETCHES_IN_FLIGHT_MAX)
    async with (
        _consumer() as consumer,
        AIOKafkaProducer(
            bootstrap_servers=os.environ["BENCH_BROKER"], acks="all", max_batch_size=RECORD_BATCH_SIZE_MAX_BYTES
        ) as producer,
    ):
        while True:
            for tp, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                await in_flight.start(_append(producer, tp.partition, records))


async def _append(producer: Any, partition: int, records: Sequence[Any]) -> None:
    topic, batch, sent = os.environ["BENCH_ACCEPTED"], producer.create_batch(), []
    for record in records:
        if batch.append(key=record.key, value=record.value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=record.key, value=record.value, timestamp=None)
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)


async def rows() -> None:
    """Write records to PostgreSQL until the process is killed."""
    tally, begun, in_flight = Tally(Path(os.environ["BENCH_TALLY"])), False, _InFlight(CONNECTIONS)
    pool = await asyncpg.create_pool(os.environ["BENCH_DATABASE"], min_size=CONNECTIONS, max_size=CONNECTIONS)
    async with _consumer() as consumer:
        while True:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                if not begun:
                    begun = True
                    tally.begin()
                await in_flight.start(_write(pool, tally, records))


async def _write(pool: Any, tally: Tally, records: Sequence[Any]) -> None:
    async with pool.acquire() as connection:
        await connection.copy_records_to_table(TABLE, records=map(_row, records), columns=COLUMNS)
    tally.add(len(records))


def _row(record: Any) -> tuple[object, ...]:
    lead = _decode(record.value)
    return (
        datetime.fromtimestamp(record.timestamp / 1000),  # without a zone, as the sink has it
        record.key.decode(),
        lead.message_id,
        lead.tenant,
        lead.email,
        lead.phone,
        lead.name,
        lead.company,
        lead.source,
        lead.campaign,
        lead.captured_at,
        str(lead.fields, "utf-8"),
    )


@asynccontextmanager
async def _consumer() -> AsyncIterator[Any]:
    async with AIOKafkaConsumer(
        os.environ["BENCH_CAPTURED"],
        bootstrap_servers=os.environ["BENCH_BROKER"],
        group_id=os.environ["BENCH_APP_ID"],
        enable_auto_commit=True,
        auto_offset_reset="earliest",
    ) as consumer:
        yield consumer


if __name__ == "__main__":
    uvloop.run({"copy": copy, "rows": rows}[sys.argv[1]]())
