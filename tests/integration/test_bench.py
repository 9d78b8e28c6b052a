"""`leads bench --quick` measures every contender and writes it down. No time and no ratio is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lab.bench.capture import ARRAYS, SINGLE
from pipeline.lab.bench.result import OURS, STOCK, STOCK_TAKE
from pipeline.lab.bench.run import BENCHMARKS
from pipeline.lab.bench.sink import CONTENDERS
from tests.integration.installation import ROOT

#: Who runs, where it is not us and stock Faust in both ways.
RUNS = {
    "sink": CONTENDERS,
    "recovery": (OURS, STOCK),
    "capture": (SINGLE, ARRAYS),
    "latency": (OURS,),
    "failover": (),
}


@pytest.mark.timeout(600)  # a hang only
@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_a_quick_run_measures_every_contender_and_leaves_nothing_but_its_report(tmp_path: Path, name: str) -> None:
    temporary, data = tmp_path / "tmp", tmp_path / "var"
    temporary.mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "bench", "--quick", name], cwd=ROOT, capture_output=True, text=True,
        check=False, env={**environ, "LEADS_DATA_DIR": str(data), "TMPDIR": str(temporary)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (data / "bench").iterdir()
    ((measured, found),) = json.loads(path.read_text())["benchmarks"].items()
    assert measured == name
    assert f"{name}: " in done.stdout
    order = RUNS.get(name, (OURS, STOCK, STOCK_TAKE))
    assert [run["contender"] for run in found["runs"]] == list(order)
    for run in found["runs"]:
        assert run["rate"] > 0
        assert run["peak_rss_mib"] > 0
    assert [(run["results"], run["expected"]) for run in found["runs"][:1] if run["results"] != run["expected"]] == []
    assert all(min(figure["values"]) > 0 for figure in found["figures"])
    assert list(temporary.iterdir()) == []
