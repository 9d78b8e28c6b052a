"""The benchmark `scaleout`: two workers beside one, dedupe, on the same two cores.

The broker runs on these cores, too. So two workers cannot be twice as fast here; what counts is that a second one costs
nothing.

A start in order: the workers are ready and have their partitions, and are frozen then, while the leads are loaded:
record batches that were made before, so that it takes seconds. The clock starts when they are let go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from pipeline.lab.bench.flow import Race, fresh_outputs, require_whole, timed
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import Benchmark, Figure, Run, Target, there_and_back
from pipeline.lab.kafka import PARTITIONS
from pipeline.lab.program import LabError
from pipeline.lab.record_batches import record_batches
from pipeline.lab.worker import Worker
from pipeline.lab.workload import Workload
from pipeline.topics import CAPTURED

__all__ = ["Team", "scaleout"]

_Batches = Sequence[tuple[int, Any]]

ONE = "one worker"
TWO = "two workers"
RATIO_MIN = 1.0
CPU_RATIO_MAX = 1.15
#: Far longer than they are frozen.
_SETTINGS = {"LEADS_SESSION_TIMEOUT_S": "60"}
READY_MAX_S = 90.0
POLL_S = 0.1


class Team:
    """Several workers of one group that are timed as one. The clock starts with `go`."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self.started_s = time.monotonic()

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all so far."""
        return sum(worker.cpu_s for worker in self._workers)

    @property
    def peak_rss_mib(self) -> float:
        """The most memory that one of them ever had, in MiB."""
        return max(worker.peak_rss_mib for worker in self._workers)

    def check(self) -> None:
        """Raise `LabError` when one has ended."""
        for worker in self._workers:
            worker.check()

    def last_lines(self) -> str:
        """The ends of their logs."""
        return "\n\n".join(worker.last_lines() for worker in self._workers)

    async def share(self) -> None:
        """Wait until each has as many partitions as the others, and all are ready."""
        while not self._is_shared():
            self.check()
            if time.monotonic() - self.started_s > READY_MAX_S:
                raise LabError(f"The partitions are not shared after {READY_MAX_S:g} s:\n{self.last_lines()}")
            await asyncio.sleep(POLL_S)

    def _is_shared(self) -> bool:
        answer = self._workers[0].ask("/tables")
        if answer is None or not all(worker.is_ready for worker in self._workers):
            return False
        (table,) = answer["tables"]
        owners = [one["owner"] for one in table["partitions"] if one["state"] == "ready"]
        return sorted(map(owners.count, set(owners))) == [PARTITIONS // len(self._workers)] * len(self._workers)

    def pause(self) -> None:
        """Freeze all."""
        for worker in self._workers:
            worker.pause()

    def go(self) -> None:
        """Let all go on."""
        self.started_s = time.monotonic()
        for worker in self._workers:
            worker.resume()


async def scaleout(at: Installation) -> Benchmark:
    """What a second worker brings, and what it costs."""
    leads = replace(at.leads, count=at.sizes.scaleout)
    at.say(f"scaleout: making {leads.count:,} leads")
    batches = list(record_batches(leads.records(), PARTITIONS))
    workers = {ONE: 1, TWO: 2}
    runs = []
    for number, contender in enumerate(there_and_back([ONE, TWO], at.sizes.rounds)):
        run = await _run(at, contender, f"scaleout-{number}", workers[contender], leads, batches)
        runs.append(at.told("scaleout", run))
    cpu_s = {name: [run.cpu_s_per_100k for run in runs if run.contender == name] for name in workers}
    ratios = [two / one for one, two in zip(cpu_s[ONE], cpu_s[TWO], strict=True)]
    return Benchmark(
        name="scaleout", title="lead-captured -> lead-accepted, on the cores that the broker also uses", unit="leads/s",
        runs=runs, targets=[Target(TWO, ONE, RATIO_MIN)],
        figures=[Figure(name="processor time for a lead, two to one", unit="x", values=ratios, at_most=CPU_RATIO_MAX)],
    )  # fmt: skip


async def _run(at: Installation, contender: str, group: str, workers: int, leads: Workload, batches: _Batches) -> Run:
    await at.nothing_captured()
    await fresh_outputs(at, "dedupe", group)
    with ExitStack() as stack:
        names = [f"{group}-{number}" for number in range(workers)]
        started = [stack.enter_context(at.ours(name, "dedupe", group, more=_SETTINGS)) for name in names]
        team = Team(started)
        await team.share()
        team.pause()
        await at.kafka.send(CAPTURED, batches)
        team.go()
        race = Race(team, group, (CAPTURED,), at.accepted, at.accepted, leads.unique, at.sizes.limit_s)
        run = await timed(at.kafka, contender, race, records=leads.count)
    await require_whole(at.kafka, "scaleout", run, leads)
    return run
