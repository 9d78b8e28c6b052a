"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

__all__ = ["fsync_ms", "machine"]

SAMPLE_FSYNCS = 200


def machine() -> dict[str, Any]:
    """The machine, as far as it matters for a rate."""
    return {
        "cpus": psutil.cpu_count(),
        "memory_mib": psutil.virtual_memory().total // 2**20,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_1min": psutil.getloadavg()[0],
    }


def fsync_ms(directory: Path) -> float:
    """What the disk takes to make a page durable, the median: it decides how fast a transaction per lead can be."""
    taken_s = []
    with (directory / "fsync").open("wb", buffering=0) as file:
        for _ in range(SAMPLE_FSYNCS):
            file.write(bytes(4096))
            started_s = time.perf_counter()
            os.fsync(file.fileno())
            taken_s.append(time.perf_counter() - started_s)
    return median(taken_s) * 1000
