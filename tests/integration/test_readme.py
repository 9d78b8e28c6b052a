"""The README's first example gives what the README says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.installation import ROOT, Installation, free_port, wait_until

pytestmark = pytest.mark.integration


def blocks(marker: str) -> str:
    """The first code block after a marker."""
    text = (ROOT / "README.md").read_text().split(f"<!-- {marker} -->")[1]
    found = re.search(r"```\w*\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_first_example(installation: Installation, tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEADS_")},
        "LEADS_BROKER_URL": installation.broker.url,
        "LEADS_REPLICATION": "1",
        "LEADS_WEB_PORT": str(port),
    }
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "up"],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: "Ready, with 2 workers" in log.read_text() or up.poll() is not None, log.read_text)
        script = blocks("example").replace(":6066", f":{port}").replace(".venv/bin/python", sys.executable)
        shown = subprocess.run(
            ["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        assert shown.endswith(blocks("rows"))
        receipts = shown.removesuffix(blocks("rows"))
        assert receipts.count('{"message_id":"demo-1","tenant":"default","partition":') == 2
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=15) == 0, log.read_text()
