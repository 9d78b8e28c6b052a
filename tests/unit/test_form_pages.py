"""`/forms/{name}` over a real socket: what the server adds and checks, who is suspected, which sites may call."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uuid_utils
from aiohttp import ClientResponse

from pipeline.lead import decode
from pipeline.web.access import Access
from pipeline.web.bounds import BURST_S, Load, RateLimit
from pipeline.web.capture import Headers
from tests.page_reader import Page
from tests.unit.capture_server import Client, Topic, serve

FORMS = """
[[form]]
name = "first"
title = "The first"
[[form.field]]
name = "email"
label = "Email"

[[form]]
name = "trade-fair"
title = "Stand 7"
language = "en"
thanks = "See you there."
accent = "#ffd400"
tenant = "acme"
campaign = "fair"
source = "stand"
origins = ["https://www.example.com", "http://localhost:8000"]
fill_time_min_s = 3
picture = ""
note = "What we do with it"
note_url = "https://www.example.com/privacy"
[[form.field]]
name = "email"
label = "Email"
[[form.field]]
name = "size"
label = "How many?"
type = "select"
options = ["1", "2 to 9", "more"]
required = true
[[form.field]]
name = "terms"
label = "I agree"
type = "checkbox"
required = true
hint = "To our terms."
[[form.field]]
name = "note"
label = "Note"
max_length = 10
"""
PATH = "/forms/trade-fair"
ALLOWED = "https://www.example.com"
GOOD = {"email": "a@example.com", "size": "more", "terms": "yes"}
HTML = {"Accept": "text/html"}


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
async def client(topic: Topic, tmp_path: Path) -> AsyncIterator[Client]:
    (tmp_path / "forms.toml").write_text(FORMS)
    async for client in serve(topic, forms=tmp_path / "forms.toml"):
        yield client


async def send(client: Client, fields: dict[str, Any], headers: dict[str, str] | None = None) -> ClientResponse:
    body = urlencode(fields, doseq=True).encode()
    more = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"} | (headers or {})
    return await client.post(PATH, data=body, headers=more, allow_redirects=False)


def made_before(seconds: float) -> str:
    """The id of a page that was made so long ago."""
    time_ms = time.time_ns() // 1_000_000 - int(seconds * 1000)
    random = uuid.uuid4().int & ~(0xFFFF << 76) & ((1 << 80) - 1)
    return str(uuid.UUID(int=time_ms << 80 | 7 << 76 | random & ~(3 << 62) | 2 << 62))


def suspect(topic: Topic) -> Headers:
    return topic.headers[-1]


class TestShown:
    async def test_the_first_one_is_at_the_root(self, client: Client) -> None:
        for path in ("/", "/forms/first"):
            found = Page(await (await client.get(path)).text())
            assert (found.action, "The first" in found.text) == ("/forms/first", True)
        assert (await client.head(PATH)).status == 200

    async def test_a_form_that_does_not_exist(self, client: Client) -> None:
        for path in ("/forms/x", "/forms/x/received"):
            assert (await client.get(path)).status == 404
        assert (await client.post("/forms/x", data={"email": "a"})).status == 404
        assert (await client.get("/forms/x", headers=HTML)).content_type == "text/html"

    async def test_words_and_fields_are_those_of_the_file(self, client: Client) -> None:
        response = await client.get(PATH)
        html = await response.text()
        found = Page(html)
        assert '<html lang="en">' in html
        assert "picture" not in found.tags
        assert list(found.attributes) == ["email", "size", "terms", "note"]
        assert found.attributes["note"]["maxlength"] == "10"
        assert "required" in found.attributes["email"]
        assert found.attributes["terms"]["aria-describedby"] == "terms-hint"
        assert "Email or phone is enough" not in found.text
        assert 'href="https://www.example.com/privacy"' in html
        assert response.headers["Content-Security-Policy"].endswith(
            "frame-ancestors 'self' https://www.example.com http://localhost:8000"
        )

    async def test_thanks(self, client: Client) -> None:
        reference = str(uuid_utils.uuid7())
        response = await client.get(f"{PATH}/received?reference={reference}")
        text = Page(await response.text()).text
        assert response.status == 200
        assert all(words in text for words in ("Thank you", "See you there.", reference))
        for wrong in ("", "?reference=x", "?reference=jane@example.com", f"?reference={reference}0"):
            text = Page(await (await client.get(f"{PATH}/received{wrong}")).text()).text
            assert "Thank you" in text
            assert "Reference" not in text


class TestSent:
    async def test_what_the_server_adds_is_the_servers(self, client: Client, topic: Topic) -> None:
        given = GOOD | {"tenant": "evil", "campaign": ["x", "y"], "source": "z", "utm": "u", "message_id": "m-1"}
        response = await send(client, {**given, "campaign": "x"})
        receipt = await response.json()
        assert (response.status, receipt["tenant"], receipt["message_id"]) == (202, "acme", "m-1")
        lead = decode(topic.records[0][1])
        assert (lead.tenant, lead.campaign, lead.source) == ("acme", "fair", "stand")
        assert lead.fields == {"size": "more", "terms": "yes", "utm": "u"}
        assert suspect(topic) == ()

    async def test_a_browser_is_sent_to_the_thanks(self, client: Client) -> None:
        response = await send(client, GOOD | {"message_id": "é/1"[:1]}, HTML)
        assert (response.status, response.headers["Location"]) == (303, f"{PATH}/received?reference=%C3%A9")

    @pytest.mark.parametrize(
        "change,field,message",
        [
            ({"email": " "}, "email", "Please fill this in."),
            ({"size": ""}, "size", "Please fill this in."),
            ({"size": "0"}, "size", "Please choose one of these."),
            ({"terms": ""}, "terms", "Please tick this."),
            ({"note": "x" * 11}, "note", "At most 10 characters, please: these are 11."),
            ({"message_id": "a/b"}, "message_id", "The form had no valid number of its own."),
        ],
    )
    async def test_what_the_form_wants_is_checked(
        self, client: Client, topic: Topic, change: dict[str, str], field: str, message: str
    ) -> None:
        response = await send(client, GOOD | change)
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["field"]) == (400, field)
        assert problem["message"].startswith(message)
        shown = Page(await (await send(client, GOOD | change, HTML)).text())
        assert shown.action == PATH
        if field in shown.attributes:
            assert shown.errors == {field: message}
        assert topic.records == []

    async def test_the_page_has_what_was_chosen(self, client: Client) -> None:
        html = await (await send(client, GOOD | {"email": ""}, HTML)).text()
        assert "<option selected>more</option>" in html
        assert 'value="yes" checked' in html

    async def test_a_body_that_is_no_form(self, client: Client) -> None:
        response = await client.post(PATH, json=GOOD)
        assert (response.status, response.content_type) == (415, "application/problem+json")

    async def test_not_acknowledged(self, client: Client, topic: Topic) -> None:
        topic.silent = {"*"}
        response = await send(client, GOOD | {"message_id": "m-1"})
        problem = await response.json(content_type=None)
        assert (response.status, response.headers["Retry-After"], problem["message_id"]) == (503, "5", "m-1")
        assert "counts once" in problem["message"]
        shown = Page(await (await send(client, GOOD | {"message_id": "m-1"}, HTML)).text())
        assert set(shown.hidden) == {"message_id", *GOOD}

    async def test_multipart(self, client: Client, topic: Topic) -> None:
        from aiohttp import FormData

        response = await client.post(PATH, data=FormData(GOOD, default_to_multipart=True))
        assert (response.status, len(topic.records)) == (202, 1)


class TestSuspect:
    """A program learns nothing of it: it is answered as everybody is."""

    async def test_the_field_that_nobody_sees(self, client: Client, topic: Topic) -> None:
        response = await send(client, GOOD | {"confirm_url": "http://spam.example"})
        assert response.status == 202
        assert suspect(topic) == (("suspect", b"honeypot"),)
        assert "confirm_url" not in decode(topic.records[0][1]).fields
        assert (await send(client, GOOD | {"confirm_url": ""})).status == 202
        assert suspect(topic) == ()

    @pytest.mark.parametrize(
        "before_s,is_suspect", [(0.0, True), (2.0, True), (3.5, False), (90000, False), (-5, False)]
    )
    async def test_the_time_since_the_page_was_made(
        self, client: Client, topic: Topic, before_s: float, is_suspect: bool
    ) -> None:
        assert (await send(client, GOOD | {"message_id": made_before(before_s)}, HTML)).status == 303
        assert suspect(topic) == ((("suspect", b"fill-time"),) if is_suspect else ())

    @pytest.mark.parametrize("message_id", ["m-1", "0b8c1d9e-6a51-4f0e-9d57-3b1f6f8a2c44"])
    async def test_an_id_without_a_time_is_not_timed(self, client: Client, topic: Topic, message_id: str) -> None:
        assert (await send(client, GOOD | {"message_id": message_id})).status == 202
        assert suspect(topic) == ()

    async def test_a_form_that_was_refused_is_not_timed(self, client: Client, topic: Topic) -> None:
        """It had no id of ours, and gets one when the page with the errors is made: whoever mends it is fast."""
        topic.silent = {"*"}
        for fields in ({}, GOOD):
            again = Page(await (await send(client, fields, HTML)).text())
            assert again.value("message_id")[14] != "7"
        topic.silent = set()
        assert (await send(client, GOOD | {"message_id": again.value("message_id")})).status == 202
        assert suspect(topic) == ()

    async def test_post_leads_suspects_nobody(self, client: Client, topic: Topic) -> None:
        for body in ({"phone": "1", "confirm_url": "x"}, {"phone": "1", "message_id": made_before(0)}):
            assert (await client.post("/leads", data=body)).status == 202
            assert suspect(topic) == ()


class TestTooMuch:
    """Whoever has typed something gets it back."""

    async def test_an_address_that_sends_too_much(self, topic: Topic, tmp_path: Path) -> None:
        (tmp_path / "forms.toml").write_text(FORMS)
        proxied = Access(proxies=[ip_network("127.0.0.0/8")])
        async for client in serve(topic, forms=tmp_path / "forms.toml", access=proxied, rate_limit=RateLimit(1)):
            headers = HTML | {"X-Forwarded-For": "192.0.2.1"}
            statuses = [(await send(client, GOOD, headers)).status for _ in range(BURST_S)]
            assert statuses == [303] * BURST_S
            response = await send(client, GOOD, headers)
            assert (response.status, response.headers["Retry-After"]) == (429, "1")
            assert Page(await response.text()).value("email") == GOOD["email"]

    async def test_a_worker_that_is_full(self, topic: Topic, tmp_path: Path) -> None:
        (tmp_path / "forms.toml").write_text(FORMS)
        load = Load(1, 1 << 20)
        async for client in serve(topic, forms=tmp_path / "forms.toml", load=load):
            load.enter(0)
            response = await send(client, GOOD, HTML)
            assert response.status == 503
            load.leave(0)


class TestOrigins:
    @pytest.mark.parametrize("origin", [ALLOWED, "http://localhost:8000"])
    async def test_an_origin_of_the_form(self, client: Client, origin: str) -> None:
        asked = await client.options(PATH, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert asked.status == 204
        assert asked.headers["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
        answers = [asked, await client.head(PATH, headers={"Origin": origin})]
        answers += [await send(client, fields, {"Origin": origin}) for fields in (GOOD, {})]
        for answer in answers:
            assert answer.headers["Access-Control-Allow-Origin"] == origin
            assert "Origin" in ", ".join(answer.headers.getall("Vary"))
            assert "Access-Control-Allow-Credentials" not in answer.headers

    @pytest.mark.parametrize("origin", ["https://example.com", "https://www.example.com.evil.example", "null", "*", ""])
    async def test_any_other(self, client: Client, topic: Topic, origin: str) -> None:
        headers = {"Origin": origin}
        for answer in (await client.options(PATH, headers=headers), await send(client, GOOD, headers)):
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
        # A form of any site may be sent by its button.
        assert len(topic.records) == 1

    async def test_a_form_without_origins(self, client: Client) -> None:
        answer = await client.options("/forms/first", headers={"Origin": ALLOWED})
        assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (204, False)
