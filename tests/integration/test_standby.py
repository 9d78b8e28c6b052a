"""Standby replicas: who takes a partition over has its table already. Static membership: who comes back in time has
kept its partitions.
"""

from __future__ import annotations

import signal

import pytest
import rocksdict

from pipeline import topics
from pipeline.batches.store import OFFSET_FAMILY, BatchStore
from tests.integration.asking import get
from tests.integration.broker_side import CHANGELOG, delete_records
from tests.integration.installation import PARTITIONS, Installation, Worker, leads
from tests.integration.loading import LOAD_PER_S, loaded

pytestmark = pytest.mark.integration

STANDBY = {"LEADS_STANDBY_REPLICAS": "1"}
STATIC = {"LEADS_STATIC_MEMBERSHIP": "on"}
#: Longer than a worker takes to start, however busy the machine is.
LONG_SESSION = {"LEADS_SESSION_TIMEOUT_S": "60"}


def next_offsets(installation: Installation, worker: int) -> dict[int, int]:
    """The changelog offset up to which each database of a worker is complete, read beside the worker that has it."""
    found = {}
    for number in range(PARTITIONS):
        for path in (installation.directory / "var" / f"worker-{worker}").rglob(f"seen-{number}.*"):
            try:
                db = rocksdict.Rdict(
                    str(path),
                    rocksdict.Options(raw_mode=True),
                    column_families={OFFSET_FAMILY: rocksdict.Options(raw_mode=True)},
                    access_type=rocksdict.AccessType.read_only(),
                )
            except Exception:  # rocksdict has no class of its own: the database is being made
                continue
            value = db.get_column_family(OFFSET_FAMILY).get(BatchStore.offset_key)
            db.close()
            if value is not None:
                found[number] = int(value.split(b" ")[0])
    return found


def times_ready(worker: Worker) -> int:
    """How many assignments it has taken."""
    return worker.text().count("Worker ready")


@pytest.mark.parametrize("replicas", [1, 0])
def test_a_standby_takes_over_without_the_changelog(installation: Installation, replicas: int) -> None:
    settings = {"LEADS_STANDBY_REPLICAS": str(replicas)}
    workers = [worker.wait_ready() for worker in [installation.worker(**settings), installation.worker(**settings)]]
    sent = leads(200)
    installation.produce(sent)
    installation.assert_once(sent)
    ends = installation.ends(CHANGELOG)
    if replicas:
        installation.wait(lambda: all(next_offsets(installation, n) == ends for n in (1, 2)))
    else:
        assert all(next_offsets(installation, n) != ends for n in (1, 2))
    delete_records(installation, CHANGELOG, ends)  # who has to read these now knows nothing
    workers[0].kill()
    installation.produce(sent)
    installation.wait(lambda: installation.lag(topics.CAPTURED) == 0)
    accepted = len(installation.records(topics.ACCEPTED))
    assert accepted == 200 if replicas else accepted > 200
    installation.assert_once(sent)  # the key in the CRM stops what was forwarded again
    assert workers[1].process.poll() is None


def test_what_happens_to_workers_with_standbys_loses_and_doubles_nothing(installation: Installation) -> None:
    with loaded(installation, 0) as (load, workers):
        workers += [installation.worker(**STANDBY) for _ in range(3)]
        for worker in workers:
            worker.wait_ready()
        workers.pop(0).kill()
        load.wait_for(2 * LOAD_PER_S)
        workers.append(installation.worker(**STANDBY).wait_ready())
        before = times_ready(workers[2])
        workers[0].signal(signal.SIGSTOP)
        installation.wait(lambda: times_ready(workers[2]) > before)
        load.wait_for(2 * LOAD_PER_S)
        workers[0].signal(signal.SIGCONT)
        load.wait_for(LOAD_PER_S)
        assert workers.pop(0).stop() == 0
        load.wait_for(LOAD_PER_S)
    installation.assert_once(load.sent)
    assert [worker.process.poll() for worker in workers] == [None, None]


@pytest.mark.parametrize("number", [0, 1])  # the first one leads the group
def test_a_static_member_that_comes_back_in_time_gets_its_partitions_at_once(
    installation: Installation, number: int
) -> None:
    settings = {**STATIC, **LONG_SESSION}
    workers = [installation.worker(**settings).wait_ready() for _ in range(2)]
    installation.wait(lambda: times_ready(workers[0]) > 1 and workers[0].ready())
    sent = leads(400)
    installation.produce(sent[:200])
    assignments = times_ready(workers[1 - number])
    workers[number].kill()
    installation.produce(sent[200:])
    installation.worker(port=workers[number].port, **settings).wait_ready()
    installation.assert_once(sent)
    assert times_ready(workers[1 - number]) == assignments  # nothing has changed for the other one


def test_a_static_member_that_stops_leaves_its_partitions_to_nobody_until_its_session_ends(
    installation: Installation,
) -> None:
    workers = [installation.worker(**STATIC).wait_ready() for _ in range(2)]
    installation.wait(lambda: times_ready(workers[0]) > 1 and workers[0].ready())
    sent = leads(400)
    installation.produce(sent[:200])
    assert workers[1].stop() == 0
    installation.produce(sent[200:])
    installation.assert_once(sent)  # the other one has them all in the end
    assert times_ready(workers[0]) == 3


def test_workers_of_one_group_are_static_members_by_different_names(installation: Installation) -> None:
    for worker in [installation.worker(**STATIC), installation.worker(**STATIC)]:
        worker.wait_ready()
    names = {path.read_text() for path in (installation.directory / "var").rglob("instance-id")}
    assert len(names) == 2


def test_a_static_member_that_comes_back_under_another_address_is_found_there(installation: Installation) -> None:
    # Long enough for it to come back meanwhile; it is another member then, and the broker waits for the former one.
    settings = {**STATIC, "LEADS_SESSION_TIMEOUT_S": "20"}
    workers = [installation.worker(**settings).wait_ready() for _ in range(2)]
    installation.wait(lambda: times_ready(workers[0]) > 1 and workers[0].ready())
    sent = leads(40)
    installation.produce(sent)
    installation.assert_once(sent)
    workers[1].kill()
    back = installation.worker(**settings).wait_ready()
    assert back.port != workers[1].port
    for asked in (workers[0], back):
        for one in sent:
            assert get(asked, f"/leads/default/{one['message_id']}")[1]["state"] == "written"
