"""One Kafka broker of our own, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded import process as processes
from pipeline.embedded.config import LOG_FILE, Extra, jvm_flags, log4j2_properties, server_properties
from pipeline.embedded.errors import NO_SPACE, BrokerError, disk_error
from pipeline.embedded.jars import fetch_jars
from pipeline.embedded.java import find_java
from pipeline.embedded.probe import metadata
from pipeline.embedded.storage import cluster_id, format_storage, write_properties

__all__ = ["Broker"]

_SETTINGS_FILE = "server.properties"
_LOGGING_FILE = "log4j2.properties"
_LOG_LINES = 25
_START_MAX_S = 1800.0
# A disk with less free is full: Kafka cannot begin a segment there.
_FULL_BYTES = 1_000_000


class _Patience:
    """With a broker that starts: as long as it logs something new, and `_START_MAX_S` at most.

    Killed with many records it first reads them all again. Who kills it for that gets the same once more.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._started_s = self._moved_s = time.monotonic()
        self._logged_bytes = 0

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self._started_s

    def is_over(self, logged_bytes: int) -> bool:
        now_s = time.monotonic()
        if logged_bytes != self._logged_bytes:
            self._logged_bytes, self._moved_s = logged_bytes, now_s
        return now_s - self._moved_s > self._timeout_s or now_s - self._started_s > _START_MAX_S


class Broker:
    """An Apache Kafka, broker and controller in one JVM, listening on 127.0.0.1.

    It dies with the process that started it. What it acknowledged survives killed processes, not a loss of power.

    Args:
        data_dir: where it keeps everything: records, log, settings. One broker at a time.
        port: its TCP port.
        heap_mb: upper limit of the JVM's heap in MiB; the process takes about 100 more.
        full_jit: also compile with the optimising compiler: more throughput and memory; for benchmarks.
        node_id: its number in the cluster.
        voters: controller ports of all nodes of its cluster by node id; None: it is alone.
        extra: what tests need besides.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 9092,
        heap_mb: int = 256,
        full_jit: bool = False,
        node_id: int = 1,
        voters: Mapping[int, int] | None = None,
        extra: Extra | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.heap_mb = heap_mb
        self.full_jit = full_jit
        self.node_id = node_id
        self._voters = voters
        self._extra = extra or Extra()
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @property
    def url(self) -> str:
        """Its address, such as `kafka://127.0.0.1:9092`."""
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The process id of the JVM, or None when it does not live: the number may be somebody else's then."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the JVM lives (also when it is paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """How the JVM ended, negative for a signal; None while it lives or when it was never started."""
        return self._process.poll() if self._process else None

    @property
    def log_file(self) -> Path:
        """Kafka's log."""
        return self.data_dir / LOG_FILE

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start the broker; returns when it serves Kafka requests. It may do nothing to be seen for `timeout_s`.

        The first start on a machine fetches Kafka before that (50 MB); the first in a directory formats it (1 s).

        Raises:
            BrokerError: the directory or the port is in use, Java or Kafka cannot be had, it is called outside the main
                thread on Linux, or the broker does not come up (with the last lines of its log).
        """
        self.launch()
        self.wait_ready(timeout_s=timeout_s)

    def launch(self) -> None:
        """The first half of `start`: start the JVM and return.

        Raises:
            BrokerError: as `start`.
        """
        if self.running:
            raise BrokerError(f"This broker already runs as process {self.pid}; stop it first.")
        java = find_java().path
        jars = fetch_jars()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._launch(java, jars)
        except OSError as error:
            raise disk_error(self.data_dir, error.strerror or str(error)) from error

    def _launch(self, java: Path, jars: Sequence[Path]) -> None:
        lock = processes.DirectoryLock(self.data_dir / "lock")
        lock.acquire()
        try:
            self._require_ports()
            self._write_settings()
            command = self._command(java, jars)
            format_storage(command, self.data_dir, _SETTINGS_FILE, self._extra.format_args)
            self._log_start_bytes = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._process = processes.spawn(
                [*command, "kafka.Kafka", _SETTINGS_FILE], cwd=self.data_dir, output=self._output, lock=lock
            )
            lock.hand_over(self._process.pid)
        finally:
            lock.release()

    def wait_ready(self, *, nodes: int = 1, timeout_s: float = 60.0) -> None:
        """The second half of `start`: return when the broker serves, and knows at least `nodes` live nodes.

        Raises:
            BrokerError: it does not come up, and has logged nothing for `timeout_s`; it is killed then.
        """
        expected_id = cluster_id(self.data_dir)
        patience = _Patience(timeout_s)
        try:
            while not self._serves(expected_id, nodes):
                if not self.running:
                    raise self._failed(f"The broker ended with status {self.returncode}.")
                if patience.is_over(self._logged_bytes()):
                    raise self._failed(f"The broker does not serve after {patience.waited_s:.0f} s.")
                time.sleep(0.05)  # a socket that is not there yet cannot be awaited
        except BaseException:
            self.kill()
            raise

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end of the JVM, however it comes, and return its status.

        Raises:
            TimeoutError: it still lives after `timeout_s`.
            BrokerError: it was never started.
        """
        if self._process is None:
            raise BrokerError("The broker was not started.")
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"The broker still runs after {timeout_s} s.") from None

    def stop(self, *, timeout_s: float = 8.0) -> None:
        """Stop in order, or by force after `timeout_s`; may be called again."""
        if self._process is not None:
            processes.stop(self._process, timeout_s)

    def request_stop(self) -> None:
        """The first half of `stop`: ask the broker to stop and return."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # paused, it would not see it

    def kill(self) -> None:
        """End it with SIGKILL; returns when it is gone."""
        if self._process is not None:
            processes.kill(self._process)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused broker go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def failed(self, what: str) -> BrokerError:
        """The error for a broker that ended by itself or does not come up: a full disk, or else `what`."""
        # Not only what it logged: on a full disk there is no log either.
        if NO_SPACE in self._log_of_this_run() or shutil.disk_usage(self.data_dir).free < _FULL_BYTES:
            return disk_error(self.data_dir, NO_SPACE)
        return BrokerError(what)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _output(self) -> Path:
        return self.data_dir / "jvm.out"

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _require_ports(self) -> None:
        for port in filter(None, [self.port, (self._voters or {}).get(self.node_id)]):
            if not processes.settles(partial(processes.port_is_free, port)):
                raise BrokerError(
                    f"Port {port} of 127.0.0.1 is taken, perhaps by another broker; stop what listens there, or set "
                    "LEADS_BROKER_PORT to a free port (LEADS_BROKER_URL, if that is the broker to use).",
                    status=os.EX_CONFIG,
                )

    def _write_settings(self) -> None:
        voters = self._voters or {self.node_id: processes.free_port(taken=[self.port])}
        settings = server_properties(node_id=self.node_id, port=self.port, voters=voters)
        write_properties(self.data_dir / _SETTINGS_FILE, self._extra.added_to(settings))
        write_properties(self.data_dir / _LOGGING_FILE, log4j2_properties())

    def _command(self, java: Path, jars: Sequence[Path]) -> list[str | Path]:
        flags = jvm_flags(self.data_dir, heap_mb=self.heap_mb, full_jit=self.full_jit, logging=_LOGGING_FILE)
        return [java, *flags, "-cp", os.pathsep.join(map(str, jars))]

    def _serves(self, expected_id: str, nodes: int) -> bool:
        answer = metadata(self.port)
        if answer is None or self.node_id not in answer.nodes or len(answer.nodes) < nodes:
            return False
        return answer.cluster_id == expected_id

    def _failed(self, what: str) -> BrokerError:
        end_of_log = "\n".join(self._log_of_this_run().splitlines()[-_LOG_LINES:])
        return self.failed(f"{what} The end of its log ({self.log_file}):\n{end_of_log}")

    def _logged_bytes(self) -> int:
        return sum(file.stat().st_size for file in (self.log_file, self._output) if file.exists())

    def _log_of_this_run(self) -> str:
        """What this run has logged, and what the JVM itself has to say."""
        logged = self.log_file.read_bytes() if self.log_file.exists() else b""
        if len(logged) >= self._log_start_bytes:  # else the file was begun anew since
            logged = logged[self._log_start_bytes :]
        return (logged + self._output.read_bytes()).decode(errors="replace")
