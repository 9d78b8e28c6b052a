"""`leads bench --quick` measures every contender and writes it down. No time and no ratio is asserted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lab.bench.capture import ARRAYS, OVERLOAD, SINGLE
from pipeline.lab.bench.page import browser_path
from pipeline.lab.bench.peers import PLAIN_COPY, PLAIN_ROWS, QUIX, QUIX_BYTES, QUIX_ROWS, STREAMS
from pipeline.lab.bench.postgresql import OURS_QUIX_TABLE
from pipeline.lab.bench.result import OURS, STOCK, STOCK_TAKE
from pipeline.lab.bench.run import BENCHMARKS
from pipeline.lab.bench.scaleout import ONE, TWO
from pipeline.lab.bench.sink import CONTENDERS
from pipeline.lab.bench.sizes import QUICK
from tests.integration.installation import ROOT

#: Without a JDK one contender is left out, with a sentence.
HAS_JDK = shutil.which("javac") is not None
HAS_BROWSER = browser_path() is not None
MANY, FEW = (f"{keys:,} known keys" for keys in (QUICK.recovery_ours, QUICK.growth_few))
ORDERS = {
    "dedupe": (OURS, QUIX, QUIX_BYTES, *([STREAMS] if HAS_JDK else []), PLAIN_COPY, STOCK, STOCK_TAKE),
    "path": (OURS, STOCK, STOCK_TAKE),
    "postgresql": (OURS, OURS_QUIX_TABLE, QUIX_ROWS, PLAIN_ROWS),
    "sink": CONTENDERS,
    "recovery": (OURS, STOCK),
    "growth": (MANY, FEW),
    "scaleout": (ONE, TWO),
    "capture": (SINGLE, ARRAYS, OVERLOAD),
    "page": (),
    "latency": (OURS,),
    "failover": (),
}
FIGURES = {
    "recovery": (
        f"rate of {OURS}",
        f"ready with {QUICK.recovery_ours:,} keys on its disk, after SIGTERM",
        f"ready with {QUICK.recovery_ours:,} keys on its disk, after SIGKILL",
    ),
    "growth": (f"peak RSS, {MANY}", f"idle worker, {MANY}"),
    "scaleout": ("processor time for a lead, two to one",),
}


#: These have every kind of part: peers, HTTP, a table, figures. All of them take 8 minutes of two cores.
ALWAYS = ("dedupe", "capture", "recovery")
ALL = pytest.mark.skipif("BENCHMARKS" not in os.environ, reason="with BENCHMARKS=all only: all of them take long")


@pytest.mark.timeout(600)  # a hang only
@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ALWAYS else ALL) for name in BENCHMARKS])
def test_a_quick_run_measures_every_contender_and_leaves_nothing_but_its_report(tmp_path: Path, name: str) -> None:
    temporary, data = tmp_path / "tmp", tmp_path / "var"
    temporary.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", "--quick", name], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**environ, "LEADS_DATA_DIR": str(data), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (data / "bench").glob("*.json")
    ((measured, found),) = json.loads(path.read_text())["benchmarks"].items()
    assert measured == name
    assert f"{name}: " in done.stdout
    assert [run["contender"] for run in found["runs"]] == list(ORDERS[name]), found["left_out"]
    left_out = {"dedupe": not HAS_JDK, "page": not HAS_BROWSER}
    assert len(found["left_out"]) == left_out.get(name, False)
    named = [figure["name"] for figure in found["figures"]]
    assert named == list(FIGURES.get(name, named))
    assert all(min(figure["values"]) > 0 for figure in found["figures"])
    for run in found["runs"]:
        assert run["rate"] > 0
        assert run["peak_rss_mib"] > 0
        assert run["results"] == run["expected"], run
    assert list(temporary.iterdir()) == []
