"""The benchmark `recovery`: a worker with an empty disk rebuilds its table from the changelog."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from pipeline import topics
from pipeline.dedupe import Seen
from pipeline.lab.bench.clock import Clock, Reading
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import OURS, STOCK, Benchmark, Run, Target, there_and_back
from pipeline.lab.program import LabError
from pipeline.lab.worker import Worker
from pipeline.lab.workload import Workload

__all__ = ["Recovery", "recovery"]

#: A probe takes the worker a millisecond, and the last one comes that late: either way a percent or two against us.
POLL_S = 0.03
RECOVERY_MAX_S = 180.0
#: Keys that are looked up in the table afterwards.
SAMPLE_KEYS = 500

_OUR_GROUP = "recovery"
_STOCK_GROUP = "recovery-stock"
_STOCK_BEGINS = "Restoring state from changelog topics"
_STOCK_ENDS = "Recovery complete"
_TO_GO = re.compile(r"(\d+) changelog records to go")

#: How many keys are restored, None while it is not known.
_Restored = Callable[[], int | None]


RSS_MAX_MIB = 400.0


async def recovery(at: Installation) -> Benchmark:
    """How fast a lost disk is made good."""
    recoveries = Recovery(at, leads=at.leads, our_keys=at.sizes.recovery_ours, stock_keys=at.sizes.recovery_stock)
    await recoveries.prepare()
    order = there_and_back([OURS, STOCK], at.sizes.rounds)
    return Benchmark(
        name="recovery", title="changelog -> table on an empty disk", unit="keys/s",
        runs=[at.told("recovery", await recoveries.run(contender)) for contender in order],
        targets=[Target(OURS, STOCK, 15)], rss_max_mib=RSS_MAX_MIB,
    )  # fmt: skip


class Recovery:
    """Builds a changelog for each contender once, and lets workers with empty disks restore it.

    Args:
        at: where.
        leads: whose keys are in the changelogs.
        our_keys: entries in our changelog.
        stock_keys: entries in the changelog of stock Faust, fewer because it takes longer; rates are compared.
    """

    def __init__(self, at: Installation, *, leads: Workload, our_keys: int, stock_keys: int) -> None:
        self._at = at
        self._leads = leads
        self._our_keys = our_keys
        self._stock_keys = stock_keys
        self._number = 0

    async def prepare(self) -> None:
        """Build the changelogs. Nothing else is to be done: both groups stand at the end of what they read."""
        kafka = self._at.kafka
        self._at.say(f"recovery: building changelogs of {self._our_keys:,} and {self._stock_keys:,} keys")
        await topics.ensure(self._at.settings("dedupe", _OUR_GROUP))
        changelog = topics.changelog(_OUR_GROUP, "seen")
        await kafka.appear(topics.CAPTURED, changelog)
        await kafka.skip(_OUR_GROUP, topics.CAPTURED)
        await self._build(changelog, self._our_keys)
        changelog = topics.changelog(_STOCK_GROUP, "seen")
        await kafka.create(f"{_STOCK_GROUP}-captured", f"{_STOCK_GROUP}-accepted", changelog)
        await self._build(changelog, self._stock_keys)

    async def _build(self, changelog: str, keys: int) -> None:
        now_ms = int(time.time() * 1000)
        entries = (
            (f"default/{self._leads.message_id(n)}".encode(), Seen(n, now_ms, n.to_bytes(8)).pack())
            for n in range(keys)
        )
        await self._at.kafka.append(changelog, entries)

    async def run(self, contender: str) -> Run:
        """Measure one recovery of `contender`, from an empty disk to the last key."""
        self._number += 1
        name = f"recovery-{self._number}"
        if contender == OURS:
            with self._at.ours(name, "dedupe", _OUR_GROUP) as worker:
                run = await self._measure(contender, worker, self._our_keys, lambda: _ours(worker, self._our_keys))
                self._require_restored(worker)
                return run
        with self._at.stock(name, _STOCK_GROUP, f"{_STOCK_GROUP}-captured") as worker:
            return await self._measure(contender, worker, self._stock_keys, lambda: _stock(worker, self._stock_keys))

    def _require_restored(self, worker: Worker) -> None:
        """Ask for keys from all over the table: a fast recovery with holes in it is worth nothing."""
        for number in range(0, self._our_keys, max(1, self._our_keys // SAMPLE_KEYS)):
            entry = worker.ask(f"/tables/seen/default/{self._leads.message_id(number)}")
            if entry is None or entry.get("offset") != number:
                raise LabError(f"Our recovery is wrong: key {number} of {self._our_keys} is {entry}")

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
