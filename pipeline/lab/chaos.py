"""A chaos run from its plan to its report: an installation of its own, and no process of it stays behind."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pipeline.lab.chaos_report import ChaosPlan, Report
from pipeline.lab.chaos_run import SESSION_S, ChaosRun
from pipeline.lab.faults import unfit
from pipeline.lab.installation import Installation
from pipeline.lab.machine import machine
from pipeline.lab.schedule import schedule
from pipeline.lab.small_disk import SmallDisk

__all__ = ["run"]

#: Of the disk with the state of the workers, when it is to be filled.
DISK_MIB = 256

_ROOT = Path(__file__).resolve().parents[2]


def run(plan: ChaosPlan, directory: Path, *, say: Callable[[str], None], show: Callable[[float, int], None]) -> Report:
    """Make a run, and leave no process behind. Call it in the main thread.

    Args:
        plan: what it is to be.
        directory: for everything; exists, is empty, and is the caller's to remove.
        say: takes a line about what happens.
        show: takes the seconds since the load began and the leads that were accepted since.

    Raises:
        LabError: the run could not be made.
        BrokerError: brokers or database cannot be started.
        KeyboardInterrupt: Ctrl-C.
    """
    not_run = unfit(plan.faults, nodes=plan.nodes, database=plan.database)
    names = [name for name in plan.faults if name not in not_run]
    planned = schedule(plan.seed, plan.minutes * 60, names)
    for name, why in not_run.items():
        say(f"{name} is not run: {why}")
    for one in planned:
        say(f"planned at {one.at_s:6.1f} s: {one.name}")
    settings = {"LEADS_GUARANTEE": plan.guarantee, "LEADS_SESSION_TIMEOUT_S": f"{SESSION_S:g}"}
    installation = Installation(directory, nodes=plan.nodes, database=plan.database, **settings)
    # What matters is raised; the rest is about brokers that we have killed ourselves.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    started_at, started_s = datetime.now(UTC), time.monotonic()
    with _disk(installation.data_dir, "disk-full" in names) as disk, installation:
        chaos = ChaosRun(plan, planned, installation, disk, say, show)
        with asyncio.Runner() as runner:
            verdict = runner.run(chaos.run())
    return Report(
        plan, started_at, time.monotonic() - started_s, _commit(), _versions(), machine(), planned, not_run,
        chaos.inflicted, chaos.crew.ends, verdict, chaos.looks,
    )  # fmt: skip


@contextmanager
def _disk(path: Path, is_wanted: bool) -> Iterator[Path | None]:
    path.mkdir()
    if not is_wanted:
        yield None
        return
    disk = SmallDisk(path, DISK_MIB)
    disk.mount()
    try:
        yield path
    finally:
        disk.unmount()


def _commit() -> str:
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            ["git", "status", "--porcelain"], cwd=_ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" and changes" if changes.stdout.strip() else "")


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("faust-streaming", "mode-streaming", "aiokafka", "rocksdict", "asyncpg")}
