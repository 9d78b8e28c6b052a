"""Nothing is lost and nothing is doubled: real workers under load, real signals, a real broker that goes away."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pipeline import topics
from tests.integration.installation import ROOT, Installation, Worker, lead

pytestmark = pytest.mark.integration

LOAD_PER_S = 2000


class Load:
    """Leads appended to lead-captured, a few hundred at a time, until it is told to stop; every tenth twice."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
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
        command = [sys.executable, "-m", "tests.integration.load", *self._installation.bootstrap, str(LOAD_PER_S)]
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
def loaded(installation: Installation, workers: int = 2) -> Iterator[tuple[Load, list[Worker]]]:
    """Workers, ready, with load on them."""
    installation.create_topics()
    started = [installation.worker() for _ in range(workers)]
    for worker in started:
        worker.wait_ready()
    with Load(installation) as load:
        load.wait_for(LOAD_PER_S)
        yield load, started


def test_two_workers_starting_at_once_on_a_fresh_group_skip_nothing(installation: Installation) -> None:
    installation.create_topics()
    with Load(installation) as load:
        load.wait_for(LOAD_PER_S)
        for worker in [installation.worker(), installation.worker()]:
            worker.wait_ready()
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)


def test_a_worker_that_joins_costs_nothing(installation: Installation) -> None:
    with loaded(installation, 1) as (load, _):
        installation.worker().wait_ready()
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)


def test_sigkill_of_one_of_two_workers_loses_nothing(installation: Installation) -> None:
    with loaded(installation) as (load, workers):
        workers[0].kill()
        load.wait_for(2 * LOAD_PER_S)
        installation.worker().wait_ready()
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)


def test_sigkill_of_all_workers_again_and_again_loses_nothing(installation: Installation) -> None:
    with loaded(installation, 1) as (load, workers):
        for _ in range(4):
            workers[-1].kill()
            workers.append(installation.worker().wait_ready())
            load.wait_for(LOAD_PER_S // 2)
    installation.assert_once(load.sent)


def test_a_worker_stopped_beyond_its_session_and_continued_doubles_nothing(installation: Installation) -> None:
    with loaded(installation) as (load, workers):
        assignments = workers[1].text().count("Worker ready")
        workers[0].signal(signal.SIGSTOP)
        installation.wait(lambda: workers[1].text().count("Worker ready") > assignments)
        load.wait_for(3 * LOAD_PER_S)
        workers[0].signal(signal.SIGCONT)
        load.wait_for(2 * LOAD_PER_S)
    installation.assert_once(load.sent)
    assert [worker.process.poll() for worker in workers] == [None, None]


def test_sigterm_under_load_drains(installation: Installation) -> None:
    with loaded(installation, 1) as (load, (worker,)):
        assert worker.stop(timeout_s=10) == 0
        installation.worker().wait_ready()
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)
    read_again = len(installation.records(topics.ACCEPTED)) - len(load.sent)
    assert read_again == 0, "what was in work was committed before the worker left"


def test_a_wiped_state_directory_drops_nothing(installation: Installation) -> None:
    with loaded(installation, 1) as (load, workers):
        for _ in range(3):
            workers[-1].kill()
            subprocess.run(["rm", "-rf", *map(str, (installation.directory / "var").glob("worker-*"))], check=True)
            workers.append(installation.worker().wait_ready())
            load.wait_for(LOAD_PER_S // 2)
    installation.assert_once(load.sent)
    assert len(installation.records(topics.ACCEPTED)) < 2 * len(load.sent)


def test_a_broker_restart_of_20_s_needs_no_hand(installation: Installation) -> None:
    with loaded(installation) as (load, workers):
        installation.broker.kill()
        time.sleep(20)  # the length of the outage is what is tested
        installation.broker.start()
        load.wait_for(2 * LOAD_PER_S)
    installation.assert_once(load.sent)
    assert [worker.process.poll() for worker in workers] == [None, None]
    noise = [line for worker in workers for line in worker.text().splitlines() if "ERROR" in line]
    assert len(noise) < 60, "\n".join(noise)


def test_a_broker_outage_during_a_recovery_ends_in_a_recovered_worker(installation: Installation) -> None:
    with loaded(installation, 1) as (load, workers):
        load.wait_for(LOAD_PER_S)
        workers[0].kill()
        subprocess.run(["rm", "-rf", *map(str, (installation.directory / "var").glob("worker-*"))], check=True)
        worker = installation.worker()
        installation.wait(lambda: "Executing _on_partitions_assigned" in worker.text())
        installation.broker.kill()
        installation.broker.start()
        worker.wait_ready()
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)
