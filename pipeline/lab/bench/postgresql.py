"""The benchmark `postgresql`: captured -> rows in PostgreSQL, one worker each, from the same topic.

This product runs twice: as it is, exactly once and with contacts; and exactly once with the rows of Quix Streams' sink,
so that there is a comparison of equal rows. Quix Streams is at least once.

Rates are captured leads per second, repeats too, for one contender writes these as well. The clock runs from the first
lead to the last row, so that who writes in bursts gains and loses nothing by them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import asyncpg

from pipeline import topics
from pipeline.embedded import Postgres, free_port
from pipeline.lab.bench.clock import Clock
from pipeline.lab.bench.flow import Race, watch
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.peers import PLAIN_ROWS, QUIX_ROWS, Peers
from pipeline.lab.bench.result import OURS, Benchmark, Run, Target, there_and_back
from pipeline.lab.bench.sink import POSTGRES_SETTINGS
from pipeline.lab.peers import quix_table
from pipeline.lab.peers.tally import tallied
from pipeline.lab.program import LabError, Process
from pipeline.lab.workload import Workload
from pipeline.sinks.postgresql import PostgreSQLSink
from pipeline.topics import ACCEPTED, DEAD_LETTER

__all__ = ["OURS_QUIX_TABLE", "PostgreSQLPath", "postgresql"]

OURS_QUIX_TABLE = "this product, rows as Quix's"
_AGENTS = "dedupe,crm_sink"
#: What they run.
_APPS = {OURS: "pipeline.app", OURS_QUIX_TABLE: "pipeline.lab.peers.ours_quix_table"}

#: Its lane moves in the transaction of the rows, so this is how many there are; to count them would walk through them.
_WRITTEN = "SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_offset WHERE topic = $1"
_KEYS = {
    OURS: "SELECT tenant || '/' || message_id FROM lead",
    OURS_QUIX_TABLE: f"SELECT __key FROM {quix_table.TABLE}",
}
_SHAPE = "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = $1"


async def postgresql(at: Installation) -> Benchmark:
    """How fast captured leads come into PostgreSQL."""
    peers = Peers(at, [QUIX_ROWS, PLAIN_ROWS])
    with Postgres(at.directory / "postgres-path", port=free_port(), settings=POSTGRES_SETTINGS) as server:
        path = PostgreSQLPath(at, server, peers, replace(at.leads, count=at.sizes.postgresql))
        order = there_and_back([*_APPS, *peers.names], at.sizes.rounds)
        runs = [at.told("postgresql", await path.run(contender)) for contender in order]
    return Benchmark(
        name="postgresql", title="lead-captured -> rows in PostgreSQL", unit="leads/s", runs=runs,
        targets=[Target(OURS_QUIX_TABLE, QUIX_ROWS, 2), Target(OURS, QUIX_ROWS, 1.3)], left_out=peers.left_out,
    )  # fmt: skip


class PostgreSQLPath:
    """Runs contenders on one lead-captured; each has a group and a database of its own.

    Args:
        at: where.
        server: for their databases.
        peers: those that are not ours.
        leads: what is captured.
    """

    def __init__(self, at: Installation, server: Postgres, peers: Peers, leads: Workload) -> None:
        self._at = at
        self._server = server
        self._peers = peers
        self._leads = leads
        self._number = 0

    async def run(self, contender: str) -> Run:
        """Measure one run."""
        self._number += 1
        name = f"postgresql_{self._number}"
        captured = await self._at.captured(OURS, self._leads)
        url = self._server.url.rpartition("/")[0] + f"/{name}"
        await _execute(self._server.url, f"CREATE DATABASE {name}")
        await self._prepare(contender, name, url)
        connection = await asyncpg.connect(url)
        try:
            run = await self._measure(contender, name, captured, url, connection)
            await self._require_right(run, connection)
        finally:
            await connection.close()
        await _execute(self._server.url, f"DROP DATABASE {name} WITH (FORCE)")
        return run

    async def _prepare(self, contender: str, name: str, url: str) -> None:
        if contender in _APPS:
            await self._at.kafka.remove(ACCEPTED, DEAD_LETTER)
            await topics.ensure(self._at.settings(_AGENTS, name))
            await self._at.kafka.appear(ACCEPTED, DEAD_LETTER)
            sink = PostgreSQLSink(url)
            await sink.open()
            await sink.close()
        if contender in (OURS_QUIX_TABLE, PLAIN_ROWS):  # Quix's sink makes its table itself
            await _execute(url, quix_table.CREATE)

    async def _measure(self, contender: str, name: str, captured: str, url: str, connection: Any) -> Run:
        clock = Clock()
        with self._start(contender, name, captured, url) as worker:
            race = self._race(contender, worker, name, captured, connection)
            committed_s = await watch(self._at.kafka, race, clock)
            if clock.first is None or clock.timed == 0:
                raise LabError(f"{contender}: no rows\n{worker.last_lines()}")
            leads_per_row = self._leads.count / race.expected
            return Run(
                contender=contender,
                rate=clock.rate * leads_per_row,
                seconds=clock.seconds,
                cpu_s_per_100k=clock.cpu_s / (clock.timed * leads_per_row) * 100_000,
                peak_rss_mib=worker.peak_rss_mib,
                start_s=clock.first.time_s - worker.started_s,
                committed_s=committed_s,
                results=clock.count,
                expected=race.expected,
                complete=clock.count >= race.expected,
            )

    def _start(self, contender: str, name: str, captured: str, url: str) -> Process:
        if contender in _APPS:
            return self._at.ours(name, _AGENTS, name, sink_url=url, guarantee="exactly-once", app=_APPS[contender])
        return self._peers.start(contender, name, captured, database=url, leads=self._leads.count)

    def _race(self, contender: str, worker: Process, name: str, captured: str, connection: Any) -> Race:
        if contender in _APPS:
            begun = partial(self._at.kafka.end, ACCEPTED)
            count = partial(connection.fetchval, _WRITTEN, ACCEPTED)
            return Race(worker, name, (captured, ACCEPTED), begun, count, self._leads.unique, self._at.sizes.limit_s)
        tally = self._peers.tally(name)

        async def has_begun() -> int:
            return int(tallied(tally) is not None)

        async def written() -> int:
            return tallied(tally) or 0

        expected = self._leads.count if contender == PLAIN_ROWS else self._leads.unique
        return Race(worker, name, (captured,), has_begun, written, expected, self._at.sizes.peer_limit_s)

    async def _require_right(self, run: Run, connection: Any) -> None:
        """Of ours every lead once, and nothing else; of Quix Streams the table that ours was compared with."""
        if run.contender not in _APPS:
            await _require_shape(connection)
            return
        if run.committed_s is None:
            raise LabError(f"{run.contender} did not finish: {run.results:,} of {run.expected:,} rows, then a stall")
        keys = [name.encode() for (name,) in await connection.fetch(_KEYS[run.contender])]
        if flaws := self._leads.flaws(keys):
            raise LabError(f"The rows of {run.contender} are wrong: {flaws}")
        if letters := await self._at.kafka.end(DEAD_LETTER):
            raise LabError(f"{run.contender} is wrong: {letters} dead letters, there should be none")


async def _require_shape(connection: Any) -> None:
    found = {tuple(row) for row in await connection.fetch(_SHAPE, quix_table.TABLE)}
    if found != quix_table.SHAPE:
        raise LabError(f"The table of Quix's sink is not what it was: {sorted(found)}, not {sorted(quix_table.SHAPE)}")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
