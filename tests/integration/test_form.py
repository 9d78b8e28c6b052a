"""From the form to the CRM: a real worker, a real broker, and what a browser sends; once from a real browser."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
from pathlib import Path

import pytest
from playwright.async_api import expect

from pipeline import topics
from tests.integration.browser import PATIENCE_MS, chromium, visit
from tests.integration.installation import Installation, Worker
from tests.page_reader import Page

pytestmark = pytest.mark.integration

#: Tests fill in a form faster than people.
FORMS = """
[[form]]
name = "contact"
title = "Contact"
fill_time_min_s = 0
tenant = "acme"
campaign = "spring"
field = [
    { name = "name", label = "Name" }, { name = "email", label = "Email" },
    { name = "message", label = "Message", type = "textarea" },
]
"""
BROWSER = {"Accept": "text/html,*/*;q=0.8", "Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def forms(installation: Installation) -> str:
    """The file with the form."""
    path: Path = installation.directory / "forms.toml"
    path.write_text(FORMS)
    return str(path)


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
    return {"tenant": "acme", "message_id": message_id}


def test_a_form_sent_twice_becomes_one_row(installation: Installation, forms: str) -> None:
    worker = installation.worker(LEADS_FORMS=forms).wait_ready()
    form = new_form(worker)
    name = form.value("message_id")
    body = form.body(email="zoe@private.example", name="Zoë", message="First line\nsecond <b>line</b>")
    for _ in range(2):
        status, location, _ = request(worker, "POST", "/forms/contact", body)
        assert (status, location) == (303, f"/forms/contact/received?reference={name}")
    assert name in request(worker, "GET", str(location))[2]
    installation.assert_once([sent(name)])
    ((email, source, campaign, fields),) = installation.query("SELECT email, source, campaign, fields FROM lead")
    assert (email, source, campaign) == ("zoe@private.example", "form", "spring")
    assert json.loads(fields) == {"message": "First line\nsecond <b>line</b>"}
    assert len(installation.records(topics.CAPTURED)) == 2
    assert installation.dead_letters() == []
    assert "private.example" not in worker.text()


def test_what_was_not_confirmed_is_on_the_page_and_sent_again_it_is_one_row(
    installation: Installation, forms: str
) -> None:
    worker = installation.worker(LEADS_FORMS=forms, LEADS_SPOOL_MAX_BYTES="0").wait_ready()
    form = new_form(worker)
    body = form.body(email="zoe@private.example", message='\nA "quoted" & <b>bold</b> line\n')
    installation.broker.kill()
    status, _, html = request(worker, "POST", "/forms/contact", body)
    assert status == 503
    again = Page(html)
    assert again.value("message_id") == form.value("message_id")
    assert again.value("email") == "zoe@private.example"
    assert again.value("message") == '\nA "quoted" & <b>bold</b> line\n'
    installation.broker.start()
    installation.wait(lambda: request(worker, "POST", "/forms/contact", again.body())[0] == 303)
    installation.assert_once([sent(form.value("message_id"))])
    assert installation.dead_letters() == []
    assert "private.example" not in worker.text()


def test_what_is_sent_while_the_worker_is_gone_is_kept_in_the_browser_and_becomes_one_row(
    installation: Installation, forms: str
) -> None:
    worker = installation.worker(LEADS_FORMS=forms).wait_ready()

    async def sent_meanwhile() -> str:
        async with chromium() as browser, visit(browser) as seen:
            await seen.go(worker.url)
            name = await seen.page.input_value("[name=message_id]")
            worker.kill()
            await seen.page.fill("#email", "zoe@private.example")
            await seen.page.click("form button")
            await expect(seen.page.get_by_role("heading", name="Not confirmed yet")).to_be_visible(timeout=PATIENCE_MS)
            assert await seen.kept() == [name]
            installation.worker(port=worker.port, LEADS_FORMS=forms).wait_ready()
            await seen.page.evaluate("dispatchEvent(new Event('online'))")
            await expect(seen.page.get_by_role("heading", name="Thank you")).to_be_visible(timeout=PATIENCE_MS)
            assert await seen.kept() == []
            return name

    name = asyncio.run(sent_meanwhile())
    installation.assert_once([sent(name)])
    assert installation.dead_letters() == []
    assert "private.example" not in installation.logs()


def test_forms_that_cannot_be_used_are_refused_at_the_start(installation: Installation) -> None:
    path: Path = installation.directory / "forms.toml"
    path.write_text(FORMS.replace("acme", "a b"))
    status, last = installation.worker(LEADS_FORMS=str(path)).refused()
    assert status == os.EX_CONFIG
    assert (
        last == f"Cannot go on: {path} cannot be used: form contact: tenant: 1 to 64 letters, digits, '.', '_' or '-'."
    )
