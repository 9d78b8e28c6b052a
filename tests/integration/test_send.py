"""`leads send` to real workers: what is in the file is in the CRM, once, whatever happens meanwhile."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import topics
from tests.integration.installation import ROOT, Installation, Worker, leads, wait_until

pytestmark = pytest.mark.integration

SAMPLE = ROOT / "tests" / "leads-1000.jsonl"


def send(worker: Worker, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pipeline", "send", "--url", worker.url, *args]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, check=False)


def sample() -> list[dict[str, Any]]:
    found = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    return [{"tenant": "default", **one} for one in found]


def test_the_sample_sent_twice_is_900_rows(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    said = b"1,000 leads accepted (900 different message ids), 0 lines refused.\n"
    done = send(worker, str(SAMPLE))
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    installation.assert_once(sample())
    assert len(installation.rows()) == 900
    done = send(worker, "-", stdin=gzip.compress(SAMPLE.read_bytes()))
    assert (done.returncode, done.stdout, done.stderr) == (0, said, b"")
    installation.assert_once(sample())
    assert len(installation.rows()) == 900
    assert installation.dead_letters() == []
    assert [one["message_id"] for one in sample() if one.get("email", "-@-") in worker.text()] == []


def test_csv_without_ids_sent_twice_adds_nothing(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";")
    writer.writerow(["E-Mail", "Name", "Captured at", "Budget"])
    writer.writerows((f"n{n}@example.com", "Zoë", "" if n % 2 else "2026-01-31T12:00:00+01:00", n) for n in range(300))
    for _ in range(2):
        done = send(worker, "-", stdin=out.getvalue().encode())
        assert (done.returncode, done.stderr) == (0, b"")
    installation.wait(installation.drained)
    assert len(installation.records(topics.CAPTURED)) == 600
    assert len(installation.records(topics.ACCEPTED)) == 300
    assert len(installation.rows()) == 300
    assert installation.dead_letters() == []


def test_it_goes_on_through_the_death_and_restart_of_the_worker(installation: Installation, tmp_path: Path) -> None:
    first = installation.worker().wait_ready()
    sent = leads(20_000)
    lines = [json.dumps(one).encode() + b"\n" for one in sent]
    said = tmp_path / "said"
    with said.open("wb") as err:
        sending = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "send", "--url", first.url, "-"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err,
        )  # fmt: skip
    assert sending.stdin is not None
    assert sending.stdout is not None
    stdin = sending.stdin

    def rest() -> None:
        for line in lines[5000:]:
            stdin.write(line)
        stdin.close()

    stdin.writelines(lines[:5000])
    stdin.flush()
    installation.wait_rows(1)
    writing = threading.Thread(target=rest)
    writing.start()
    first.kill()
    wait_until(lambda: "Trying again" in said.read_text() or sending.poll() is not None, said.read_text)
    second = installation.worker(port=first.port)
    out = sending.stdout.read()
    writing.join()
    assert sending.wait() == 0, said.read_text()
    assert out == b"20,000 leads accepted (20,000 different message ids), 0 lines refused.\n"
    assert said.read_text().endswith("accepts leads again.\n")
    assert second.process.poll() is None
    installation.assert_once(sent)
    assert installation.dead_letters() == []


def test_a_broker_that_is_away_costs_nothing(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    installation.broker.kill()
    command = [sys.executable, "-m", "pipeline", "send", "--url", worker.url, str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Trying again" not in done.stderr
    assert installation.rows() == []
    installation.broker.start()
    installation.assert_once(sample())
    assert len(installation.rows()) == 900
    assert installation.dead_letters() == []


def test_the_port_of_the_broker_is_that_of_no_worker(installation: Installation) -> None:
    url = f"http://127.0.0.1:{installation.broker.port}"
    command = [sys.executable, "-m", "pipeline", "send", "--url", url, str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith(f"Error: {url}/leads speaks no HTTP: it is a Kafka broker")
