"""What became of a lead, asked of any worker, is never wrong, whatever happens to workers, tables and CRM meanwhile."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from pipeline import topics
from tests.integration.asking import get, post
from tests.integration.broker_side import leads_in, wipe
from tests.integration.crm_side import refuse
from tests.integration.installation import Installation, Worker, key, lead, leads, partition

pytestmark = pytest.mark.integration


def path(one: dict[str, Any], receipt: dict[str, Any] | None = None) -> str:
    """Where to ask for a lead."""
    query = "" if receipt is None else f"?partition={receipt['partition']}&offset={receipt['offset']}"
    return f"/leads/{one['tenant']}/{one['message_id']}{query}"


def locked(installation: Installation) -> sqlite3.Connection:
    """A connection that keeps everybody else from writing the CRM, as long as it is open."""
    connection = sqlite3.connect(installation.directory / "var" / "crm.sqlite3", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_lead_from_its_receipt_to_its_row(installation: Installation) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    sent = leads(16)
    with closing(locked(installation)):
        receipts = [post(workers[0], one)[1] for one in sent]
        for worker in workers:
            for one, receipt in zip(sent, receipts, strict=True):
                status, answer = get(worker, receipt["status_url"])
                assert (status, answer["state"]) == (200, "pending")
                assert path(one, receipt) == receipt["status_url"]
    installation.assert_once(sent)
    ids = dict(installation.query("SELECT message_id, id FROM lead"))
    for worker in workers:
        for one in sent:
            status, answer = get(worker, path(one))
            assert (status, answer["state"], answer["record_id"]) == (200, "written", str(ids[one["message_id"]]))
            assert answer["written_at"] > answer["first_received_at"]


def test_repeats_and_conflicts_are_counted_and_change_nothing(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    first = lead("m-1", name="Ada")
    for _ in range(3):
        post(worker, first)
    post(worker, lead("m-1", name="Grace"))
    installation.assert_once([first])
    answer = get(worker, path(first))[1]
    assert (answer["state"], answer["times_received"], answer["conflicts"]) == ("written", 3, 1)
    assert "this_record" not in answer, "no receipt was given"


def test_a_receipt_says_what_became_of_this_version(installation: Installation) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    versions = [lead("m-1", name=name) for name in ("Ada", "Ada", "Grace")]
    receipts = [post(workers[0], one)[1] for one in versions]
    installation.assert_once(versions[:1])
    installation.wait_letters(1)
    for worker in workers:
        answers = [get(worker, receipt["status_url"])[1] for receipt in receipts]
        assert [answer["state"] for answer in answers] == ["written"] * 3
        assert [answer["this_record"] for answer in answers] == ["first", "repeat", "id-conflict"]


def test_a_name_that_no_lead_can_have_is_asked_of_nobody(installation: Installation) -> None:
    worker = installation.worker().wait_until_answering()
    for name in ("a%20b/xy", "default/x%2Fy", "default/.", "default/%20x", "default/x%00", "default/" + "x" * 129):
        status, problem = get(worker, f"/leads/{name}")
        assert (status, problem["title"]) == (404, "No lead has this name")
        assert problem["detail"].startswith(("tenant: ", "message_id: "))


def test_a_question_for_another_app_or_worker_is_refused(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    for url in ("/leads/default/m-1", "/tables", "/tables/seen"):
        assert get(worker, url, **{"X-Leads-Forwarded": worker.url, "X-Leads-App": "leads"})[0] in (200, 404)
        for app, asked in (("leads-crm2", worker.url), ("leads", "http://127.0.0.1:1")):
            assert get(worker, url, **{"X-Leads-Forwarded": asked, "X-Leads-App": app})[0] == 421
        assert get(worker, url, **{"X-Leads-Forwarded": "1"})[0] == 421


def test_another_app_on_the_port_of_a_dead_worker_is_not_believed(installation: Installation) -> None:
    slow = {"LEADS_SESSION_TIMEOUT_S": "10"}
    workers = [worker.wait_ready() for worker in [installation.worker(**slow), installation.worker(**slow)]]
    sent = leads(16)
    receipts = [post(workers[0], one)[1] for one in sent]
    installation.assert_once(sent)
    with closing(sqlite3.connect(installation.directory / "var" / "crm.sqlite3")) as connection:
        connection.execute("DELETE FROM lead")
        connection.commit()
    workers[1].kill()
    other = {
        "LEADS_APP_ID": "leads-crm2",
        "LEADS_AGENTS": "crm_sink",
        "LEADS_SINK_URL": f"sqlite:///{installation.directory / 'other.sqlite3'}",
    }
    stranger = installation.worker(port=workers[1].port, **other).wait_ready()
    installation.wait(lambda: get(stranger, receipts[0]["status_url"])[1].get("state") == "written")
    answers = Counter(get(workers[0], receipt["status_url"])[0] for receipt in receipts)
    assert set(answers) <= {404, 503}, "it is in the other CRM alone"
    owners = {one["state"] for one in get(workers[0], "/tables")[1]["tables"][0]["partitions"]}
    assert owners == {"ready", "its worker does not answer"}


def test_what_is_asked_while_a_worker_starts_and_stops_is_never_answered_500(installation: Installation) -> None:
    worker = installation.worker()
    answers = Counter[int]()
    url = f"/leads/default/m-1?partition={partition(key(lead('m-1')))}&offset=0"

    def ask() -> bool:
        for one in (url, "/leads/default/m-1", "/tables", "/tables/seen?limit=5", "/tables/seen/default/m-1"):
            try:
                answers[get(worker, one)[0]] += 1
            except (OSError, json.JSONDecodeError):
                answers[0] += 1
        return worker.process.poll() is not None

    installation.wait(lambda: bool(ask() or worker.ready()))
    worker.process.terminate()
    installation.wait(ask)
    assert set(answers) <= {0, 200, 404, 503}, answers
    assert "Traceback" not in worker.text()


def test_errors_are_problems_or_pages(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    for url, status in (("/nothing", 404), ("/leads", 405), ("/tables/nothing", 404), ("/tables/seen?limit=0", 400)):
        assert get(worker, url)[1]["status"] == status
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(f"{worker.url}{url}", headers={"Accept": "text/html"}))
        assert (error.value.code, error.value.headers.get_content_type()) == (status, "text/html")
        assert error.value.headers.get("Allow") == ("POST" if status == 405 else None)


def test_the_dead_letters_as_a_page(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    refuse(installation, "m-1")
    post(worker, lead("m-1"))
    installation.wait_letters(1)
    request = urllib.request.Request(f"{worker.url}/tables/dead-letters", headers={"Accept": "text/html"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        html = answer.read().decode()
    number = partition(key(lead("m-1")))
    assert '<a href="/leads/default/m-1">default/m-1</a>' in html
    assert all(f"<td>{cell}</td>" in html for cell in ("rejected", f"lead-accepted/{number} at 0"))
    assert "{" not in html.split("</style>")[1]


def test_what_can_never_be_written_says_why(installation: Installation) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    refused, bad = lead("m-1"), lead("m-2")
    refuse(installation, "m-1")
    receipt = post(workers[0], refused)[1]
    installation.produce_raw([(key(bad), b"no lead")])
    installation.wait_letters(2)
    for worker in workers:
        for url in (path(refused), receipt["status_url"]):
            status, answer = get(worker, url)
            assert (status, answer["state"], answer["reason"]) == (200, "dead-lettered", "rejected")
        status, answer = get(worker, path(bad))
        assert (status, answer["state"], answer["reason"]) == (200, "dead-lettered", "invalid")
        place = answer["dead_letter"]
        (letter,) = [r for r in installation.records(topics.DEAD_LETTER) if r.key == key(bad)]
        assert (place["partition"], place["offset"]) == (letter.partition, letter.offset)


def test_what_is_not_known_is_not_found_and_a_receipt_must_fit(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    one = lead("m-1")
    number = partition(key(one))
    assert get(worker, path(one))[0] == 404
    assert get(worker, f"{path(one)}?partition={number}&offset=0")[0] == 404, "that log has no such record"
    for query in (
        f"?partition={(number + 1) % 8}&offset=0",
        "?partition=0",
        "?offset=x&partition=1",
        "?partition=&offset=",
    ):
        status, problem = get(worker, path(one) + query)
        assert (status, problem["type"]) == (400, "urn:problem-type:leads:bad-receipt")


def test_a_receipt_that_the_checkpoint_has_not_reached_is_pending(installation: Installation) -> None:
    go_on = installation.directory / "go-on"
    worker = installation.worker("tests.integration.faulty.unforwarded", FAULT_FILE=str(go_on)).wait_ready()
    one = lead("m-1")
    receipt = post(worker, one)[1]
    assert get(worker, receipt["status_url"])[1]["state"] == "pending"
    assert get(worker, path(one))[0] == 404, "without it, it is as unknown as any other"
    go_on.touch()
    installation.assert_once([one])
    assert get(worker, path(one))[1]["state"] == "written"


@pytest.mark.parametrize("instead", ["directory", "no database"])
def test_while_the_database_is_gone_nobody_claims_anything(installation: Installation, instead: str) -> None:
    worker = installation.worker().wait_ready()
    receipt = post(worker, lead("m-1"))[1]
    installation.assert_once([lead("m-1")])
    crm = installation.directory / "var" / "crm.sqlite3"
    crm.rename(crm.with_name("elsewhere.sqlite3"))
    if instead == "directory":
        crm.mkdir()
    else:
        crm.write_text(instead * 1000)
    status, problem = get(worker, receipt["status_url"])
    assert (status, problem["detail"]) == (503, "The CRM does not answer.")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_owner_is_gone_or_frozen(installation: Installation, number: signal.Signals) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    sent = leads(32)
    receipts = {one["message_id"]: post(workers[0], one)[1] for one in sent}
    installation.assert_once(sent)
    workers[1].signal(number)
    more = leads(32, "more")
    receipts |= {one["message_id"]: post(workers[0], one)[1] for one in more}
    answers = Counter[str]()
    for one in [*sent, *more]:
        status, answer = get(workers[0], path(one, receipts[one["message_id"]]))
        answers[answer["state"] if status == 200 else str(status)] += 1
        assert status in (200, 503), (one, status, answer)
    assert answers["written"] >= len(sent)
    workers[1].signal(signal.SIGCONT)
    installation.assert_once([*sent, *more])


def test_while_the_owner_recovers(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    sent = leads(50)
    receipts = [post(worker, one)[1] for one in sent]
    installation.assert_once(sent)
    worker.kill()
    wipe(installation)
    go_on = installation.directory / "go-on"
    worker = installation.worker("tests.integration.faulty.recovering", FAULT_FILE=str(go_on))
    installation.wait(lambda: any(one["remaining"] for one in recovery(worker)))
    assert {one["state"] for one in recovery(worker)} == {"recovering"}
    assert sum(one["remaining"] for one in recovery(worker)) == len(sent)
    assert get(worker, "/readyz")[1]["checks"]["tables"] == "recovering, 50 changelog records to go"
    status, answer = get(worker, path(sent[0]))
    assert (status, answer["state"]) == (200, "written"), "the CRM knows"
    assert get(worker, path(lead("unknown")))[0] == 503
    assert get(worker, f"/tables/seen/{key(sent[0]).decode()}")[0] == 503
    assert get(worker, "/tables/seen")[0] == 503
    captured = post(worker, one := lead("m-1"))[1]
    assert get(worker, captured["status_url"])[1]["state"] == "pending"
    go_on.touch()
    installation.assert_once([*sent, one])
    assert {one["state"] for one in recovery(worker)} == {"ready"}
    assert [get(worker, receipt["status_url"])[1]["state"] for receipt in receipts] == ["written"] * len(sent)


def recovery(worker: Worker) -> list[dict[str, Any]]:
    """The partitions of the table seen, as far as the worker can tell."""
    try:
        tables = get(worker, "/tables")[1]["tables"]
    except OSError:
        return []
    return [one for table in tables if table["name"] == "seen" for one in table["partitions"]]


class Watch:
    """Asks workers for leads, over and over, from threads; keeps every answer that is wrong."""

    def __init__(self, workers: list[Worker]) -> None:
        self.receipts: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.wrong: list[str] = []
        self.answers = Counter[str]()
        self._workers = workers
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[seed]) for seed in range(2)]

    def __enter__(self) -> Watch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        draw = random.Random(seed)
        written = set[str]()
        while not self._stop.wait(0.002):
            if not self.receipts:
                continue
            one, receipt = draw.choice(self.receipts)
            try:
                status, answer = get(draw.choice(self._workers), path(one, receipt))
            except (OSError, json.JSONDecodeError):
                self.answers["nobody"] += 1
                continue
            self._judge(one["message_id"], status, answer, written)

    def _judge(self, name: str, status: int, answer: Any, written: set[str]) -> None:
        state = answer["state"] if status == 200 else str(status)
        self.answers[state] += 1
        if state == "written":
            written.add(name)
        elif state not in ("pending", "503") or (state == "pending" and name in written):
            self.wrong.append(f"{name}: {state} {answer}")


def test_nothing_wrong_is_said_while_workers_die_and_recover(installation: Installation) -> None:
    # One after the other, so that the first has slot 1.
    workers = [installation.worker().wait_ready() for _ in range(2)]
    sent: list[dict[str, Any]] = []
    with Watch(workers) as watch:

        def send(prefix: str, to: Worker) -> None:
            for one in leads(60, prefix):
                status, receipt = post(to, one)
                assert status == 202
                sent.append(one)
                watch.receipts.append((one, receipt))

        send("before", workers[0])
        workers[0].kill()
        send("killed", workers[1])
        wipe(installation, "worker-1")
        workers[0] = installation.worker()
        send("starting", workers[1])
        workers[0].wait_ready()
        send("joined", workers[0])
        workers[1].stop()
        send("left", workers[0])
        workers[1] = installation.worker()
        send("again", workers[0])
        workers[1].wait_ready()
        installation.assert_once(sent)
        installation.wait(lambda: watch.answers["written"] > 100)
    assert watch.wrong == []
    for one in sent:
        assert {get(worker, path(one))[1]["state"] for worker in workers} == {"written"}


def test_another_app_answers_for_its_own_crm(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    other_crm = installation.directory / "other.sqlite3"
    settings = {"LEADS_APP_ID": "leads-crm2", "LEADS_AGENTS": "crm_sink", "LEADS_SINK_URL": f"sqlite:///{other_crm}"}
    other = installation.worker(**settings).wait_ready()
    refuse(installation, "m-1")
    one, two = lead("m-1"), lead("m-2")
    receipts = [post(worker, one)[1], post(other, two)[1]]
    installation.wait(lambda: installation.lag(topics.CAPTURED) == 0)  # first: what follows has no end before
    for group in ("leads", "leads-crm2"):
        installation.wait(lambda group=group: installation.lag(topics.ACCEPTED, group) == 0)
        installation.wait(lambda group=group: installation.lag(topics.DEAD_LETTER, group) == 0)
    assert [get(worker, receipt["status_url"])[1]["state"] for receipt in receipts] == ["dead-lettered", "written"]
    answers = [get(other, receipt["status_url"])[1] for receipt in receipts]
    assert [answer["state"] for answer in answers] == ["written", "written"]
    assert "times_received" not in answers[0], "only the app that dedupes counts"
    assert get(other, path(lead("m-3")))[0] == 404
    assert [table["name"] for table in get(other, "/tables")[1]["tables"]] == ["dead-letters"]


def test_the_tables_page_by_page_from_any_worker(installation: Installation) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    sent = [*leads(200), *leads_in(3, 40)]
    installation.produce(sent)
    installation.assert_once(sent)
    for worker in workers:
        found: list[dict[str, Any]] = []
        url = "/tables/seen?limit=17"
        while url:
            status, answer = get(worker, url)
            assert status == 200
            assert len(answer["entries"]) <= 17
            found += answer["entries"]
            url = answer["next"]
        assert sorted(entry["key"] for entry in found) == sorted(key(one).decode() for one in sent)
        assert len({entry["owner"] for entry in found}) == 2
        assert all(entry["partition"] == partition(entry["key"].encode()) for entry in found)
        assert [entry["partition"] for entry in found] == sorted(entry["partition"] for entry in found)
        only = get(worker, "/tables/seen?partition=3&limit=1000")[1]["entries"]
        assert only == [entry for entry in found if entry["partition"] == 3]
        for url in (
            "/tables/seen?limit=0",
            "/tables/seen?limit=1001",
            "/tables/seen?from=x",
            "/tables/seen?partition=8",
        ):
            assert get(worker, url)[0] == 400
        assert get(worker, "/tables/nothing")[0] == 404
        assert get(worker, "/tables/seen/default/unknown")[0] == 404


def test_the_list_of_tables_says_who_has_what_and_how_far_it_is(installation: Installation) -> None:
    workers = [worker.wait_ready() for worker in [installation.worker(), installation.worker()]]
    sent = leads(100)
    installation.produce(sent)
    installation.assert_once(sent)
    changelog = installation.ends(topics.changelog("leads", "seen"))
    for worker in workers:
        tables = {table["name"]: table["partitions"] for table in get(worker, "/tables")[1]["tables"]}
        assert sorted(tables) == ["dead-letters", "seen"]
        for one in tables["seen"]:
            assert (one["state"], one["remaining"]) == ("ready", 0)
            assert one["changelog_offset"] == changelog[one["partition"]]
        assert {one["owner"] for one in tables["seen"]} == {worker.url for worker in workers}
    workers[1].signal(signal.SIGSTOP)
    states = Counter(one["state"] for one in get(workers[0], "/tables")[1]["tables"][0]["partitions"])
    assert states == {"ready": 4, "its worker does not answer": 4}
    workers[1].signal(signal.SIGCONT)
