"""One process that the supervisor keeps: its output, its end and its signals."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from pipeline.parent_death import die_with_parent

__all__ = ["LINE_MAX_BYTES", "Child", "Ended"]

#: A longer line of output is passed on in pieces.
LINE_MAX_BYTES = 16_384

# How long to wait for the rest of a dead process's output, which a grandchild could keep open for ever.
_REST_OF_OUTPUT_S = 1.0


@dataclass(frozen=True)
class Ended:
    """A child came to its end: `status` is its exit status, or minus the number of the signal that killed it."""

    child: Child
    status: int
    uptime_s: float

    def __str__(self) -> str:
        how = f"status {self.status}" if self.status >= 0 else f"killed by {signal.Signals(-self.status).name}"
        return f"{self.child.name} ended ({how}) after {self.uptime_s:.1f} s"


class Child:
    """A process that can be started again and again under one name.

    Args:
        name: what its lines of output are prefixed with.
        command: program and arguments.
        environ: variables that it gets besides those of this process.
        say: called with each line of its output, from another thread.
    """

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self.name = name
        self.last_line = ""
        self._command = list(command)
        self._environ = dict(environ)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, also after the end; None before the first start."""
        return None if self._process is None else self._process.pid

    def start(self, on_end: Callable[[Ended], None]) -> None:
        """Start the process; call this in the main thread.

        Args:
            on_end: called once, from another thread, when the process has ended and its output has been passed on.

        Raises:
            OSError: the program cannot be started.
        """
        # stdin is nobody's, output goes through us, and a session of its own keeps a terminal's Ctrl-C away: it is for
        # us to say in which order things stop.
        self._process = process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        started_s = time.monotonic()
        assert process.stdout is not None
        output = threading.Thread(target=self._pass_on, args=[process.stdout], daemon=True)
        output.start()

        def wait() -> None:
            status = process.wait()
            uptime_s = time.monotonic() - started_s
            output.join(_REST_OF_OUTPUT_S)
            on_end(Ended(self, status, uptime_s))

        threading.Thread(target=wait, daemon=True).start()

    def terminate(self) -> None:
        """Ask the process to stop."""
        self._send(signal.SIGTERM)
        self._send(signal.SIGCONT)  # paused, it would not see the other one

    def kill(self) -> None:
        """End the process by force."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _pass_on(self, output: IO[bytes]) -> None:
        with output:
            while piece := output.readline(LINE_MAX_BYTES):
                line = piece.decode(errors="replace").rstrip("\r\n")
                self.last_line = line or self.last_line
                self._say(f"{self.name} | {line}")
