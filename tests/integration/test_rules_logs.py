"""Logs that are not as they were: retention, other logs, transaction markers; and the tables made from them (3, 8)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from typing import Any

import pytest
import rocksdict

from pipeline import topics
from pipeline.batches.store import OFFSET_FAMILY, BatchStore
from pipeline.dedupe import Seen
from tests.integration.broker_side import CHANGELOG, delete_records, leads_in, starts, transactions, wipe
from tests.integration.installation import ROOT, Installation, Worker, key, leads

pytestmark = pytest.mark.integration

P = 3
REFUSED = 78


def processed(installation: Installation, sent: list[dict[str, Any]], topic: str = topics.CAPTURED) -> None:
    """Let a worker process leads, and stop it."""
    installation.produce(sent, topic)
    worker = installation.worker().wait_ready()
    installation.wait(installation.drained)
    assert worker.stop() == 0


def skip(installation: Installation, command: str) -> subprocess.CompletedProcess[str]:
    """Run the command that a refusal names."""
    _, _, arguments = command.rpartition("run: leads ")
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments.split()],
        cwd=ROOT, env={**os.environ, "LEADS_BROKER_URL": installation.broker.url}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip


def skipped(installation: Installation, command: str) -> None:
    """Run it until the broker takes it: it knows a worker that has refused until its session is over."""
    installation.wait(lambda: skip(installation, command).returncode == 0)


def refusal(worker: Worker) -> str:
    """The sentence with which a worker refuses."""
    assert worker.process.wait(timeout=60) == REFUSED, worker.text()
    (sentence,) = [line for line in worker.text().splitlines() if "Cannot go on: " in line]
    return sentence.strip()


class TestPositionsOutsideTheLog:
    def test_a_checkpoint_that_retention_has_overtaken_is_refused_until_it_is_skipped(
        self, installation: Installation
    ) -> None:
        installation.create_topics()
        first, lost, last = (leads_in(P, count, prefix) for count, prefix in ((20, "a"), (30, "b"), (10, "c")))
        processed(installation, first)
        installation.produce([*lost, *last])
        delete_records(installation, topics.CAPTURED, {P: 50})
        sentence = refusal(installation.worker())
        assert f"Records 20 to 49 of {topics.CAPTURED}/{P} were deleted before group leads" in sentence
        assert sentence.endswith(f"run: leads skip {topics.CAPTURED} {P} 50")
        assert installation.committed()[P] == 20
        skipped(installation, sentence)
        installation.worker().wait_ready()
        installation.assert_once([*first, *last])

    def test_a_checkpoint_behind_the_end_of_the_log_is_refused(self, installation: Installation) -> None:
        installation.create_topics()
        sent = leads_in(P, 20)
        installation.produce(sent)
        installation.commit({P: 25})
        sentence = refusal(installation.worker())
        assert f"Group leads stands at 25 of {topics.CAPTURED}/{P}, but that log ends at 20" in sentence
        assert sentence.endswith(f"run: leads skip {topics.CAPTURED} {P} 0")
        skipped(installation, sentence)
        installation.worker().wait_ready()
        installation.assert_once(sent)

    def test_records_deleted_under_a_running_worker_are_refused_too(self, installation: Installation) -> None:
        """A worker that stands still for longer than the retention finds its position gone."""
        worker = installation.worker(LEADS_SESSION_TIMEOUT_S="30").wait_ready()
        installation.produce(leads_in(P, 5))
        installation.wait(installation.drained)
        worker.signal(signal.SIGSTOP)
        installation.produce(leads_in(P, 1, "a"))  # answers the fetch that may be under way
        installation.produce(leads_in(P, 20, "b"))
        delete_records(installation, topics.CAPTURED, {P: 26})
        worker.signal(signal.SIGCONT)
        sentence = refusal(worker)
        assert f"to 25 of {topics.CAPTURED}/{P} were deleted before group leads" in sentence
        assert sentence.endswith(f"run: leads skip {topics.CAPTURED} {P} 26")

    def test_a_log_that_went_on_with_other_records_is_refused(self, installation: Installation) -> None:
        """As after an unclean election: the offset in the CRM lies inside the log, but that is not its log."""
        installation.create_topics()
        first, other = leads_in(P, 5, "a"), leads_in(P, 5, "b")
        installation.produce(first, topics.ACCEPTED)
        worker = installation.worker().wait_ready()
        installation.assert_once(first)
        assert worker.stop() == 0
        with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3")) as crm, crm:
            crm.execute("UPDATE stream_offset SET last_time_ms = last_time_ms - 1")
        installation.produce(other, topics.ACCEPTED)
        sentence = refusal(installation.worker())
        assert f"does not fit {topics.ACCEPTED}/{P}: record 4 is not the one that it names" in sentence
        assert sentence.endswith(f"run: leads skip {topics.ACCEPTED} {P} 5")
        assert installation.dead_letters() == []
        assert len(installation.rows()) == 5

    def test_retention_that_goes_on_while_the_crm_is_away_takes_nothing_that_was_not_written(
        self, installation: Installation
    ) -> None:
        """A lane begins at the last record that was written, to know its log again; that one may go meanwhile."""
        installation.create_topics()
        first, more = leads_in(P, 5, "a"), leads_in(P, 5, "b")
        installation.produce(first, topics.ACCEPTED)
        worker = installation.worker().wait_ready()
        installation.assert_once(first)
        assert worker.stop() == 0
        with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3", isolation_level=None)) as crm:
            crm.execute("BEGIN EXCLUSIVE")
            worker = installation.worker().wait_until_answering()
            delete_records(installation, topics.ACCEPTED, {P: 5})
        installation.produce(more, topics.ACCEPTED)
        worker.wait_ready()
        installation.assert_once([*first, *more])

    def test_skipping_while_a_worker_runs_says_so(self, installation: Installation) -> None:
        installation.worker().wait_ready()
        refused = skip(installation, f"run: leads skip {topics.CAPTURED} {P} 0")
        assert refused.returncode == 1
        assert (
            "Workers of leads are running, or were until a moment ago. Stop them all, and try again in"
            in refused.stderr
        )

    def test_a_fresh_group_begins_where_the_log_does(self, installation: Installation) -> None:
        installation.create_topics()
        gone, there = leads_in(P, 10, "a"), leads_in(P, 10, "b")
        installation.produce([*gone, *there])
        delete_records(installation, topics.CAPTURED, {P: 10})
        installation.worker().wait_ready()
        installation.assert_once(there)


class TestGapsInTheLog:
    def test_transaction_markers_stop_neither_delivery_nor_the_checkpoint(self, installation: Installation) -> None:
        """Aborted records are read too: nobody captures leads in transactions, and dropping one would lose it."""
        installation.create_topics()
        batches = [leads_in(P, 5, prefix) for prefix in "abcd"]
        first, aborted, plain, last = batches
        transactions(installation, topics.CAPTURED, (first, True), (aborted, False))
        installation.produce(plain)
        transactions(installation, topics.CAPTURED, (last, True))
        assert installation.ends()[P] == 23, "20 leads and 3 markers, one of them at the end"
        worker = installation.worker().wait_ready()
        sent = [one for batch in batches for one in batch]
        installation.assert_once(sent)
        assert installation.committed()[P] == 23
        more = leads_in(P, 5, "e")
        transactions(installation, topics.CAPTURED, (more, True))
        installation.assert_once([*sent, *more])
        assert installation.committed()[P] == 29
        assert worker.stop() == 0

    def test_a_log_of_markers_only(self, installation: Installation) -> None:
        installation.create_topics()
        sent = leads_in(P, 5)
        transactions(installation, topics.CAPTURED, (sent, True))
        delete_records(installation, topics.CAPTURED, {P: 5})
        installation.worker().wait_ready()
        installation.wait(lambda: installation.committed().get(P) == 6)
        assert installation.rows() == []


class TestTables:
    def test_a_changelog_that_ends_in_a_marker_is_recovered(self, installation: Installation) -> None:
        """Stock Faust waits for a record at the end of the log that will never come (faust #176)."""
        installation.create_topics()
        sent = leads_in(P, 20)
        processed(installation, sent)
        entries = [(record.key, record.value) for record in installation.records(CHANGELOG)]
        wipe(installation)
        transactions(installation, CHANGELOG, *((leads_in(P, 1, f"x{number}"), False) for number in range(2)))
        worker = installation.worker().wait_ready()
        assert worker.stop() == 0
        table, offset = database(installation)
        assert offset == installation.ends(CHANGELOG)[P]
        assert {name: table[name] for name, _ in entries} == dict(entries)

    def test_a_database_older_than_its_changelog_is_rebuilt(self, installation: Installation) -> None:
        installation.create_topics()
        old, new = leads_in(P, 10, "a"), leads_in(P, 10, "b")
        processed(installation, old)
        entries = [(key(one), Seen(number, 10**13, b"12345678").pack()) for number, one in enumerate(new)]
        installation.produce_raw(entries, CHANGELOG)
        delete_records(installation, CHANGELOG, {P: 15})
        assert starts(installation, CHANGELOG)[P] == 15
        worker = installation.worker().wait_ready()
        assert f"Building {CHANGELOG}/{P} from its changelog, 15 to 20" in worker.text()
        assert worker.stop() == 0
        table, offset = database(installation)
        assert (table, offset) == (dict(entries[5:]), 20)

    def test_a_database_from_the_future_is_rebuilt(self, installation: Installation) -> None:
        installation.create_topics()
        sent = leads_in(P, 10)
        processed(installation, sent)
        with opened(installation) as db:
            offsets = db.get_column_family(OFFSET_FAMILY)
            offset, log_id = offsets[BatchStore.offset_key].split(b" ")
            assert offset == b"10"
            offsets[BatchStore.offset_key] = b"999 " + log_id
            del offsets
            db[b"default/ghost"] = Seen(0, 10**13, b"12345678").pack()
        worker = installation.worker().wait_ready()
        assert f"Building {CHANGELOG}/{P} from its changelog, 0 to 10" in worker.text()
        assert worker.stop() == 0
        table, offset = database(installation)
        assert (table.keys(), offset) == ({key(one) for one in sent}, 10)

    def test_a_recovery_that_cannot_write_ends_the_worker_and_leaves_no_hole(self, installation: Installation) -> None:
        """Stock Faust logs a warning and goes on without the entries."""
        installation.create_topics()
        sent = leads(400)
        processed(installation, sent)
        wipe(installation)
        worker = installation.worker("tests.integration.faulty.unwritable")
        assert worker.process.wait(timeout=60) not in (0, REFUSED)
        assert "no space left on device" in worker.text()
        assert "Worker ready" not in worker.text()
        healthy = installation.worker().wait_ready()
        installation.produce(sent)
        installation.assert_once(sent)
        assert len(installation.records(topics.ACCEPTED)) == len(sent), "the table knew every one of them"
        with urllib.request.urlopen(f"{healthy.url}/tables/seen/default/{sent[0]['message_id']}") as answer:
            assert answer.status == 200


def opened(installation: Installation) -> rocksdict.Rdict:
    """The database of the partition, of a worker that has stopped."""
    (path,) = (installation.directory / "var").glob(f"worker-*/**/seen-{P}.db")
    families = {OFFSET_FAMILY: rocksdict.Options(raw_mode=True)}
    return rocksdict.Rdict(str(path), rocksdict.Options(raw_mode=True), column_families=families)


def database(installation: Installation) -> tuple[dict[bytes, bytes], int]:
    """The entries of the partition, and the changelog offset up to which they are complete."""
    with opened(installation) as db:
        entries = dict(db.items())
        offset, _ = db.get_column_family(OFFSET_FAMILY)[BatchStore.offset_key].split(b" ")
    return entries, int(offset)
