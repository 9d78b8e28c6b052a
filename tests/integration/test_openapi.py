"""`/openapi.json` is true of a real worker, and nothing that is sent makes it fail; its log is read afterwards."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.web.openapi import document
from tests.integration.asking import get
from tests.integration.hostile import flood
from tests.integration.installation import Installation, Worker

pytestmark = pytest.mark.integration

#: Of each operation and kind, right and wrong.
EXAMPLES = 25
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
COUNT = re.compile(r"Test cases:\s+([\d,]+)\s+generated", re.IGNORECASE)
HOSTILE = 5000


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with Installation(tmp_path_factory.mktemp("openapi")) as installation:
        yield installation.worker().wait_ready()


def test_every_operation_answers_as_described(worker: Worker, tmp_path: Path) -> None:
    assert get(worker, "/openapi.json") == (200, document())
    ran = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{worker.url}/openapi.json", "--checks", CHECKS,
            "--mode", "all", "--max-examples", str(EXAMPLES), "--phases", "fuzzing", "--generation-deterministic",
            "--no-color", "--workers", "2",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
    found = COUNT.search(ran.stdout)
    assert found, ran.stdout[-2000:]
    assert int(found[1].replace(",", "")) > 2 * EXAMPLES


def test_hostile_requests_do_no_harm(worker: Worker) -> None:
    statuses = asyncio.run(flood(worker.url, HOSTILE, seed=1))
    assert statuses.total() == HOSTILE
    assert {"200", "202", "400", "404", "405", "413", "415"} <= statuses.keys()
    assert worker.ready()
    assert "Traceback" not in worker.text()
