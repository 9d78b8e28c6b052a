"""A process that the lab starts, breaks and measures, seen from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from pipeline.parent_death import die_with_parent

__all__ = ["LabError", "Process", "Program"]

#: A program may take that long to stop in order; it is killed then.
STOP_MAX_S = 10.0
LOG_LINES = 30

_ROOT = Path(__file__).resolve().parents[2]
#: Variables of this process that a program does not inherit.
_OURS = ("LEADS_", "BENCH_", "LAB_")
_MIB = 1024 * 1024


class LabError(RuntimeError):
    """A run of the lab could not be made, or its result is wrong; the text says what."""


class Process:
    """A process of its own. Leaving its context ends it. Start it in the main thread: on Linux it dies with the thread
    that started it.

    Args:
        command: the program and its arguments.
        environ: its `LEADS_*`, `BENCH_*` and `LAB_*` variables; those of this process are not inherited.
        log: where its output goes, behind what is there.
    """

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        inherited = {n: v for n, v in os.environ.items() if not n.lstrip("_").startswith(_OURS)}
        with log.open("ab") as out:
            self.started_s = time.monotonic()
            # When the lab is killed: without its broker a program would wait for ever.
            self._process = subprocess.Popen(
                list(command), cwd=_ROOT, env={**inherited, **environ}, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True, preexec_fn=die_with_parent(signal.SIGKILL),
            )  # fmt: skip
        self._seen = psutil.Process(self._process.pid)
        self._cpu_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; None while it lives."""
        return self._process.poll()

    def check(self) -> None:
        """Raise `LabError`, with the end of its log, when it has ended."""
        if self.status is not None:
            raise LabError(f"The worker ended with status {self.status}:\n{self.last_lines()}")

    @property
    def cpu_s(self) -> float:
        """Processor seconds so far, in user and kernel mode; of one that has ended, as of the last look before."""
        try:
            times = self._seen.cpu_times()
        except psutil.NoSuchProcess:
            return self._cpu_s
        self._cpu_s = max(self._cpu_s, float(times.user + times.system))
        return self._cpu_s

    @property
    def peak_rss_mib(self) -> float:
        """The most memory that it ever had resident, in MiB; where only the present is known (macOS), that."""
        status = Path(f"/proc/{self.pid}/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return float(self._seen.memory_info().rss / _MIB)

    def last_lines(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        _ = self.cpu_s  # the last look
        self._process.kill()
        self._process.wait()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM); returns at once."""
        _ = self.cpu_s  # the last look
        self._process.terminate()

    def pause(self) -> None:
        """Freeze it (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM, SIGKILL when that takes too long; returns its exit status."""
        if self.status is None:
            _ = self.cpu_s  # the last look
            self._process.terminate()
            self.resume()  # paused, it would not see it
        try:
            return self._process.wait(STOP_MAX_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        except BaseException:
            self._process.kill()
            raise
        return self._process.wait()


class Program(Process):
    """A Python module in a process of its own.

    Args:
        module: with its arguments, as after `python -m`.
        environ, log: as those of `Process`.
    """

    def __init__(self, module: Sequence[str], environ: Mapping[str, str], log: Path) -> None:
        super().__init__([sys.executable, "-m", *module], environ, log)
