"""The benchmark `growth`: dedupe with a table of many known leads beside dedupe with few, on the same new leads.

None of the leads is known, so each is looked up, logged and put: the work is the same, only the tables differ. Where
the ids are in the order of time, as the product makes them, the new ones come behind the known ones.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from pipeline.lab.bench.flow import Race, fresh_outputs, require_whole, timed
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.known import build, knowing, ready_s
from pipeline.lab.bench.result import Benchmark, Figure, Run, Target, there_and_back
from pipeline.lab.worker import Worker
from pipeline.lab.workload import Workload
from pipeline.topics import CAPTURED

__all__ = ["Growth", "growth"]

RATIO_MIN = 0.7
RSS_MAX_MIB = 512.0
IDLE_MAX_PERCENT = 3.0
#: Until RocksDB has nothing left to merge of what was just written.
SETTLE_S = 5.0


async def growth(at: Installation) -> Benchmark:
    """How much slower a table makes the dedupe when it has grown, and what it takes when there is nothing to do."""
    many, few = (f"{keys:,} known keys" for keys in (at.sizes.recovery_ours, at.sizes.growth_few))
    found = Growth(at, many, few)
    await found.prepare()
    order = there_and_back([many, few], at.sizes.rounds)
    runs = []
    for turn in range(at.sizes.rounds):
        leads = await found.load(turn)
        runs += [at.told("growth", await found.run(name, leads)) for name in order[2 * turn : 2 * turn + 2]]
    rss_mib = [run.peak_rss_mib for run in runs if run.contender == many]
    return Benchmark(
        name="growth", title="lead-captured -> lead-accepted, by the size of the table", unit="leads/s", runs=runs,
        targets=[Target(many, few, RATIO_MIN)],
        figures=[
            Figure(name=f"peak RSS, {many}", unit="MiB", values=rss_mib, at_most=RSS_MAX_MIB),
            Figure(
                name=f"idle worker, {many}", unit="% of a core", values=found.idle_percent, at_most=IDLE_MAX_PERCENT
            ),
        ],
    )  # fmt: skip


class Growth:
    """Runs one worker after the other on slices of `lead-captured`, each slice once with each table.

    Args:
        at: where.
        many, few: the contenders.
    """

    def __init__(self, at: Installation, many: str, few: str) -> None:
        self._at = at
        self._groups = {many: "", few: ""}
        self._many = many
        self._few = few
        #: Processor time of a worker with the large table and without work, in percent of the time that passed.
        self.idle_percent: list[float] = []

    async def prepare(self) -> None:
        """Have a disk with the large table, that of `recovery` if there is one, and nothing captured."""
        await self._at.nothing_captured()
        group = self._groups[self._many] = await knowing(self._at, self._at.sizes.recovery_ours)
        if group not in self._at.disks:
            self._at.disks[group] = "growth-many"
            self._at.say(f"growth: recovering a disk with {self._many}")
            with self._worker(self._many) as worker:
                await ready_s(worker)

    async def load(self, turn: int) -> Workload:
        """Append the leads of this turn, which no table has. The small table is a new one each time."""
        sizes = self._at.sizes
        leads = replace(self._at.leads, count=sizes.growth, first=sizes.recovery_ours + turn * sizes.growth)
        group = self._groups[self._few] = f"growth-few-{turn}"
        self._at.disks[group] = group
        await build(self._at, group, sizes.growth_few)
        await self._at.kafka.skip(group, CAPTURED)
        self._at.say(f"growth: loading {leads.count:,} leads")
        await self._at.kafka.append(CAPTURED, leads.records())
        return leads

    async def run(self, contender: str, leads: Workload) -> Run:
        """Measure one run on the leads that were loaded last."""
        kafka, group = self._at.kafka, self._groups[contender]
        await fresh_outputs(self._at, "dedupe", group)
        with self._worker(contender) as worker:
            accepted = self._at.accepted
            race = Race(worker, group, (CAPTURED,), accepted, accepted, leads.unique, self._at.sizes.limit_s)
            run = await timed(kafka, contender, race, records=leads.count)
            if contender == self._many:
                self.idle_percent.append(await self._idle_percent(worker))
        await require_whole(kafka, "growth", run, leads)
        return run

    async def _idle_percent(self, worker: Worker) -> float:
        await asyncio.sleep(SETTLE_S)
        since_s, cpu_s = time.monotonic(), worker.cpu_s
        await asyncio.sleep(self._at.sizes.growth_idle_s)
        return 100 * (worker.cpu_s - cpu_s) / (time.monotonic() - since_s)

    def _worker(self, contender: str) -> Worker:
        group = self._groups[contender]
        return self._at.ours(self._at.disks[group], "dedupe", group)
