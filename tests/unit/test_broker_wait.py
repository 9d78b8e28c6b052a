"""A worker that waits for its broker, in a process of its own: what it imports is one app with the settings of that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WORKER = """
import asyncio, gc, logging
from pathlib import Path
from pipeline import app as waiting
from pipeline.kafka import CannotConnect

Path("var").mkdir()
Path("var/cluster-id").write_text("a cluster")  # so that it captures while it waits
waiting.CAPTURE_AFTER_S = 3600.0

async def main():
    asked, answered = asyncio.Event(), asyncio.Event()

    async def ask():
        asked.set()
        await answered.wait()
        raise CannotConnect("no, and never", status=78)

    waiting._ask_broker = ask
    worker = asyncio.create_task(waiting._wait_for_broker())
    await asked.wait()
    {stop}
    answered.set()
    try:
        await worker
    except (CannotConnect, asyncio.CancelledError) as error:
        print(type(error).__name__)
    for _ in range(3):
        await asyncio.sleep(0)
    del worker
    gc.collect()

logging.basicConfig()
asyncio.run(main())
"""


def said(directory: Path, stop: str) -> str:
    """What a worker says that is stopped in this way while it waits for an answer, which is a refusal."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    return subprocess.run(
        [sys.executable, "-c", WORKER.replace("{stop}", stop)], cwd=directory, env=environ, timeout=60, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ).stdout  # fmt: skip


def test_a_refusal_ends_it(tmp_path: Path) -> None:
    assert said(tmp_path, "pass") == "CannotConnect\n"


def test_one_that_is_stopped_meanwhile_says_nothing(tmp_path: Path) -> None:
    assert said(tmp_path, "worker.cancel()") == "CancelledError\n"
