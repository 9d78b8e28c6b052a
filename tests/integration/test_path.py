"""The path of a lead: HTTP, Kafka, dedupe, CRM; and what happens to what is no lead."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from pipeline import topics
from tests.integration.asking import get, post
from tests.integration.installation import Installation, Worker, key, lead, leads, partition

pytestmark = pytest.mark.integration


def test_a_lead_posted_twice_becomes_one_row(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    sent = lead("m-1", name="Ada")
    status, receipt = post(worker, sent)
    assert status == 202
    assert receipt["partition"] == partition(key(sent))
    assert receipt["offset"] == 0
    assert receipt["status_url"] == f"/leads/default/m-1?partition={receipt['partition']}&offset=0"
    assert post(worker, sent)[1]["offset"] == 1
    installation.assert_once([sent])
    assert installation.query("SELECT name, source_offset FROM lead") == [("Ada", 0)]
    assert len(installation.records(topics.CAPTURED)) == 2
    assert len(installation.records(topics.ACCEPTED)) == 1
    assert installation.dead_letters() == []


def test_an_array_is_answered_item_by_item(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    status, answer = post(worker, [lead("a"), {"message_id": "b"}, lead("c")])
    assert status == 202
    assert [item.get("message_id", item.get("status")) for item in answer["results"]] == ["a", 400, "c"]
    installation.assert_once([lead("a"), lead("c")])


def test_the_same_id_with_other_content_is_no_duplicate(installation: Installation) -> None:
    installation.create_topics()
    first, second = lead("m-1", name="Ada"), lead("m-1", name="Grace")
    installation.produce([first, {**first, "captured_at": "2026-01-01T00:00:00Z"}, second])
    installation.worker().wait_ready()
    installation.assert_once([first])
    assert installation.query("SELECT name FROM lead") == [("Ada",)]
    (letter,) = installation.dead_letters()
    assert letter["reason"] == "id-conflict"
    assert (letter["group"], letter["topic"], letter["offset"]) == ("leads", topics.CAPTURED, "2")


def test_what_is_no_lead_is_dead_lettered_with_its_bytes(installation: Installation) -> None:
    installation.create_topics()
    good = leads(20)
    raw: list[tuple[bytes | None, bytes | None]] = [
        (b"default/x", b"not json \xff"),
        (None, b"{}"),
        (b"default/y", None),
        (b"default/other", json.dumps(lead("z")).encode()),
    ]
    installation.produce_raw(raw)
    installation.produce(good)
    installation.worker().wait_ready()
    installation.assert_once(good)
    assert {letter["reason"] for letter in installation.dead_letters()} == {"invalid"}
    kept = installation.records(topics.DEAD_LETTER)
    assert sorted(map(repr, ((r.key, r.value) for r in kept))) == sorted(map(repr, raw))


def test_ids_are_unique_within_their_tenant_only(installation: Installation) -> None:
    installation.create_topics()
    sent = [lead("m-1", tenant=name) for name in ("acme", "default", "umbrella")]
    installation.produce(sent * 2)
    installation.worker().wait_ready()
    installation.assert_once(sent)


def test_a_repeat_after_the_window_is_forwarded_again(installation: Installation) -> None:
    worker = installation.worker(LEADS_DEDUPE_WINDOW="1s").wait_ready()
    sent = lead("m-1")
    post(worker, sent)
    installation.assert_once([sent])
    (first,) = installation.records(topics.CAPTURED)
    installation.wait(lambda: _repeat(worker, sent, installation) - first.timestamp > 1000)
    installation.wait(lambda: len(installation.records(topics.ACCEPTED)) == 2)
    installation.assert_once([sent])


def _repeat(worker: Worker, sent: dict[str, Any], installation: Installation) -> int:
    post(worker, sent)
    return int(installation.records(topics.CAPTURED)[-1].timestamp)


def test_any_worker_answers_for_the_table(installation: Installation) -> None:
    workers = [installation.worker() for _ in range(2)]
    for worker in workers:
        worker.wait_ready()
    sent = leads(16)
    for one in sent:
        assert post(workers[0], one)[0] == 202
    installation.assert_once(sent)
    for worker in workers:
        answers = [get(worker, f"/tables/seen/default/{one['message_id']}") for one in sent]
        assert {status for status, _ in answers} == {200}
        assert len({answer["owner"] for _, answer in answers}) == 2
        assert all(answer["offset"] >= 0 and len(answer["content_hash"]) == 16 for _, answer in answers)
        assert get(worker, "/tables/seen/default/unknown")[0] == 404


def test_the_database_gone_for_a_while_costs_nothing(installation: Installation) -> None:
    crm = installation.directory / "var" / "crm.sqlite3"
    crm.mkdir(parents=True)  # nothing can be opened there
    worker = installation.worker().wait_until_answering()
    sent = leads(50)
    for one in sent:
        assert post(worker, one)[0] == 202
    installation.wait(lambda: installation.lag(topics.CAPTURED) == 0)
    installation.wait(lambda: "The sink is unavailable" in worker.text())
    assert get(worker, "/healthz")[0] == 200
    status, answer = get(worker, "/readyz")
    assert (status, answer["checks"]["partitions"]) == (503, "ok")
    assert installation.committed(topics.ACCEPTED) == {}
    crm.rmdir()
    installation.assert_once(sent)
    assert worker.text().count("The sink is unavailable") == 1
    assert worker.text().count("The sink is back") == 1


def test_what_clients_send_wrongly_is_not_in_the_log(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    for request in (
        b"POST /leads HTTP/1.1\r\nHost: a\r\nX-Bad marked@private.example\r\n\r\n",
        b"POST /leads HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 14\r\n\r\nmarked@private",
    ):
        with socket.create_connection(("127.0.0.1", worker.port)) as connection:
            connection.sendall(request)
            assert connection.recv(1000).startswith(b"HTTP/1.")
    assert post(worker, lead("m-1"))[0] == 202
    assert "marked" not in worker.text()
    assert "Traceback" not in worker.text()


def test_without_a_broker_and_a_spool_nothing_is_acknowledged(installation: Installation) -> None:
    worker = installation.worker(LEADS_SPOOL_MAX_BYTES="0").wait_ready()
    sent = lead("m-1")
    installation.broker.kill()
    status, answer = post(worker, sent)
    assert status == 503
    assert answer["message_id"] == "m-1"
    assert answer["type"] == "urn:problem-type:leads:not-acknowledged"
    installation.broker.start()
    installation.wait(lambda: post(worker, sent)[0] == 202)
    installation.assert_once([sent])


def test_another_number_of_partitions_is_refused(installation: Installation) -> None:
    installation.create_topics()
    worker = installation.worker(LEADS_PARTITIONS="4")
    assert worker.process.wait(timeout=60) == 78
    assert "has 8 partitions and LEADS_PARTITIONS is 4" in worker.text()
    assert "Traceback" not in worker.text()


def test_another_app_writes_another_crm_from_its_own_checkpoint(installation: Installation) -> None:
    installation.worker().wait_ready()
    sent = leads(30)
    installation.produce(sent)
    installation.assert_once(sent)
    other = installation.directory / "other.sqlite3"
    settings = {"LEADS_APP_ID": "crm2", "LEADS_AGENTS": "crm_sink", "LEADS_SINK_URL": f"sqlite:///{other}"}
    installation.worker(**settings).wait_ready()
    installation.wait(lambda: installation.lag(topics.ACCEPTED, "crm2") == 0)
    with closing(sqlite3.connect(other)) as connection:
        assert connection.execute("SELECT count(*) FROM lead").fetchall() == [(30,)]


def test_a_header_whose_name_is_not_utf_8_stops_nobody(installation: Installation) -> None:
    """aiokafka cannot read such a record by itself, nor get past it: whoever sends one would stop every worker."""
    installation.create_topics()
    sent = [*leads(20), lead("odd"), lead("odd-letter", email=None), *leads(20, prefix="n")]
    for one in sent:
        if one["message_id"].startswith("odd"):
            installation.produce_odd_header(one)
        else:
            installation.produce([one])
    worker = installation.worker().wait_ready()
    good = [one for one in sent if one["email"]]
    installation.wait_rows(len(good))
    installation.assert_once(good)
    (forwarded,) = [record for record in installation.records(topics.ACCEPTED) if record.key == key(lead("odd"))]
    assert forwarded.headers == (("\\xff", b"its value"),)
    (letter,) = installation.dead_letters()
    assert letter["original-\\xff"] == "its value"
    assert "Traceback" not in worker.text()
