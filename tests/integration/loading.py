"""A steady load on an installation, for the tests that break it meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline import topics
from tests.integration.installation import ROOT, Installation, Worker, lead

LOAD_PER_S = 2000


class Load:
    """Leads appended to a topic, a hundred at a time, until it is told to stop; to lead-captured every tenth twice."""

    def __init__(self, installation: Installation, topic: str = topics.CAPTURED) -> None:
        self._installation = installation
        self._topic = topic
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None
        self.sent: list[dict[str, Any]] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def wait_for(self, more: int) -> None:
        """Wait until `more` further leads are acknowledged."""
        wanted = len(self.sent) + more
        self._installation.wait(lambda: len(self.sent) >= wanted or not self._thread.is_alive())

    def _run(self) -> None:
        where = [*self._installation.bootstrap, self._topic]
        command = [sys.executable, "-m", "tests.integration.load", *where, str(LOAD_PER_S)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        threading.Thread(target=lambda: (self._stop.wait(), process.stdin and process.stdin.close())).start()
        for line in process.stdout:
            first, last = map(int, line.split())
            self.sent += [lead(f"load-{number:07d}") for number in range(first, last)]
        if process.wait() != 0:
            self._error = AssertionError(f"the load generator ended with {process.returncode}")


@contextmanager
def loaded(
    installation: Installation, workers: int = 2, topic: str = topics.CAPTURED
) -> Iterator[tuple[Load, list[Worker]]]:
    """Workers, ready, with load on them."""
    installation.create_topics()
    started = [installation.worker() for _ in range(workers)]
    for worker in started:
        worker.wait_ready()
    with Load(installation, topic) as load:
        load.wait_for(LOAD_PER_S)
        yield load, started
