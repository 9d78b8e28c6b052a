"""`leads chaos` with faults of every kind that this machine allows, both guarantees; and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.lab import installation
from pipeline.lab.chaos import run
from pipeline.lab.chaos_report import ChaosPlan
from pipeline.lab.small_disk import SmallDisk
from pipeline.lab.verdict import Kind
from tests.integration.children import ended
from tests.integration.installation import ROOT

#: A hang only: a run takes a minute and a half on two processors that nobody else uses.
PATIENCE_S = 600


@contextmanager
def chaos(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`leads chaos` with its reports in `directory`; its output is to be read."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    (directory / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "chaos", *options], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**environ, "LEADS_DATA_DIR": str(directory), "TMPDIR": str(directory / "tmp"), "COLUMNS": "120"},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize(
    "seed, guarantee, database, nodes, faults",
    [
        (
            7, "at-least-once", "sqlite", 1,
            "kill-worker,pause-worker,wipe-state,kill-broker,stop-database,disk-full,kill-database",
        ),
        (
            11, "exactly-once", "postgresql", 3,
            "pause-worker,rebalance,kill-leader,stop-database,kill-database,slow-network",
        ),
    ],
)  # fmt: skip
def test_every_lead_is_in_the_crm_once(
    tmp_path: Path, seed: int, guarantee: str, database: str, nodes: int, faults: str
) -> None:
    options = {
        "seed": seed, "minutes": 1.1, "rate": 150, "guarantee": guarantee, "database": database, "nodes": nodes,
        "faults": faults, "keep": tmp_path / "kept",
    }  # fmt: skip
    with chaos(tmp_path, *(f"--{name}={value}" for name, value in options.items())) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    report = json.loads(next((tmp_path / "chaos").iterdir()).read_text())
    verdict = report["verdict"]
    assert verdict["is_clean"]
    assert not any(verdict["violations"].values())
    counts = verdict["counts"]
    assert counts["rows"] + counts["dead letters"] == counts["leads"] > 1000
    assert counts["ok"] > counts["leads"]
    assert counts["dead letters"] > 0
    assert report["looks_during_the_run"]["records"] > 0
    # What this machine does not allow is said, and everything else was run and has healed.
    assert report["not_run"].keys() == {
        *({"kill-database"} if database == "sqlite" else ()),
        *({"disk-full"} if "disk-full" in faults and SmallDisk.unfit() else ()),
    }
    assert [one["planned"] for one in report["faults"]] != []
    assert all(one["is_healed"] for one in report["faults"])
    assert {one["name"] for one in report["schedule"]} <= set(faults.split(",")) - report["not_run"].keys()


def test_a_worker_that_commits_what_it_was_only_handed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "APP", "tests.integration.faulty.early")
    plan = ChaosPlan(
        seed=3, minutes=0.5, faults=("kill-worker",), guarantee="at-least-once", database="sqlite", nodes=1, workers=2,
        rate=150, leads=None,
    )  # fmt: skip
    (tmp_path / "run").mkdir()
    verdict = run(plan, tmp_path / "run", say=lambda line: None, show=lambda seconds, count: None).verdict
    assert verdict.violations[Kind.LOST] > 0
    assert verdict.violations[Kind.AHEAD] > 0


QUICK = ("--nodes=1", "--database=sqlite", "--workers=1", "--rate=50", "--faults=kill-worker", "--minutes=5")


class TestNothingStaysBehind:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_when_it_is_stopped(self, tmp_path: Path, number: int) -> None:
        with chaos(tmp_path, *QUICK) as process, descendants(process, "kill-worker (1 of") as descriptors:
            process.send_signal(number)
            output, _ = process.communicate()
            assert process.returncode == 130, output
            assert "Traceback" not in output
            assert all(ended(descriptor, 0.0) for descriptor in descriptors)
        assert list((tmp_path / "tmp").iterdir()) == []

    def test_when_it_is_killed(self, tmp_path: Path) -> None:
        with chaos(tmp_path, *QUICK) as process, descendants(process, "kill-worker (1 of") as descriptors:
            process.kill()
            process.wait()
            assert all(ended(descriptor, 20.0) for descriptor in descriptors)


@contextmanager
def descendants(process: subprocess.Popen[str], line: str) -> Iterator[list[int]]:
    """Descriptors of all that the process has started, when it has printed `line`."""
    assert process.stdout is not None
    printed = []
    for text in process.stdout:
        printed.append(text)
        if line in text:
            break
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) >= 2, "".join(printed)  # the broker and the load at least: the worker may just have been killed
    descriptors = [os.pidfd_open(one.pid) for one in found]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
