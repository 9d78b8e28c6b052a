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


def timeless(text: str) -> str:
    """Without what differs from run to run: times, and the number that the CRM gives."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|(?<=record )\d+", "…", text)


def run(script: str, directory: Path, environment: dict[str, str]) -> str:
    """What a script of the README prints."""
    script = script.replace(".venv/bin/python", sys.executable).replace(
        ".venv/bin/leads", f"{sys.executable} -m pipeline"
    )
    script = script.replace("tests/leads-1000.jsonl", str(ROOT / "tests/leads-1000.jsonl"))
    return subprocess.run(
        ["bash", "-euc", script], cwd=directory, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_first_example(installation: Installation, tmp_path: Path) -> None:
    port = free_port()
    shared = free_port(taken=[port, port + 1])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEADS_")},
        "LEADS_BROKER_URL": installation.broker.url,
        "LEADS_REPLICATION": "1",
        "LEADS_WEB_PORT": str(port),
        "LEADS_CAPTURE_PORT": str(shared),
        "PYTHONPATH": str(ROOT),
    }
    log = tmp_path / "up.log"
    with log.open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "up"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: "Ready, with 2 workers" in log.read_text() or up.poll() is not None, log.read_text)
        send, ask = blocks("example").replace(":6065", f":{shared}").split("sleep 2\n")
        sent = run(send, tmp_path, environment)
        installation.wait(installation.drained)  # what the reader waits two seconds for
        asked = run(ask, tmp_path, environment)
        receipts, summary = sent[: sent.rindex("}") + 1], sent[sent.rindex("}") + 1 :]
        assert receipts.count('{"message_id":"demo-1","tenant":"default","partition":') == 2
        assert timeless(summary + asked) == timeless(blocks("shown"))
        assert run(send, tmp_path, environment).endswith(summary)
        installation.wait(installation.drained)
        assert "(901, 901, " in run(ask, tmp_path, environment)
    finally:
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=15) == 0, log.read_text()
