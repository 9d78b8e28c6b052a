"""Python programs that a test starts and kills, and the end of processes that it did not start."""

from __future__ import annotations

import select
import subprocess
import sys


def python(code: str, *args: object) -> subprocess.Popen[str]:
    """A Python that runs `code`; its output is to be read."""
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(pidfd: int, timeout_s: float) -> bool:
    """Whether the process of this descriptor ends in time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
