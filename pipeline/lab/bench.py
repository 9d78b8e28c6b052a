"""`leads bench`: this product beside stock Faust, on one broker, from the same leads, in one run.

Each contender is sized so that it works for some ten seconds, and the rates are compared. Runs go in the order ours,
stock, stock, ours, so that a machine that gets slower or faster meanwhile favours nobody.
"""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from pipeline import topics
from pipeline.embedded import Broker, free_port
from pipeline.lab.bench_flow import Flow
from pipeline.lab.bench_installation import Installation
from pipeline.lab.bench_kafka import PARTITIONS, Kafka
from pipeline.lab.bench_recovery import Recovery
from pipeline.lab.bench_report import OURS, STOCK, STOCK_TAKE, Benchmark, Run
from pipeline.lab.workload import Workload

__all__ = ["FULL", "NAMES", "QUICK", "Report", "Sizes", "measure"]

NAMES = ("dedupe", "path", "recovery")
BROKER_HEAP_MB = 1024


@dataclass(frozen=True)
class Sizes:
    """How much each contender gets to do, in leads or keys.

    Attributes:
        ours: leads for this product.
        dedupe_stock, dedupe_take: leads for stock Faust.
        path_stock, path_take: the same, for the path to SQLite.
        recovery_ours, recovery_stock: keys in the changelog.
        order: who runs when.
        limit_s: longest steady state of one run.
    """

    ours: int
    dedupe_stock: int
    dedupe_take: int
    path_stock: int
    path_take: int
    recovery_ours: int
    recovery_stock: int
    order: tuple[str, ...]
    limit_s: float


FULL = Sizes(
    ours=800_000,
    dedupe_stock=40_000,
    dedupe_take=40_000,
    path_stock=8_000,
    path_take=15_000,
    recovery_ours=1_000_000,
    recovery_stock=200_000,
    order=(OURS, STOCK, STOCK_TAKE, STOCK, OURS),
    limit_s=90.0,
)
QUICK = Sizes(
    ours=40_000,
    dedupe_stock=2_000,
    dedupe_take=2_000,
    path_stock=500,
    path_take=1_000,
    recovery_ours=100_000,
    recovery_stock=10_000,
    order=(OURS, STOCK),
    limit_s=20.0,
)


@dataclass(frozen=True)
class Report:
    """What was measured, where, and with which leads."""

    started_at: datetime
    seed: int
    sizes: Sizes
    lead_size_mean_bytes: float
    benchmarks: Sequence[Benchmark]

    def write(self, directory: Path) -> Path:
        """Write it to a new file in `directory`, and return its path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.started_at:%Y%m%dT%H%M%SZ}.json"
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        return path

    def as_json(self) -> dict[str, Any]:
        """Everything, for the file."""
        return {
            "started_at": self.started_at.isoformat(),
            "machine": machine(),
            "versions": {name: version(name) for name in ("faust-streaming", "aiokafka", "rocksdict")},
            "workload": {
                "seed": self.seed,
                "lead_size_mean_bytes": round(self.lead_size_mean_bytes, 1),
                "partitions": PARTITIONS,
                **asdict(self.sizes),
            },
            "benchmarks": {benchmark.name: benchmark.as_json() for benchmark in self.benchmarks},
        }


def machine() -> dict[str, Any]:
    """The machine, as far as it matters for a rate."""
    return {
        "cpus": psutil.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_1min": psutil.getloadavg()[0],
    }


def measure(names: Sequence[str], sizes: Sizes, *, seed: int, say: Callable[[str], None]) -> Report:
    """Run the benchmarks `names` on a broker of their own, and leave nothing behind. Call it in the main thread.

    Raises:
        BenchError: a worker ended or stalled, or our results are wrong.
        BrokerError: the broker cannot be started.
    """
    directory = Path(tempfile.mkdtemp(prefix="leads-bench-"))
    broker = Broker(directory / "broker", port=free_port(), heap_mb=BROKER_HEAP_MB, full_jit=True)
    try:
        say("starting the broker")
        broker.start()
        return asyncio.run(_Bench(directory, broker.url, sizes, seed, say).run(names))
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


class _Bench:
    def __init__(self, directory: Path, broker_url: str, sizes: Sizes, seed: int, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._broker_url = broker_url
        self._sizes = sizes
        self._seed = seed
        self._say = say
        self._loaded: dict[str, float] = {}

    async def run(self, names: Sequence[str]) -> Report:
        started_at = datetime.now(UTC)
        async with Kafka([self._broker_url.removeprefix("kafka://")]) as kafka:
            at = Installation(kafka, self._broker_url, self._directory, self._say)
            known = {"dedupe": self._dedupe, "path": self._path, "recovery": self._recovery}
            benchmarks = [await known[name](at) for name in NAMES if name in names]
        mean = self._loaded.get(topics.CAPTURED) or _mean_size_bytes(self._seed)
        return Report(started_at, self._seed, self._sizes, mean, benchmarks)

    async def _dedupe(self, at: Installation) -> Benchmark:
        stock = {STOCK: self._sizes.dedupe_stock, STOCK_TAKE: self._sizes.dedupe_take}
        runs = await self._flow(at, "dedupe", stock)
        return Benchmark("dedupe", "lead-captured -> lead-accepted, each lead once", "leads/s", 20, True, runs)

    async def _path(self, at: Installation) -> Benchmark:
        stock = {STOCK: self._sizes.path_stock, STOCK_TAKE: self._sizes.path_take}
        runs = await self._flow(at, "path", stock)
        return Benchmark("path", "lead-captured -> rows in SQLite (WAL, synchronous=FULL)", "rows/s", 25, False, runs)

    async def _recovery(self, at: Installation) -> Benchmark:
        sizes = self._sizes
        recovery = Recovery(at, seed=self._seed, our_keys=sizes.recovery_ours, stock_keys=sizes.recovery_stock)
        await recovery.prepare()
        # There is no take() in a recovery.
        order = [contender for contender in sizes.order if contender != STOCK_TAKE]
        runs = [self._told("recovery", await recovery.run(contender)) for contender in order]
        return Benchmark("recovery", "changelog -> table on an empty disk", "keys/s", 15, True, runs)

    async def _flow(self, at: Installation, name: str, stock: dict[str, int]) -> list[Run]:
        flow = Flow(at, name, limit_s=self._sizes.limit_s)
        runs = []
        for contender in self._sizes.order:
            workload = Workload(self._seed, stock.get(contender, self._sizes.ours))
            captured = await self._captured(at, contender, workload)
            runs.append(self._told(name, await flow.run(contender, workload, captured)))
        return runs

    async def _captured(self, at: Installation, contender: str, workload: Workload) -> str:
        """A topic with the workload: the same leads for everybody, only fewer for those who take longer."""
        topic = topics.CAPTURED if contender == OURS else f"{topics.CAPTURED}-{workload.count}"
        if topic not in self._loaded:
            self._say(f"loading {workload.count:,} leads into {topic}")
            if contender == OURS:
                await topics.ensure(at.settings("dedupe", "leads"))
            else:
                await at.kafka.create(topic)
            size_bytes = await at.kafka.append(topic, workload.records())
            self._loaded[topic] = size_bytes / workload.count
        return topic

    def _told(self, name: str, run: Run) -> Run:
        until = "" if run.complete else ", stopped there"
        self._say(
            f"{name}, {run.contender}: {run.rate:,.0f}/s for {run.seconds:.1f} s{until}, "
            f"{run.peak_rss_mib:.0f} MiB, {run.results:,} of {run.expected:,} results"
        )
        return run


def _mean_size_bytes(seed: int, sample: int = 10_000) -> float:
    return sum(len(value) for _, value in Workload(seed, sample).records()) / sample
