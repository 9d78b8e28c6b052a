"""A PostgreSQL of our own, in a directory of its own, for tests and the benchmark."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded import family
from pipeline.embedded import process as processes
from pipeline.embedded.account import Account, unprivileged
from pipeline.embedded.errors import BrokerError, PostgresError
from pipeline.embedded.postgres_programs import find_programs
from pipeline.embedded.postgres_storage import DATABASE, PASSWORD_FILE, STORAGE, USER, create_storage, reachable

__all__ = ["Postgres"]

_PID_FILE = "postmaster.pid"
_LOG_LINES = 25
# A killed process that is writing to a slow disk ends when that is done.
_KILL_TIMEOUT_S = 30.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    # So that a killed server leaves nothing behind but in its directory: with the default it would be in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
}


class Postgres:
    """A PostgreSQL that listens on 127.0.0.1, with one user and one database, both called `leads`.

    It dies with the process that started it. As PostgreSQL comes, what it confirmed survives a loss of power.

    Started by root, which PostgreSQL refuses, it runs as `postgres` or `nobody`.

    Args:
        directory: where it keeps everything: databases, password, log. One server at a time.
        port: its TCP port.
        settings: server settings, by name, such as `{"shared_buffers": "128MB"}`; they override ours.
    """

    def __init__(self, directory: Path, *, port: int, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port
        self.settings = {**_SETTINGS, "port": str(port), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address with user, password and database. The first start in its directory makes the password.

        Raises:
            PostgresError: there was no start yet.
        """
        try:
            password = (self.directory / PASSWORD_FILE).read_text().strip()
        except FileNotFoundError:
            raise PostgresError(f"{self.directory} has no password yet; start PostgreSQL there first.") from None
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, the parent of its other processes; None when it does not live."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the server lives (also when it is paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_file(self) -> Path:
        """What it has logged since its last start."""
        return self.directory / "postgres.log"

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the server; returns when it accepts connections, at most `timeout_s` after its process was started.

        The first start in a directory makes the databases before that (1 to 2 s).

        Raises:
            PostgresError: the directory or the port is in use, PostgreSQL cannot be had, it is called outside the main
                thread on Linux, or the server does not come up (with the last lines of its log).
        """
        if self.running:
            raise PostgresError(f"This PostgreSQL already runs as process {self.pid}; stop it first.")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._launch(unprivileged("postgres"))
        except OSError as error:
            why = error.strerror or str(error)
            raise PostgresError(f"PostgreSQL cannot be set up in {self.directory} ({why}).") from error
        except BrokerError as error:
            raise PostgresError(str(error), status=error.status) from error
        self._wait_ready(timeout_s)

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Stop in order and end all connections, or by force after `timeout_s`; may be called again."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)
            self.resume()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End all its processes with SIGKILL, as a crash would; returns when they are gone.

        Raises:
            PostgresError: one of them still lives after 30 s.
        """
        if self._process is None:
            return
        family.kill(self._process)
        # Each of them has inherited the lock. With the last one the port and the shared memory are free as well.
        lock = self._lock()
        if not lock.try_acquire(_KILL_TIMEOUT_S):
            raise PostgresError(f"A process of the PostgreSQL in {self.directory} does not end; is its disk stuck?")
        lock.release()

    def pause(self) -> None:
        """Freeze all its processes: connections stay open, nothing is answered.

        Should this process be killed before it calls `resume`, the frozen ones stay.
        """
        if self._process is not None:
            family.pause(self._process)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self._process is not None:
            family.resume(self._process)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _lock(self) -> processes.DirectoryLock:
        return processes.DirectoryLock(self.directory / "lock")

    def _launch(self, account: Account) -> None:
        programs = find_programs(account)
        lock = self._lock()
        if not lock.try_acquire():
            raise PostgresError(
                f"Another PostgreSQL{lock.owner} uses {self.directory}; stop it, or give another directory.",
                status=os.EX_CONFIG,
            )
        try:
            self._require_port()
            create_storage(self.directory, programs, account, [lock.fileno()])
            # Left by a killed server. The lock says that nobody uses the directory; PostgreSQL only asks whether there
            # is a process of that number, which is so until somebody has taken note of its end.
            (self.directory / STORAGE / _PID_FILE).unlink(missing_ok=True)
            self._process = self._spawned(programs, account, lock)
            lock.hand_over(self._process.pid)
        finally:
            lock.release()

    def _require_port(self) -> None:
        if not processes.settles(partial(processes.port_is_free, self.port)):
            raise PostgresError(
                f"Port {self.port} of 127.0.0.1 is taken; stop what listens there, or give a free port.",
                status=os.EX_CONFIG,
            )

    def _spawned(self, programs: Path, account: Account, lock: processes.DirectoryLock) -> subprocess.Popen[bytes]:
        settings = [f"--{name}={value}" for name, value in self.settings.items()]
        with reachable(self.directory / STORAGE, account) as (name, descriptors):
            return processes.spawn(
                [programs / "postgres", "-D", name, *settings],
                cwd=Path("/"),
                output=self.log_file,
                lock=lock,
                account=account,
                inherited=descriptors,
            )

    def _wait_ready(self, timeout_s: float) -> None:
        try:
            if not processes.settles(lambda: self._ready() or not self.running, timeout_s):
                raise self._failed(f"PostgreSQL does not accept connections after {timeout_s:g} s.")
            if self._process is not None and not self.running:
                raise self._failed(f"PostgreSQL ended with status {self._process.returncode}.")
        except BaseException:
            self.kill()
            raise

    def _ready(self) -> bool:
        """Whether the server has noted that it accepts connections: its process id in line 1, its state in line 8."""
        try:
            lines = (self.directory / STORAGE / _PID_FILE).read_text().split("\n")
        except FileNotFoundError:
            return False
        return lines[0] == str(self.pid) and len(lines) > 7 and lines[7].strip() == "ready"

    def _failed(self, what: str) -> PostgresError:
        end_of_log = "\n".join(self.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        return PostgresError(f"{what} The end of its log ({self.log_file}):\n{end_of_log}")
