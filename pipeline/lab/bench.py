"""`leads bench`: this product beside stock Faust, on one broker, from the same leads, in one run.

Each contender is sized so that it works for some ten seconds, and the rates are compared. Runs go in the order ours,
stock, stock, ours, so that a machine that gets slower or faster meanwhile favours nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from pipeline import topics
from pipeline.embedded import Broker, Postgres, free_port
from pipeline.lab.bench_flow import Flow
from pipeline.lab.bench_installation import Installation
from pipeline.lab.bench_kafka import PARTITIONS, Kafka
from pipeline.lab.bench_recovery import Recovery
from pipeline.lab.bench_report import OURS, STOCK, STOCK_TAKE, Benchmark, Run, Target
from pipeline.lab.bench_sink import AT_LEAST_ONCE, CONTENDERS, COPY, EXACTLY_ONCE, PLAIN, SQLITE, SinkRuns
from pipeline.lab.bench_sizes import Sizes
from pipeline.lab.workload import Workload

__all__ = ["NAMES", "Report", "measure"]

NAMES = ("dedupe", "path", "sink", "recovery")
#: PostgreSQL's memory for its pages; its default.
POSTGRES_SETTINGS = {"shared_buffers": "128MB"}
BROKER_HEAP_MB = 1024
SAMPLE_LEADS = 10_000
SAMPLE_FSYNCS = 200


@dataclass(frozen=True)
class Report:
    """What was measured, where, and with which leads."""

    started_at: datetime
    seed: int
    random_ids: bool
    sizes: Sizes
    lead_size_mean_bytes: float
    fsync_ms: float
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
            "machine": {**machine(), "fsync_ms": round(self.fsync_ms, 3)},
            "versions": {name: version(name) for name in ("faust-streaming", "aiokafka", "rocksdict")},
            "workload": {
                "seed": self.seed,
                "random_ids": self.random_ids,
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


def measure(
    names: Sequence[str], sizes: Sizes, *, seed: int, say: Callable[[str], None], random_ids: bool = False
) -> Report:
    """Run the benchmarks `names` on a broker of their own, and leave nothing behind. Call it in the main thread.

    Args:
        names: of `NAMES`.
        sizes: how much each contender gets to do.
        seed: of the leads.
        say: takes a line about the progress.
        random_ids: see `Workload`.

    Raises:
        LabError: a worker ended or stalled, or our results are wrong.
        BrokerError: the broker cannot be started.
    """
    directory = Path(tempfile.mkdtemp(prefix="leads-bench-"))
    broker = Broker(directory / "broker", port=free_port(), heap_mb=BROKER_HEAP_MB, full_jit=True)
    try:
        say("starting the broker")
        broker.start()
        return asyncio.run(_Bench(directory, broker.url, sizes, Workload(seed, 0, random_ids), say).run(names))
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


class _Bench:
    def __init__(
        self, directory: Path, broker_url: str, sizes: Sizes, leads: Workload, say: Callable[[str], None]
    ) -> None:
        self._directory = directory
        self._broker_url = broker_url
        self._sizes = sizes
        self._leads = leads
        self._say = say
        self._loaded: dict[str, int] = {}

    async def run(self, names: Sequence[str]) -> Report:
        started_at = datetime.now(UTC)
        fsync_ms = _fsync_ms(self._directory)
        async with Kafka([self._broker_url.removeprefix("kafka://")]) as kafka:
            at = Installation(kafka, self._broker_url, self._directory, self._say)
            known = {"dedupe": self._dedupe, "path": self._path, "sink": self._sink, "recovery": self._recovery}
            benchmarks = [await known[name](at) for name in NAMES if name in names]
        leads = self._leads
        mean = _mean_size_bytes(replace(leads, count=SAMPLE_LEADS))
        return Report(started_at, leads.seed, leads.random_ids, self._sizes, mean, fsync_ms, benchmarks)

    async def _dedupe(self, at: Installation) -> Benchmark:
        sizes = self._sizes
        leads = {OURS: sizes.dedupe_ours, STOCK: sizes.dedupe_stock, STOCK_TAKE: sizes.dedupe_take}
        runs = await self._flow(at, "dedupe", leads)
        return Benchmark("dedupe", "lead-captured -> lead-accepted, each lead once", "leads/s", _times(20), True, runs)

    async def _path(self, at: Installation) -> Benchmark:
        sizes = self._sizes
        leads = {OURS: sizes.path_ours, STOCK: sizes.path_stock, STOCK_TAKE: sizes.path_take}
        runs = await self._flow(at, "path", leads)
        return Benchmark(
            "path", "lead-captured -> rows in SQLite (WAL, synchronous=FULL)", "rows/s", _times(25), False, runs
        )

    async def _sink(self, at: Installation) -> Benchmark:
        server = Postgres(self._directory / "postgres", port=free_port(), settings=POSTGRES_SETTINGS)
        with server:
            leads = replace(self._leads, count=self._sizes.sink)
            sink = SinkRuns(at, server, leads, limit_s=self._sizes.limit_s)
            await sink.prepare()
            rounds = self._sizes.order.count(OURS)
            # There and back, so that a machine that gets slower or faster meanwhile favours nobody.
            order = [name for turn in range(rounds) for name in (CONTENDERS if turn % 2 == 0 else CONTENDERS[::-1])]
            runs = [self._told("sink", await sink.run(contender)) for contender in order]
        targets = [
            Target(EXACTLY_ONCE, PLAIN, 0.6),
            Target(EXACTLY_ONCE, AT_LEAST_ONCE, 0.9),
            Target(SQLITE, COPY, 20_000 / 180_000),
        ]
        return Benchmark("sink", "lead-accepted -> rows, contacts and checkpoint", "rows/s", targets, False, runs)

    async def _recovery(self, at: Installation) -> Benchmark:
        sizes = self._sizes
        recovery = Recovery(at, leads=self._leads, our_keys=sizes.recovery_ours, stock_keys=sizes.recovery_stock)
        await recovery.prepare()
        # There is no take() in a recovery.
        order = [contender for contender in sizes.order if contender != STOCK_TAKE]
        runs = [self._told("recovery", await recovery.run(contender)) for contender in order]
        return Benchmark("recovery", "changelog -> table on an empty disk", "keys/s", _times(15), True, runs)

    async def _flow(self, at: Installation, name: str, leads: dict[str, int]) -> list[Run]:
        flow = Flow(at, name, limit_s=self._sizes.limit_s)
        runs = []
        for contender in self._sizes.order:
            workload = replace(self._leads, count=leads[contender])
            captured = await self._captured(at, contender, workload)
            runs.append(self._told(name, await flow.run(contender, workload, captured)))
        return runs

    async def _captured(self, at: Installation, contender: str, leads: Workload) -> str:
        """A topic with the leads: the same ones for everybody, only fewer for those who take longer."""
        topic = topics.CAPTURED if contender == OURS else f"{topics.CAPTURED}-{leads.count}"
        if self._loaded.get(topic) != leads.count:
            self._say(f"loading {leads.count:,} leads into {topic}")
            await at.kafka.remove(topic)
            if contender == OURS:
                await topics.ensure(at.settings("dedupe", "leads"))
                await at.kafka.appear(topic)
            else:
                await at.kafka.create(topic)
            await at.kafka.append(topic, leads.records())
            self._loaded[topic] = leads.count
        return topic

    def _told(self, name: str, run: Run) -> Run:
        until = "" if run.complete else ", stopped there"
        self._say(
            f"{name}, {run.contender}: {run.rate:,.0f}/s for {run.seconds:.1f} s{until}, "
            f"{run.peak_rss_mib:.0f} MiB, {run.results:,} of {run.expected:,} results"
        )
        return run


def _times(ratio: float) -> list[Target]:
    return [Target(OURS, STOCK, ratio)]


def _mean_size_bytes(leads: Workload) -> float:
    return sum(len(value) for _, value in leads.records()) / leads.count


def _fsync_ms(directory: Path) -> float:
    """What the disk takes to make a page durable, the median: it decides how fast a transaction per lead can be."""
    taken_s = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(SAMPLE_FSYNCS):
            file.write(bytes(4096))
            started_s = time.perf_counter()
            os.fsync(file.fileno())
            taken_s.append(time.perf_counter() - started_s)
    return median(taken_s) * 1000
