"""A worker process of a benchmark, seen from outside."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipeline.embedded import free_port

__all__ = ["BenchError", "Worker"]

#: A worker may take that long to stop in order; it is killed then.
STOP_MAX_S = 10.0
LOG_LINES = 30
PROBE_TIMEOUT_S = 5.0

_ROOT = Path(__file__).resolve().parents[2]
_PR_SET_PDEATHSIG = 1
_MIB = 1024 * 1024


class BenchError(RuntimeError):
    """A benchmark could not be run, or its result is wrong; the text says what."""


class Worker:
    """`faust -A <app> worker` in a process of its own. Leaving its context ends it.

    Args:
        app: the module of the app.
        environ: its `LEADS_*` and `BENCH_*` variables; those of this process are not inherited.
        log: where its output goes.
    """

    def __init__(self, app: str, environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.port = free_port()
        command = [sys.executable, "-m", "faust", "-A", app, "worker", "-l", "info", "-p", str(self.port)]
        inherited = {n: v for n, v in os.environ.items() if not n.lstrip("_").startswith(("LEADS_", "BENCH_"))}
        with log.open("wb") as out:
            self.started_s = time.monotonic()
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env={**inherited, **environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, preexec_fn=_die_with_parent(),
            )  # fmt: skip
        self._seen = psutil.Process(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raise `BenchError`, with the end of its log, when it has ended."""
        status = self._process.poll()
        if status is not None:
            raise BenchError(f"The worker ended with status {status}:\n{self.last_lines()}")

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far, in user and kernel mode."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    @property
    def peak_rss_mib(self) -> float:
        """The most memory that it ever had resident, in MiB; where only the present is known (macOS), that."""
        status = Path(f"/proc/{self._process.pid}/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return float(self._seen.memory_info().rss / _MIB)

    def ask(self, path: str) -> dict[str, Any] | None:
        """The JSON that its web server answers to a GET, whatever the status; None while nobody does."""
        # Not urllib: it would send this through the proxy of the environment.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            found: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return found

    def last_lines(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def stop(self) -> int:
        """SIGTERM, SIGKILL when that takes too long; returns its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            return self._process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        except BaseException:
            self._process.kill()
            raise
        return self._process.wait()


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux, what ends a worker when a benchmark is killed: without its broker it would wait for ever."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return in_child
