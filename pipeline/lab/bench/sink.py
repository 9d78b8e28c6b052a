"""The benchmark `sink`: lead-accepted -> rows, contacts and checkpoint in the CRM, by a worker that does only this.

Beside it a plain loop on asyncpg with the very same statement, without Kafka, and PostgreSQL's COPY into a table like
`lead`, which is what this machine's database can do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import asyncpg
import psutil

from pipeline import topics
from pipeline.embedded import Postgres, free_port
from pipeline.lab.bench.clock import Clock
from pipeline.lab.bench.flow import Race, sqlite_rows, watch
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import Benchmark, Run, Target, there_and_back
from pipeline.lab.program import LabError
from pipeline.lab.workload import Workload
from pipeline.sinks import AcceptedLead, Checkpoint, Lane, StreamOffset
from pipeline.sinks.contact import address
from pipeline.sinks.postgresql import WRITERS_MAX, PostgreSQLSink
from pipeline.sinks.postgresql_rows import COLUMNS, columns, insert
from pipeline.topics import ACCEPTED, DEAD_LETTER

__all__ = ["AT_LEAST_ONCE", "CONTENDERS", "COPY", "EXACTLY_ONCE", "PLAIN", "SQLITE", "SinkRuns", "sink"]

EXACTLY_ONCE = "PostgreSQL, exactly once"
AT_LEAST_ONCE = "PostgreSQL, at least once"
PLAIN = "plain asyncpg loop"
SQLITE = "SQLite, exactly once"
COPY = "PostgreSQL, COPY alone"
CONTENDERS = (EXACTLY_ONCE, AT_LEAST_ONCE, PLAIN, SQLITE, COPY)

#: As a loaded worker's batches are.
LOOP_BATCH_LEADS = 1000
GUARANTEES = {EXACTLY_ONCE: "exactly-once", AT_LEAST_ONCE: "at-least-once", SQLITE: "exactly-once"}


#: PostgreSQL's memory for its pages; its default.
POSTGRES_SETTINGS = {"shared_buffers": "128MB"}


async def sink(at: Installation) -> Benchmark:
    """How fast accepted leads come into a database."""
    server = Postgres(at.directory / "postgres", port=free_port(), settings=POSTGRES_SETTINGS)
    with server:
        leads = replace(at.leads, count=at.sizes.sink)
        sink_runs = SinkRuns(at, server, leads, limit_s=at.sizes.limit_s)
        await sink_runs.prepare()
        order = there_and_back(CONTENDERS, at.sizes.rounds)
        runs = [at.told("sink", await sink_runs.run(contender)) for contender in order]
    targets = [
        Target(EXACTLY_ONCE, PLAIN, 0.6),
        Target(EXACTLY_ONCE, AT_LEAST_ONCE, 0.9),
        Target(SQLITE, COPY, 20_000 / 180_000),
    ]
    return Benchmark(
        name="sink", title="lead-accepted -> rows, contacts and checkpoint", unit="rows/s", runs=runs, targets=targets
    )


class SinkRuns:
    """Runs contenders on one lead-accepted; each has a group and a database of its own."""

    def __init__(self, at: Installation, server: Postgres, leads: Workload, *, limit_s: float) -> None:
        self._at = at
        self._server = server
        self._leads = leads
        self._limit_s = limit_s
        self._number = 0

    async def prepare(self) -> None:
        """Load lead-accepted, each lead once."""
        self._at.say(f"loading {self._leads.unique:,} leads into {ACCEPTED}")
        await self._at.kafka.remove(ACCEPTED, DEAD_LETTER)
        await topics.ensure(self._at.settings("crm_sink", "leads"))
        await self._at.kafka.appear(ACCEPTED, DEAD_LETTER)
        await self._at.kafka.append(ACCEPTED, self._leads.unique_records())

    async def run(self, contender: str) -> Run:
        """Measure one run."""
        self._number += 1
        name = f"sink_{self._number}"
        if contender == SQLITE:
            path = self._at.directory / f"{name}.sqlite3"
            return await self._worker(contender, name, f"sqlite:///{path}", partial(sqlite_rows, path))
        url = await self._database(name)
        if contender in GUARANTEES:
            connection = await asyncpg.connect(url)
            try:
                return await self._worker(contender, name, url, lambda: _rows(connection))
            finally:
                await connection.close()
        work = _loop if contender == PLAIN else _copy
        return await self._alone(contender, partial(work, url, list(_accepted(self._leads))))

    async def _database(self, name: str) -> str:
        server = await asyncpg.connect(self._server.url)
        await server.execute(f"CREATE DATABASE {name}")
        await server.close()
        url = self._server.url.rpartition("/")[0] + f"/{name}"
        sink = PostgreSQLSink(url)
        await sink.open()
        await sink.close()
        return url

    async def _worker(self, contender: str, name: str, url: str, count: Callable[[], Awaitable[int]]) -> Run:
        expected = self._leads.unique
        clock = Clock()
        with self._at.ours(name, "crm_sink", name, sink_url=url, guarantee=GUARANTEES[contender]) as worker:
            race = Race(worker, name, (ACCEPTED,), count, count, expected, self._limit_s)
            committed_s = await watch(self._at.kafka, race, clock)
            if committed_s is None or clock.first is None or clock.timed == 0 or clock.count != expected:
                raise LabError(f"{contender}: {clock.count:,} of {expected:,} rows")
            cpu_s_per_100k = clock.cpu_s / clock.timed * 100_000
            start_s = clock.first.time_s - worker.started_s
            return _run(contender, clock.rate, clock.seconds, cpu_s_per_100k, worker.peak_rss_mib, expected, start_s)

    async def _alone(self, contender: str, work: Callable[[], Awaitable[None]]) -> Run:
        process, expected = psutil.Process(), self._leads.unique
        started_s, cpu_s = time.monotonic(), sum(process.cpu_times()[:2])
        await work()
        seconds = time.monotonic() - started_s
        used_s = sum(process.cpu_times()[:2]) - cpu_s
        rss_mib = process.memory_info().rss / 2**20
        return _run(contender, expected / seconds, seconds, used_s / expected * 100_000, rss_mib, expected, 0.0)


def _run(
    contender: str, rate: float, seconds: float, cpu_s: float, rss_mib: float, expected: int, start_s: float
) -> Run:
    return Run(
        contender=contender, rate=rate, seconds=seconds, cpu_s_per_100k=cpu_s, peak_rss_mib=rss_mib, start_s=start_s,
        committed_s=0.0, results=expected, expected=expected,
    )  # fmt: skip


def _accepted(leads: Workload) -> Iterator[AcceptedLead]:
    for number in range(leads.unique):
        lead = leads.lead(number)
        yield AcceptedLead(lead, number % WRITERS_MAX, number, 1_767_600_000_000 + number, address(lead))


def _batches(leads: Sequence[AcceptedLead]) -> Iterator[list[AcceptedLead]]:
    rest = iter(leads)
    while batch := list(islice(rest, LOOP_BATCH_LEADS)):
        yield batch


async def _loop(url: str, leads: Sequence[AcceptedLead]) -> None:
    """What our statement can do: as many connections, each with its own lane, and nothing else."""

    async def write(number: int) -> None:
        lane, position = Lane("loop", ACCEPTED, number), 0
        sink = PostgreSQLSink(url)
        await sink.offsets({lane: StreamOffset(0, "log")})
        await sink.close()
        connection = await asyncpg.connect(url)
        for batch in _batches(leads[number::WRITERS_MAX]):
            step = Checkpoint(lane, position, StreamOffset(batch[-1].offset + 1, "log"))
            await insert(connection, batch, step)
            position = step.after.next_offset
        await connection.close()

    await asyncio.gather(*(write(number) for number in range(WRITERS_MAX)))


async def _copy(url: str, leads: Sequence[AcceptedLead]) -> None:
    """What the database can do: the columns of `lead`, its key, no checkpoint and no contacts."""
    connection = await asyncpg.connect(url)
    for batch in _batches(leads):
        # The last column is for the contacts.
        rows = list(zip(*columns(batch)[:-1], strict=True))
        await connection.copy_records_to_table("lead", records=rows, columns=COLUMNS)
    await connection.close()


async def _rows(connection: Any) -> int:
    # Rows are numbered as they are inserted, and none is deleted; a count would walk through the table.
    count: int = await connection.fetchval("SELECT coalesce(max(id), 0) FROM lead")
    return count
