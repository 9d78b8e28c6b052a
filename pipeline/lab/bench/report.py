"""Everything that was measured in one run, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.lab import bars
from pipeline.lab.bench.plot import COLUMNS, panels
from pipeline.lab.bench.result import Benchmark
from pipeline.lab.bench.sizes import Sizes
from pipeline.lab.kafka import PARTITIONS
from pipeline.lab.machine import machine

__all__ = ["Report"]


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
        """Write it to new files in `directory`: JSON, and a plot of what can be drawn; returns the path of the JSON."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{self.started_at:%Y%m%dT%H%M%SZ}.json"
        path.write_text(json.dumps(self.as_json(), indent=2) + "\n")
        if drawn := panels(self.benchmarks):
            path.with_suffix(".svg").write_text(bars.standalone(bars.svg(drawn, columns=COLUMNS)), encoding="utf-8")
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
