"""From the form to the CRM: a real worker, a real broker, and what a browser sends."""

from __future__ import annotations

import http.client
import json

import pytest

from pipeline import topics
from tests.integration.installation import Installation, Worker
from tests.page_reader import Page

pytestmark = pytest.mark.integration

BROWSER = {"Accept": "text/html,*/*;q=0.8", "Content-Type": "application/x-www-form-urlencoded"}


def request(worker: Worker, method: str, path: str, body: bytes | None = None) -> tuple[int, str | None, str]:
    """Status, Location and page."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=30)
    try:
        connection.request(method, path, body, BROWSER)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location"), answer.read().decode()
    finally:
        connection.close()


def new_form(worker: Worker) -> Page:
    status, _, html = request(worker, "GET", "/")
    assert status == 200
    return Page(html)


def sent(message_id: str) -> dict[str, str]:
    return {"tenant": "default", "message_id": message_id}


def test_a_form_sent_twice_becomes_one_row(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    form = new_form(worker)
    name = form.value("message_id")
    body = form.body(email="zoe@private.example", name="Zoë", message="First line\nsecond <b>line</b>")
    for _ in range(2):
        status, location, _ = request(worker, "POST", "/leads", body)
        assert status == 303
        assert str(location).startswith(f"/leads/default/{name}?partition=")
    installation.assert_once([sent(name)])
    ((email, source, fields),) = installation.query("SELECT email, source, fields FROM lead")
    assert (email, source) == ("zoe@private.example", "form")
    assert json.loads(fields) == {"message": "First line\nsecond <b>line</b>"}
    assert len(installation.records(topics.CAPTURED)) == 2
    assert installation.dead_letters() == []
    assert "private.example" not in worker.text()


def test_what_was_not_confirmed_is_on_the_page_and_sent_again_it_is_one_row(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    form = new_form(worker)
    body = form.body(email="zoe@private.example", message='\nA "quoted" & <b>bold</b> line\n')
    installation.broker.kill()
    status, _, html = request(worker, "POST", "/leads", body)
    assert status == 503
    again = Page(html)
    assert again.value("message_id") == form.value("message_id")
    assert again.value("email") == "zoe@private.example"
    assert again.value("message") == '\nA "quoted" & <b>bold</b> line\n'
    installation.broker.start()
    installation.wait(lambda: request(worker, "POST", "/leads", again.body())[0] == 303)
    installation.assert_once([sent(form.value("message_id"))])
    assert installation.dead_letters() == []
    assert "private.example" not in worker.text()
