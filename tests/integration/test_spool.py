"""A broker that is away: leads are on the disk when they are answered 202, and in the CRM once when it is back."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pipeline.spool import holds, look, spool_path
from pipeline.topics import CAPTURED
from tests.integration.asking import get, post
from tests.integration.installation import ROOT, Installation, Worker, key, lead, leads, partition
from tests.integration.test_form import new_form, request

pytestmark = pytest.mark.integration

MARK = "marked@private.example"


def audited(installation: Installation) -> dict[str, Any]:
    """What `leads audit` says."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "audit", "--json"], cwd=ROOT, env={**os.environ, **installation._settings},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_directory(installation: Installation) -> bytes:
    return b"".join(one.read_bytes() for one in (installation.directory / "var").glob("spool*"))


def test_a_spool_outlives_its_worker_and_whoever_starts_next_sends_it(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    path = spool_path(installation.settings.data_dir)
    before = lead("before")
    assert post(worker, before)[0] == 202
    assert not path.exists()
    installation.broker.kill()

    one, many, form = lead("one", email=MARK), leads(300), new_form(worker)
    status, receipt = post(worker, one)
    assert (status, receipt) == (
        202,
        {"message_id": "one", "tenant": "default", "spooled": True, "status_url": "/leads/default/one?spooled=true"},
    )
    assert holds(path, key(one))
    assert path.stat().st_mode & 0o777 == 0o600
    status, answer = post(worker, [*many, {"name": "no lead"}])
    assert status == 202
    assert [result.get("spooled") for result in answer["results"]] == [True] * 300 + [None]
    status, location, _ = request(worker, "POST", "/leads", form.body(email=MARK))
    assert status == 303
    by_form = form.value("message_id")
    assert location == f"/leads/default/{by_form}?spooled=true"
    assert look(path).depth == 302

    # What is known of it while nobody can ask the broker.
    for url in (receipt["status_url"], "/leads/default/one"):
        assert get(worker, url) == (200, {"tenant": "default", "message_id": "one", "state": "pending"})
    assert "stored safely" in request(worker, "GET", location)[2]
    installation.wait(lambda: get(worker, "/readyz")[1]["spool"]["depth"] == 302)
    assert get(worker, "/readyz")[1]["spool"].keys() == {"depth", "age_s"}

    # From here on another worker has to do it.
    worker.kill()
    installation.broker.start()
    audit = audited(installation)
    assert audit["spooled"]["depth"] == 302
    assert audit["spooled"]["age_s"] > 0
    assert audit["anomalies"] == 0
    other = installation.worker().wait_ready()
    installation.assert_once([before, one, *many, lead(by_form)])
    assert installation.dead_letters() == []
    assert get(other, receipt["status_url"])[1]["state"] == "written"
    assert audited(installation)["spooled"]["depth"] == 0
    installation.wait(lambda: MARK.encode() not in in_directory(installation))
    assert "offset" in post(other, lead("after"))[1]
    assert MARK not in installation.logs()
    assert "Traceback" not in installation.logs()
    assert other.stop() == 0


def refused(worker: Worker, body: dict[str, Any]) -> str | None:
    """The Retry-After with which a lead is refused; None: it is not."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    try:
        connection.request("POST", "/leads", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.load(answer)
        assert (answer.status, found.get("spooled"), found.get("title")) in (
            (202, True, None),
            (503, None, "Not acknowledged"),
        )
        return answer.getheader("Retry-After")
    finally:
        connection.close()


def test_workers_that_only_capture_share_a_spool_that_can_be_full_and_go_on_without_a_restart(
    installation: Installation,
) -> None:
    settings = {"LEADS_AGENTS": "none", "LEADS_SPOOL_MAX_BYTES": "200000"}
    workers = [installation.worker(**settings).wait_ready() for _ in range(2)]
    installation.broker.kill()
    accepted: list[dict[str, Any]] = []
    retry_after = None
    while retry_after is None:
        one = lead(f"m-{len(accepted)}", fields={"text": "x" * 5000})
        retry_after = refused(workers[len(accepted) % 2], one)
        accepted += [one] if retry_after is None else []
    assert retry_after == "5"
    assert 10 < len(accepted) < 40
    for worker in workers:
        for one in (accepted[0], accepted[-1]):
            assert get(worker, f"/leads/default/{one['message_id']}")[1]["state"] == "pending"
        assert get(worker, "/leads/default/unknown")[0] == 503
    assert "stored safely" in request(workers[0], "GET", "/leads/default/m-0")[2]

    installation.broker.start()
    for worker in workers:
        installation.wait(lambda: "offset" in post(worker, lead("again"))[1])  # noqa: B023 - it is over by then
    installation.wait(lambda: installation.spooled == 0)
    found = {record.key for record in installation.records(CAPTURED)}
    assert found == {key(one) for one in [*accepted, lead("again")]}
    for worker in workers:
        installation.wait(lambda: get(worker, "/readyz")[1]["spool"] == {"depth": 0, "age_s": 0.0})  # noqa: B023
        assert "Leads go to the spool: the broker does not acknowledge" in worker.text()
        assert "The broker acknowledges again: leads go there" in worker.text()
        assert worker.stop() == 0
    assert "Traceback" not in installation.logs()


def captures(installation: Installation, worker: Worker, one: dict[str, Any]) -> None:
    """Send a lead until the worker answers: 202, from the spool."""

    def answered() -> bool:
        try:
            status, receipt = post(worker, one)
        except OSError:
            assert worker.process.poll() is None
            return False
        assert (status, receipt.get("spooled")) == (202, True)
        return True

    installation.wait(answered)


def test_a_worker_that_starts_while_the_broker_is_away_captures_as_soon_as_it_can(installation: Installation) -> None:
    first = installation.worker().wait_ready()
    workers_of = get(first, "/healthz")[1]["workers_of"]
    before = lead("before")
    receipt = post(first, before)[1]
    installation.wait(lambda: get(first, receipt["status_url"])[1]["state"] == "written")
    first.kill()
    installation.broker.kill()

    stopped = installation.worker()
    captures(installation, stopped, lead("one"))
    assert get(stopped, "/healthz")[1]["workers_of"] == workers_of
    assert get(stopped, "/leads/default/one")[1]["state"] == "pending"
    # What the CRM knows can be told; what needs the broker cannot yet.
    assert get(stopped, receipt["status_url"])[1]["state"] == "written"
    for path in ("/readyz", "/leads/default/two", "/tables/seen", "/tables/seen/default%2Fone"):
        assert get(stopped, path)[0] == 503
    of_receipt = f"/leads/default/two?partition={partition(key(lead('two')))}&offset=0"
    assert get(stopped, of_receipt)[1]["detail"] == "This worker starts or stops."
    installation.wait(lambda: get(stopped, "/readyz")[1]["spool"]["depth"] == 1)
    assert request(stopped, "GET", "/")[0] == 200
    assert stopped.stop() == 0

    killed = installation.worker()
    captures(installation, killed, lead("two"))
    killed.kill()

    installation.broker.start()
    installation.broker.pause()
    last = installation.worker()
    captures(installation, last, lead("three"))
    installation.broker.resume()
    last.wait_ready()
    installation.assert_once([before, lead("one"), lead("two"), lead("three")])
    assert "offset" in post(last, lead("after"))[1]
    assert last.stop() == 0
    assert "Traceback" not in installation.logs()
