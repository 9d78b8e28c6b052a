"""Nothing is lost and nothing is doubled: real workers under load, real signals, a real broker that goes away."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline import topics
from tests.integration.installation import Installation
from tests.integration.loading import LOAD_PER_S, Load, loaded

pytestmark = pytest.mark.integration


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


def test_sigterm_under_load_drains(tmp_path: Path) -> None:
    # What is in work may go on for a quarter of the session: of the usual two seconds that is too little here.
    with Installation(tmp_path, LEADS_SESSION_TIMEOUT_S="8") as installation:
        with loaded(installation, 1) as (load, (worker,)):
            assert worker.stop(timeout_s=10) == 0
            installation.worker().wait_ready()
            load.wait_for(LOAD_PER_S)
        installation.assert_once(load.sent)
        read_again = len(installation.records(topics.ACCEPTED)) - len(load.sent)
        assert read_again == 0, "what was in work was committed before the worker left"


def is_committed(installation: Installation, ends: dict[int, int]) -> bool:
    """Whether the group has committed all that is before `ends`."""
    committed = installation.committed()
    return all(committed.get(number, 0) >= end for number, end in ends.items())


def test_a_wiped_state_directory_drops_nothing(installation: Installation) -> None:
    with loaded(installation, 1) as (load, workers):
        for _ in range(3):
            workers[-1].kill()
            subprocess.run(["rm", "-rf", *map(str, (installation.directory / "var").glob("worker-*"))], check=True)
            there = installation.ends()
            workers.append(installation.worker().wait_ready())
            load.wait_for(LOAD_PER_S // 2)
            # On a busy machine it would be killed before it has committed anything: then all is forwarded again.
            installation.wait(lambda there=there: is_committed(installation, there))
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
