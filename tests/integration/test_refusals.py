"""Workers that cannot go on say why, in one sentence, and end; workers that can stop, stop."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import topics
from pipeline.batches.batch import STATUS_REFUSED
from tests.integration.installation import Installation, leads

pytestmark = pytest.mark.integration


def test_a_session_timeout_that_the_broker_does_not_allow(installation: Installation) -> None:
    worker = installation.worker(LEADS_SESSION_TIMEOUT_S="0.5")
    assert worker.process.wait(timeout=60) == STATUS_REFUSED
    assert "the broker does not allow such a session timeout" in worker.text()


def test_a_sink_that_does_not_exist(installation: Installation) -> None:
    worker = installation.worker(LEADS_SINK_URL="mysql://user:s3cret@host/crm")
    assert worker.process.wait(timeout=60) == STATUS_REFUSED
    assert "LEADS_SINK_URL cannot be used: no sink has such a URL" in worker.text()
    assert "Traceback" not in worker.text()
    assert "s3cret" not in worker.text()


def test_another_set_of_agents_in_the_same_group(installation: Installation) -> None:
    first = installation.worker().wait_ready()
    second = installation.worker(LEADS_AGENTS="crm_sink")
    assert second.process.wait(timeout=60) == STATUS_REFUSED
    assert "another kind of worker is in this consumer group" in second.text()
    sent = leads(20)
    installation.produce(sent)
    installation.assert_once(sent)
    assert first.process.poll() is None


def test_a_stop_does_not_wait_for_a_broker_that_is_away(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    installation.broker.kill()
    assert worker.stop(timeout_s=8.5) == 0


def test_a_stop_does_not_wait_for_a_broker_that_hangs(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    installation.broker.pause()
    assert worker.stop(timeout_s=8.5) == 0
    installation.broker.resume()


def test_the_tables_of_another_cluster_are_not_trusted(installation: Installation, tmp_path: Path) -> None:
    sent = leads(200)
    worker = installation.worker().wait_ready()
    installation.produce(sent)
    installation.assert_once(sent)
    assert worker.stop() == 0
    with Installation(tmp_path / "other") as other:
        # The same directories, another broker: what the table knows was never forwarded there.
        (tmp_path / "var").rename(tmp_path / "other" / "var")
        (tmp_path / "other" / "var" / "crm.sqlite3").unlink()
        # Somebody who was told that they belong to another cluster wants to take them along.
        (tmp_path / "other" / "var" / "cluster-id").unlink()
        other.create_topics()
        filler = leads(400, "filler")
        other.produce(filler)
        other.worker(LEADS_DATA_DIR=str(tmp_path / "other" / "empty")).wait_ready()
        other.wait(lambda: other.lag(topics.CAPTURED) == 0 and other.lag(topics.ACCEPTED) == 0)
        other.workers[0].stop()
        other.produce(sent)
        other.worker().wait_ready()
        # The database is a new one, so it gets what was accepted before, too.
        other.assert_once([*filler, *sent])


def test_a_database_with_another_schema_ends_the_worker_and_dead_letters_nothing(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    first = leads(5, "first")
    installation.produce(first)
    installation.assert_once(first)
    with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3")) as crm:
        crm.execute("ALTER TABLE lead RENAME COLUMN email TO mail")
        second = leads(5, "second")
        installation.produce(second)
        assert worker.process.wait(timeout=60) not in (0, STATUS_REFUSED)
        assert installation.dead_letters() == []
        crm.execute("ALTER TABLE lead RENAME COLUMN mail TO email")
    installation.worker().wait_ready()
    installation.assert_once(first + second)


@pytest.mark.parametrize("content", ["no database", "CREATE TABLE lead (x)"])
def test_a_database_that_is_damaged_or_of_others_is_one_sentence(installation: Installation, content: str) -> None:
    path = installation.directory / "other.sqlite3"
    if content.startswith("CREATE"):
        with closing(sqlite3.connect(path)) as other:
            other.execute(content)
    else:
        path.write_text(content * 1000)
    status, said = installation.worker(LEADS_SINK_URL=f"sqlite:///{path}").refused()
    assert (status, said.startswith(f"Cannot go on: The CRM sqlite:///{path} cannot be used: ")) == (
        os.EX_DATAERR,
        True,
    )
    if content.startswith("CREATE"):
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT sql FROM sqlite_master").fetchall() == [(content,)]


def test_a_worker_that_starts_before_its_broker_waits_for_it(installation: Installation) -> None:
    installation.broker.kill()
    worker = installation.worker()
    installation.wait(lambda: "Waiting for the broker" in worker.text())
    installation.broker.start()
    worker.wait_ready()
