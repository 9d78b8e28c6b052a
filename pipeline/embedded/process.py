"""A server process that belongs to us: it dies with us, holds the lock of its directory, and is stopped in order."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import IO

from pipeline.embedded.account import Account
from pipeline.embedded.errors import BrokerError
from pipeline.parent_death import die_with_parent

__all__ = ["DirectoryLock", "free_port", "kill", "port_is_free", "settles", "spawn", "stop"]


# The kernel gives ports above 32767 to outgoing connections: one of those could be gone before the server has it.
_PORTS = range(15000, 32768)

# A killed parent takes its server along, but not in the same instant. So long, in seconds, a lock or a port may stay
# taken before it counts as somebody else's.
_ORPHAN_EXIT_MAX_S = 2.0


def free_port(taken: Collection[int] = ()) -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now, and that is none of `taken`.

    Raises:
        BrokerError: none was found in a hundred attempts.
    """
    for port in random.sample(_PORTS, 100):
        if port not in taken and port_is_free(port):
            return port
    raise BrokerError("Of a hundred ports of 127.0.0.1 none is free; give a port.")


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as server:
        # As the JVM does it: connections of a former server that are still closing are in nobody's way.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
            server.listen()
        except OSError:
            return False
    return True


class DirectoryLock:
    """The lock of a data directory. The server inherits it, so it is held exactly as long as somebody uses the data."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BrokerError: another server has it.
        """
        if not self.try_acquire():
            raise BrokerError(
                f"Another broker{self.owner} uses the data directory {self.path.parent}; "
                "stop it, or set LEADS_DATA_DIR to another directory.",
                status=os.EX_CONFIG,
            )

    def try_acquire(self, within_s: float = _ORPHAN_EXIT_MAX_S) -> bool:
        """Whether the lock could be taken in time."""
        file = self.path.open("a+")
        if not settles(lambda: _try_lock(file), within_s):
            file.close()
            return False
        self._file = file
        return True

    @property
    def owner(self) -> str:
        """Who has it, to be put into a sentence: " (process 123)", or nothing when that is not known."""
        noted = self.path.read_text().strip()
        return f" (process {noted})" if noted else ""

    def fileno(self) -> int:
        """The descriptor that the server is to inherit."""
        assert self._file is not None
        return self._file.fileno()

    def hand_over(self, server_pid: int) -> None:
        """Leave the lock to the server, which has inherited it, and note its process id for whoever finds it taken."""
        self.path.write_text(f"{server_pid}\n")
        self.release()

    def release(self) -> None:
        """Let go; a server that has inherited the lock keeps it."""
        if self._file is not None:
            self._file.close()
            self._file = None


def settles(check: Callable[[], bool], within_s: float = _ORPHAN_EXIT_MAX_S) -> bool:
    """Whether `check` becomes true in time."""
    deadline_s = time.monotonic() + within_s
    while not check():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(0.02)
    return True


def spawn(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    output: Path,
    lock: DirectoryLock,
    account: Account | None = None,
    inherited: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a server that dies with this process.

    Args:
        args: program and arguments.
        cwd: its working directory.
        output: the file that its output goes to; it starts empty.
        lock: inherited by the server.
        account: the account that it runs as; None: that of this process.
        inherited: other descriptors that it is to have.

    Raises:
        BrokerError: not called in the main thread, or the program cannot be started.
    """
    if sys.platform == "linux" and threading.current_thread() is not threading.main_thread():
        raise BrokerError(
            "Start the server in the main thread: Linux ends it together with the thread that started it."
        )
    account = account or Account()
    with output.open("wb") as file:
        try:
            return subprocess.Popen(
                args,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C in a terminal goes to a whole process group; this one is ours to stop, after its clients.
                start_new_session=True,
                # Runs when the account is the new one already. It must: a change of account undoes what it does.
                # SIGKILL, because a server that is stopped (SIGSTOP) would not see anything else.
                preexec_fn=die_with_parent(signal.SIGKILL),
                pass_fds=[lock.fileno(), *inherited],
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )
        except OSError as error:
            raise BrokerError(f"Cannot start {args[0]}: {error}.") from error


def stop(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """SIGTERM, and SIGKILL after `timeout_s`; returns when the process is gone."""
    if process.poll() is None:
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a stopped process does not see the SIGTERM
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL; returns when the process is gone."""
    process.kill()
    process.wait()


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
