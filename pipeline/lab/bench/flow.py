"""The benchmarks `dedupe` (captured -> accepted) and `path` (captured -> rows in SQLite)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from pipeline.lab.bench.clock import Clock, Reading
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.peers import PLAIN_COPY, QUIX, QUIX_BYTES, STREAMS, Peers
from pipeline.lab.bench.result import OURS, STOCK, STOCK_TAKE, Benchmark, Run, Target, there_and_back
from pipeline.lab.kafka import Kafka
from pipeline.lab.program import LabError, Process
from pipeline.lab.workload import Workload
from pipeline.sinks import sink_for
from pipeline.topics import ACCEPTED, DEAD_LETTER

__all__ = ["Flow", "Race", "Racer", "dedupe", "fresh_outputs", "path", "require_whole", "sqlite_rows", "timed", "watch"]

#: A look at the broker takes it a millisecond: 2 % of one core.
POLL_S = 0.05
#: A worker that shows no first result after that long never will.
START_MAX_S = 90.0
#: Results are over, or a worker stalls, when nothing comes for that long. Far above a commit interval of stock Faust.
STALL_S = 10.0
#: How often to ask for the committed offsets once the results are there.
SETTLE_POLL_S = 0.25


RSS_MAX_MIB = 400.0


async def dedupe(at: Installation) -> Benchmark:
    """How fast leads are told from their repeats."""
    peers = Peers(at, [QUIX, QUIX_BYTES, STREAMS, PLAIN_COPY])
    leads = {
        **dict.fromkeys([OURS, *peers.names], at.sizes.dedupe_ours),
        STOCK: at.sizes.dedupe_stock,
        STOCK_TAKE: at.sizes.dedupe_take,
    }
    return Benchmark(
        name="dedupe", title="lead-captured -> lead-accepted, each lead once", unit="leads/s",
        runs=await _runs(at, "dedupe", leads, peers), targets=[Target(OURS, STOCK, 30), Target(OURS, QUIX, 2.5)],
        rss_max_mib=RSS_MAX_MIB, left_out=peers.left_out,
    )  # fmt: skip


async def path(at: Installation) -> Benchmark:
    """How fast leads come into SQLite."""
    leads = {OURS: at.sizes.path_ours, STOCK: at.sizes.path_stock, STOCK_TAKE: at.sizes.path_take}
    return Benchmark(
        name="path", title="lead-captured -> rows in SQLite (WAL, synchronous=FULL)", unit="rows/s",
        runs=await _runs(at, "path", leads, Peers(at, [])), targets=[Target(OURS, STOCK, 25)],
    )  # fmt: skip


async def _runs(at: Installation, name: str, leads: Mapping[str, int], peers: Peers) -> list[Run]:
    flow = Flow(at, name, peers)
    runs = []
    for contender in there_and_back(list(leads), at.sizes.rounds):
        workload = replace(at.leads, count=leads[contender])
        captured = await at.captured(contender, workload)
        runs.append(at.told(name, await flow.run(contender, workload, captured)))
    return runs


class Racer(Protocol):
    """Who is timed: a `Worker`, or several that share the work."""

    started_s: float

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far."""

    @property
    def peak_rss_mib(self) -> float:
        """The most memory that a process of it ever had, in MiB."""

    def check(self) -> None:
        """Raise `LabError` when it has ended."""

    def last_lines(self) -> str:
        """The end of its log."""


@dataclass(frozen=True)
class Race:
    """One run of one contender.

    Attributes:
        worker: the process, or the processes.
        group: its consumer group.
        reads: the topics that the group must have committed to the end.
        begun: what starts the clock once it is not 0: in the path to SQLite, leads accepted before the first row.
        count: results so far.
        expected: results there should be.
        limit_s: stop the clock after that long, however far it is.
        settle_s: how long to wait for the commit once all results are there.
    """

    worker: Racer
    group: str
    reads: tuple[str, ...]
    begun: Callable[[], Awaitable[int]]
    count: Callable[[], Awaitable[int]]
    expected: int
    limit_s: float
    settle_s: float = STALL_S


class Flow:
    """Runs contenders from `lead-captured` on; each has a group, a changelog, an output and a disk of its own.

    Args:
        at: where.
        name: `dedupe` or `path`.
        peers: the contenders that are neither ours nor stock Faust.
    """

    def __init__(self, at: Installation, name: str, peers: Peers) -> None:
        self._at = at
        self._name = name
        self._peers = peers
        self._writes_rows = name == "path"
        self._agents = "dedupe,crm_sink" if self._writes_rows else "dedupe"
        self._number = 0

    async def run(self, contender: str, workload: Workload, captured: str) -> Run:
        """Measure one run of `contender` on the topic `captured`, which holds `workload`."""
        self._number += 1
        name = f"{self._name}-{self._number}"
        crm = self._at.directory / name / "crm.sqlite3"
        accepted = f"{name}-accepted" if contender in (STOCK, STOCK_TAKE) else ACCEPTED
        await self._prepare(contender, name, accepted, crm)
        # Who does not dedupe forwards the repeats, too.
        expected = workload.count if contender == PLAIN_COPY else workload.unique
        with self._start(contender, name, captured, accepted, crm) as worker:
            reads = (captured, accepted) if self._writes_rows else (captured,)
            accepted_count = partial(self._at.kafka.end, accepted)
            count = partial(sqlite_rows, crm) if self._writes_rows else accepted_count
            # It commits every 30 s, and what it does until then shows nothing.
            settle_s = 1.0 if contender == STREAMS else STALL_S
            limit_s = self._at.sizes.limit_s if contender == OURS else self._at.sizes.peer_limit_s
            race = Race(worker, name, reads, accepted_count, count, expected, limit_s, settle_s)
            # The dedupe is counted by what goes in, repeats too; the path by the rows that come out.
            run = await timed(self._at.kafka, contender, race, records=None if self._writes_rows else workload.count)
        if contender == OURS:
            await self._require_exact(run, workload, crm)
        return run

    async def _prepare(self, contender: str, name: str, accepted: str, crm: Path) -> None:
        crm.parent.mkdir(parents=True)
        if contender == OURS:
            await fresh_outputs(self._at, self._agents, name)
            return
        await self._at.kafka.remove(accepted)
        await self._at.kafka.create(accepted)
        if self._writes_rows:
            # By our own sink, so that both write into the same table.
            sink = sink_for(f"sqlite:///{crm}")
            await sink.open()
            await sink.close()

    def _start(self, contender: str, name: str, captured: str, accepted: str, crm: Path) -> Process:
        if contender == OURS:
            return self._at.ours(name, self._agents, name)
        if contender in self._peers.names:
            return self._peers.start(contender, name, captured, accepted=accepted)
        takes = contender == STOCK_TAKE
        return self._at.stock(name, name, captured, takes=takes, crm=crm if self._writes_rows else None)

    async def _require_exact(self, run: Run, workload: Workload, crm: Path) -> None:
        await require_whole(self._at.kafka, self._name, run, workload, keys=_keys(crm) if self._writes_rows else None)


async def fresh_outputs(at: Installation, agents: str, group: str) -> None:
    """Make the topics that `group` writes to anew; nobody may be using them."""
    await at.emptied(agents, ACCEPTED, DEAD_LETTER, group=group)


async def require_whole(
    kafka: Kafka, name: str, run: Run, workload: Workload, *, keys: Sequence[bytes | None] | None = None
) -> None:
    """Raise `LabError` unless a run of ours brought every lead once, and nothing else: a rate of wrong results is worth
    nothing.

    Args:
        kafka: for what is in the topics.
        name: of the benchmark.
        run, workload: who ran, and on which leads.
        keys: of the results; default: those in `lead-accepted`.
    """
    if run.committed_s is None:
        raise LabError(f"Our {name} did not finish: {run.results:,} of {run.expected:,} results, then a stall")
    if flaws := workload.flaws(await kafka.keys(ACCEPTED) if keys is None else keys):
        raise LabError(f"Our {name} is wrong: {flaws}")
    if letters := await kafka.end(DEAD_LETTER):
        raise LabError(f"Our {name} is wrong: {letters} dead letters, there should be none")


async def timed(kafka: Kafka, contender: str, race: Race, *, records: int | None) -> Run:
    """Measure a race to its end.

    Args:
        kafka: for what is committed.
        contender, race: who runs what.
        records: how many go in, which is what the rate then counts; None: it counts results.

    Raises:
        LabError: the worker ended, or did too much at once to be timed.
    """
    clock = Clock()
    committed_s = await watch(kafka, race, clock)
    if clock.first is None or clock.timed == 0:
        raise LabError(f"{contender}: the run is too short to be timed ({clock.count} results at once)")
    complete = committed_s is not None or clock.count >= race.expected
    scale = 1.0 if records is None else records / (clock.count if complete else race.expected)
    return Run(
        contender=contender,
        rate=clock.rate * scale,
        seconds=clock.seconds,
        cpu_s_per_100k=clock.cpu_s / (clock.timed * scale) * 100_000,
        peak_rss_mib=race.worker.peak_rss_mib,
        start_s=clock.first.time_s - race.worker.started_s,
        committed_s=committed_s,
        results=clock.count,
        expected=race.expected,
        complete=complete,
    )


async def watch(kafka: Kafka, race: Race, clock: Clock) -> float | None:
    """Read the clock until everything is there and committed.

    Returns how long after the last result all was committed, None when the time was up or nothing came any more.
    """
    asked_s = 0.0
    while True:
        count = await race.count()
        if count or clock.first or await race.begun():
            clock.take(Reading(time.monotonic(), count, race.worker.cpu_s))
        now_s = time.monotonic()
        race.worker.check()
        quiet = clock.count >= race.expected or clock.idle_s(now_s) > SETTLE_POLL_S
        if clock.first and quiet and now_s - asked_s > SETTLE_POLL_S:
            asked_s = now_s
            if not sum([await kafka.lag(race.group, topic) for topic in race.reads]):
                # Results may have come between the last look and the commit.
                clock.take(Reading(time.monotonic(), await race.count(), race.worker.cpu_s))
                return clock.idle_s(time.monotonic())
        patience_s = race.settle_s if clock.count >= race.expected else STALL_S
        if clock.idle_s(now_s) > patience_s or clock.seconds > race.limit_s:
            return None
        if clock.first is None and now_s - race.worker.started_s > START_MAX_S:
            raise LabError(f"No result after {START_MAX_S:g} s:\n{race.worker.last_lines()}")
        await asyncio.sleep(POLL_S)


async def sqlite_rows(crm: Path) -> int:
    """How many rows there are in the file `crm`.

    No row is ever deleted, so the highest number tells without a walk through the table.
    """
    if not crm.exists():
        return 0
    with closing(sqlite3.connect(f"file:{crm}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            (count,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM lead").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return 0
            raise
    return int(count)


def _keys(crm: Path) -> list[bytes]:
    with closing(sqlite3.connect(f"file:{crm}?mode=ro", uri=True)) as connection:
        return [name.encode() for (name,) in connection.execute("SELECT tenant || '/' || message_id FROM lead")]
