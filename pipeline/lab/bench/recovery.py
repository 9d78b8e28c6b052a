"""The benchmark `recovery`: a worker with an empty disk rebuilds its table from the changelog; then one that has its
disk starts again, after an orderly end and after SIGKILL.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Callable

from pipeline import topics
from pipeline.lab.bench.clock import Clock, Reading
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.known import entries, knowing, ready_s, require_known
from pipeline.lab.bench.result import OURS, STOCK, Benchmark, Figure, Run, Target
from pipeline.lab.program import LabError
from pipeline.lab.worker import Worker

__all__ = ["Recovery", "recovery"]

#: A probe takes the worker a millisecond, and the last one comes that late: either way a percent or two against us.
POLL_S = 0.03
RECOVERY_MAX_S = 180.0
RSS_MAX_MIB = 512.0
KEYS_PER_S_MIN = 400_000.0
RESTART_MAX_S = 3.0

_STOCK_GROUP = "recovery-stock"
_STOCK_BEGINS = "Restoring state from changelog topics"
_STOCK_ENDS = "Recovery complete"
_TO_GO = re.compile(r"(\d+) changelog records to go")

#: How many keys are restored, None while it is not known.
_Restored = Callable[[], int | None]


async def recovery(at: Installation) -> Benchmark:
    """How fast a lost disk is made good, and how fast a worker is back that has its own."""
    recoveries = Recovery(at, our_keys=at.sizes.recovery_ours, stock_keys=at.sizes.recovery_stock)
    await recoveries.prepare()
    # Stock Faust once: the ratio has a wide margin, and its run takes a minute.
    order = [OURS, STOCK, *[OURS] * (at.sizes.rounds - 1)]
    runs = [at.told("recovery", await recoveries.run(contender)) for contender in order]
    return Benchmark(
        name="recovery", title="changelog -> table on an empty disk; start with the disk", unit="keys/s", runs=runs,
        targets=[Target(OURS, STOCK, 15)], rss_max_mib=RSS_MAX_MIB,
        figures=[
            Figure(
                name=f"rate of {OURS}", unit="keys/s", at_least=KEYS_PER_S_MIN,
                values=[run.rate for run in runs if run.contender == OURS],
            ),
            *await recoveries.restarts(at.sizes.rounds),
        ],
    )  # fmt: skip


class Recovery:
    """Builds a changelog for each contender once, and lets workers with empty disks restore it.

    Args:
        at: where.
        our_keys: entries in our changelog.
        stock_keys: entries in the changelog of stock Faust, fewer because it takes longer; rates are compared.
    """

    def __init__(self, at: Installation, *, our_keys: int, stock_keys: int) -> None:
        self._at = at
        self._our_keys = our_keys
        self._stock_keys = stock_keys
        self._group = ""
        self._name = ""
        self._number = 0

    async def prepare(self) -> None:
        """Build the changelogs. Nothing else is to be done: both groups stand at the end of what they read."""
        self._group = await knowing(self._at, self._our_keys)
        changelog = topics.changelog(_STOCK_GROUP, "seen")
        await self._at.kafka.create(f"{_STOCK_GROUP}-captured", f"{_STOCK_GROUP}-accepted", changelog)
        await self._at.kafka.append(changelog, entries(self._at, self._stock_keys))

    async def run(self, contender: str) -> Run:
        """Measure one recovery of `contender`, from an empty disk to the last key."""
        self._number += 1
        name = f"recovery-{self._number}"
        if contender == OURS:
            return await self._run_ours(name)
        with self._at.stock(name, _STOCK_GROUP, f"{_STOCK_GROUP}-captured") as worker:
            return await self._measure(contender, worker, self._stock_keys, lambda: _stock(worker, self._stock_keys))

    async def _run_ours(self, name: str) -> Run:
        if self._name:
            shutil.rmtree(self._at.directory / self._name)
        self._name = self._at.disks[self._group] = name
        with self._at.ours(name, "dedupe", self._group) as worker:
            run = await self._measure(OURS, worker, self._our_keys, lambda: _ours(worker, self._our_keys))
            require_known(self._at, worker, self._our_keys)
        return run

    async def restarts(self, rounds: int) -> list[Figure]:
        """Measure starts with the disk of the last recovery, until ready: after an orderly end, and after SIGKILL."""
        orderly_s, killed_s = [], []
        for _ in range(rounds):
            with self._restart() as worker:
                orderly_s.append(await ready_s(worker))
                worker.kill()
            with self._restart() as worker:
                killed_s.append(await ready_s(worker))
                require_known(self._at, worker, self._our_keys)
        what = f"ready with {self._our_keys:,} keys on its disk"
        return [
            Figure(name=f"{what}, after SIGTERM", unit="s", values=orderly_s, at_most=RESTART_MAX_S),
            Figure(name=f"{what}, after SIGKILL", unit="s", values=killed_s, at_most=RESTART_MAX_S),
        ]

    def _restart(self) -> Worker:
        return self._at.ours(self._name, "dedupe", self._group)

    async def _measure(self, contender: str, worker: Worker, keys: int, restored: _Restored) -> Run:
        clock = await _watch(worker, keys, restored)
        assert clock.first is not None
        if clock.timed <= 0:
            raise LabError(f"{contender}: the recovery of {keys:,} keys is too short to be timed")
        return Run(
            contender=contender,
            rate=clock.rate,
            seconds=clock.seconds,
            cpu_s_per_100k=clock.cpu_s / clock.timed * 100_000,
            peak_rss_mib=worker.peak_rss_mib,
            start_s=clock.first.time_s - worker.started_s,
            committed_s=0.0,
            results=clock.count,
            expected=keys,
        )


async def _watch(worker: Worker, keys: int, restored: _Restored) -> Clock:
    """Read the clock until all keys are restored; it starts when the recovery has, so at a count of 0 or more."""
    clock = Clock()
    while clock.count < keys:
        worker.check()
        count = restored()
        if count is not None:
            clock.take(Reading(time.monotonic(), count, worker.cpu_s))
        if time.monotonic() - worker.started_s > RECOVERY_MAX_S:
            raise LabError(f"No recovery within {RECOVERY_MAX_S:g} s:\n{worker.last_lines()}")
        await asyncio.sleep(POLL_S)
    return clock


def _ours(worker: Worker, keys: int) -> int | None:
    """As the product itself says on `/readyz`: how many records are to go, then that it is ready."""
    answer = worker.ask("/readyz")
    if answer is None:
        return None
    if answer["status"] == "ready":
        return keys
    to_go = _TO_GO.search(answer["checks"]["tables"])
    return keys - int(to_go[1]) if to_go else None


def _stock(worker: Worker, keys: int) -> int | None:
    """Stock Faust only logs when it begins and when it is done."""
    log = worker.log.read_text(errors="replace")
    if _STOCK_ENDS in log:
        return keys
    return 0 if _STOCK_BEGINS in log else None
