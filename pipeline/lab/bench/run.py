"""All benchmarks, one after the other, on a broker of their own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.embedded import Broker, free_port
from pipeline.lab.bench.capture import capture
from pipeline.lab.bench.failover import failover
from pipeline.lab.bench.flow import dedupe, path
from pipeline.lab.bench.growth import growth
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.latency import latency
from pipeline.lab.bench.page import page
from pipeline.lab.bench.postgresql import postgresql
from pipeline.lab.bench.recovery import recovery
from pipeline.lab.bench.report import Report
from pipeline.lab.bench.result import Benchmark
from pipeline.lab.bench.scaleout import scaleout
from pipeline.lab.bench.sink import sink
from pipeline.lab.bench.sizes import Sizes
from pipeline.lab.kafka import Kafka
from pipeline.lab.machine import fsync_ms
from pipeline.lab.workload import Workload

__all__ = ["BENCHMARKS", "measure"]

BENCHMARKS: Mapping[str, Callable[[Installation], Awaitable[Benchmark]]] = {
    "dedupe": dedupe,
    "path": path,
    "postgresql": postgresql,
    "sink": sink,
    "recovery": recovery,
    "growth": growth,
    "scaleout": scaleout,
    "capture": capture,
    "page": page,
    "latency": latency,
    "failover": failover,
}
BROKER_HEAP_MB = 1024
SAMPLE_LEADS = 10_000


def measure(
    names: Sequence[str], sizes: Sizes, *, seed: int, say: Callable[[str], None], random_ids: bool = False
) -> Report:
    """Run the benchmarks `names`, and leave nothing behind. Call it in the main thread.

    Args:
        names: of `BENCHMARKS`.
        sizes: how much each contender gets to do.
        seed: of the leads.
        say: takes a line about the progress.
        random_ids: see `Workload`.

    Raises:
        LabError: a worker ended or stalled, or our results are wrong.
        BrokerError: the broker cannot be started.
    """
    started_at = datetime.now(UTC)
    directory = Path(tempfile.mkdtemp(prefix="leads-bench-"))
    broker = Broker(directory / "broker", port=free_port(), heap_mb=BROKER_HEAP_MB, full_jit=True)
    leads = Workload(seed, 0, random_ids)
    try:
        disk_ms = fsync_ms(directory)
        say("starting the broker")
        broker.start()
        benchmarks = asyncio.run(_run(names, directory, broker.url, sizes, leads, say))
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)
    return Report(started_at, seed, random_ids, sizes, _mean_size_bytes(leads), disk_ms, benchmarks)


async def _run(
    names: Sequence[str], directory: Path, url: str, sizes: Sizes, leads: Workload, say: Callable[[str], None]
) -> list[Benchmark]:
    async with Kafka([url.removeprefix("kafka://")]) as kafka:
        at = Installation(kafka, url, directory, sizes, leads, say)
        return [await BENCHMARKS[name](at) for name in BENCHMARKS if name in names]


def _mean_size_bytes(leads: Workload) -> float:
    sample = replace(leads, count=SAMPLE_LEADS)
    return sum(len(value) for _, value in sample.records()) / sample.count
