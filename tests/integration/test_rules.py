"""The rules of the engine, each with real workers that have one fault (tests/integration/faulty).

What the stock classes do instead is in test_stock.py and tests/unit/test_stock_checkpoints.py.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pipeline import topics
from tests.integration.asking import get
from tests.integration.broker_side import CHANGELOG, leads_in
from tests.integration.installation import Installation, key, lead, leads

pytestmark = pytest.mark.integration

FAULTY = "tests.integration.faulty"
BLOCKED = 3
"""The partition that the modules `blocked` and `fatal` are about."""


class TestRecordsThatRaise:
    def test_they_are_dead_lettered_as_bugs_and_stop_nothing(self, installation: Installation) -> None:
        installation.create_topics()
        good = leads(200)
        bad = [lead("poison-dedupe-1"), lead("poison-sink-1"), lead("poison-dedupe-2"), lead("poison-sink-2")]
        installation.produce([*good[:100], *bad, *good[100:]])
        worker = installation.worker(f"{FAULTY}.poison").wait_ready()
        installation.assert_once(good)
        letters = installation.dead_letters()
        assert {letter["reason"] for letter in letters} == {"bug"}
        assert all("ArithmeticError: a bug in our code" in letter["detail"] for letter in letters)
        assert all("Traceback" in letter["detail"] for letter in letters)
        assert sorted((letter["topic"], one.key) for letter, one in self._with_records(installation)) == sorted(
            (topics.CAPTURED if "dedupe" in one["message_id"] else topics.ACCEPTED, key(one)) for one in bad
        )
        assert worker.process.poll() is None
        installation.wait(lambda: installation.lag(topics.DEAD_LETTER) == 0)
        answers = [get(worker, f"/leads/default/{one['message_id']}")[1] for one in bad]
        assert [(answer["state"], answer["reason"]) for answer in answers] == [("dead-lettered", "bug")] * 4

    def _with_records(self, installation: Installation) -> list[tuple[dict[str, str], object]]:
        return list(zip(installation.dead_letters(), installation.records(topics.DEAD_LETTER), strict=True))


class TestFatal:
    def test_a_dead_letter_that_makes_the_code_raise_is_not_dead_lettered_again(
        self, installation: Installation
    ) -> None:
        installation.create_topics()
        installation.produce_raw([(b"default/m-1", b"no lead")])
        worker = installation.worker(f"{FAULTY}.unreadable_letters")
        assert worker.process.wait(timeout=60) not in (0, -signal.SIGKILL)
        assert "dead-lettering it would never end" in worker.text()
        assert installation.committed(topics.DEAD_LETTER) == {}
        assert len(installation.dead_letters()) == 1

    def test_it_ends_the_worker_and_its_batch_is_left_to_another(self, installation: Installation) -> None:
        installation.create_topics()
        sent = [*leads_in(BLOCKED, 20), *leads(50)]
        installation.produce(sent)
        worker = installation.worker(f"{FAULTY}.fatal")
        assert worker.process.wait(timeout=60) not in (0, -signal.SIGKILL)
        assert "the disk of the CRM is on fire" in worker.text()
        assert installation.committed(topics.ACCEPTED).get(BLOCKED, 0) == 0
        assert installation.dead_letters() == []
        installation.worker().wait_ready()
        installation.assert_once(sent)


class TestLanes:
    def test_a_blocked_partition_holds_back_no_other_and_no_gap_is_committed(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        installation.create_topics()
        blocked, free = leads_in(BLOCKED, 30), [one for n in (0, 1, 2, 4, 5, 6, 7) for one in leads_in(n, 30)]
        release = tmp_path / "release"
        installation.worker(f"{FAULTY}.blocked", FAULT_FILE=str(release)).wait_ready()
        installation.produce(blocked[:10] + free[:70])
        installation.produce(blocked[10:] + free[70:])
        installation.wait_rows(len(free))
        assert {row[1] for row in installation.rows()} == {one["message_id"] for one in free}
        ends = installation.ends(topics.ACCEPTED)
        free_ends = {number: end for number, end in ends.items() if number != BLOCKED}
        installation.wait(lambda: installation.committed(topics.ACCEPTED) == free_ends)
        installation.wait(lambda: installation.lag(topics.CAPTURED) == 0)
        release.touch()
        installation.assert_once(blocked + free)

    def test_a_batch_in_work_during_a_rebalance_is_neither_acked_nor_lost(
        self, installation: Installation, tmp_path: Path
    ) -> None:
        installation.create_topics()
        sent, release = leads_in(BLOCKED, 30), tmp_path / "release"
        first = installation.worker(f"{FAULTY}.blocked", FAULT_FILE=str(release)).wait_ready()
        installation.produce(sent)
        installation.wait(lambda: "blocked at 0" in first.text())
        second = installation.worker(f"{FAULTY}.blocked", FAULT_FILE=str(release)).wait_ready()
        installation.wait(lambda: first.text().count("blocked at 0") + second.text().count("blocked at 0") == 2)
        assert installation.committed(topics.ACCEPTED) == {}
        assert installation.rows() == []
        release.touch()
        installation.assert_once(sent)


class TestCrashes:
    """The changelog, lead-accepted, RocksDB: a process may die between any two of them."""

    def test_between_the_changelog_and_lead_accepted(self, installation: Installation) -> None:
        sent = self._killed(installation, "before-accepted")
        known = {record.key for record in installation.records(CHANGELOG)}
        accepted = {record.key for record in installation.records(topics.ACCEPTED)}
        assert known - accepted, "the table knows leads that nobody has forwarded: stock Faust would drop them now"
        installation.worker().wait_ready()
        installation.assert_once(sent)
        assert installation.dead_letters() == []

    def test_between_lead_accepted_and_rocksdb(self, installation: Installation) -> None:
        sent = self._killed(installation, "before-put")
        installation.worker().wait_ready()
        installation.assert_once(sent)
        assert len(installation.records(topics.ACCEPTED)) > len(sent), "forwarded again"
        assert installation.dead_letters() == []

    def _killed(self, installation: Installation, place: str) -> list[dict[str, object]]:
        installation.create_topics()
        sent = leads(300)
        installation.produce(sent)
        worker = installation.worker(f"{FAULTY}.killed", FAULT_PLACE=place, FAULT_BATCH="5")
        assert worker.process.wait(timeout=60) == -signal.SIGKILL
        return sent


class TestWorkersThatCannotWork:
    @pytest.mark.parametrize("task", ["recovery", "commit", "conductor", "agent", "fetcher"])
    def test_a_task_that_ends_in_silence_ends_the_worker(
        self, installation: Installation, tmp_path: Path, task: str
    ) -> None:
        end = tmp_path / "end"
        worker = installation.worker(f"{FAULTY}.silent", FAULT_TASK=task, FAULT_FILE=str(end)).wait_ready()
        end.touch()
        assert worker.process.wait(timeout=20) > 0
        assert "ended while the worker runs" in worker.text(), worker.text()

    def test_an_agent_that_cannot_be_imported_ends_the_worker(self, installation: Installation) -> None:
        worker = installation.worker(f"{FAULTY}.unimportable")
        assert worker.process.wait(timeout=60) > 0
        assert "agents.crm_sink" in worker.text()
