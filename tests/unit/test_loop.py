"""A worker runs on uvloop, and so does its consumer's thread, unless the command line says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio
from mode.utils.loops import get_event_loop
from pipeline.app import app
app._modules = ()
app.worker_init()
print(type(get_event_loop()).__module__, type(asyncio.new_event_loop()).__module__)
"""


@pytest.mark.parametrize("given,module", [((), "uvloop"), (("-L", "aio"), "asyncio.unix_events")])
def test_the_loop(given: tuple[str, ...], module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LEADS_", "FAUST_"))}
    run = [sys.executable, "-c", SCRIPT, *given]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [module, module]
