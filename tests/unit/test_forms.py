"""Form posts over a real socket, with a double of our own `Publisher`: those of our page, and `POST /leads`."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientResponse, FormData
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lead import LEAD_SIZE_MAX_BYTES, content_hash, decode
from pipeline.web.forms_file import BUILT_IN
from tests.page_reader import Page
from tests.unit.capture_server import SECRET, Client, Topic, serve

URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
CONTACT = BUILT_IN["contact"]
NAMES = [field.name for field in CONTACT.fields]
HOSTILE = "\"><script>alert('1')</script>&amp;{{ 7 * 7 }}"


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
async def client(topic: Topic) -> AsyncIterator[Client]:
    async for client in serve(topic):
        yield client


async def send(client: Client, body: bytes, *, to: str = "/leads", **headers: str) -> ClientResponse:
    """Post what a browser's button sends."""
    headers = {**URLENCODED, **BROWSER, **headers}
    return await client.post(to, data=body, headers=headers, allow_redirects=False)


async def press(client: Client, form: Page, **typed: str) -> ClientResponse:
    """Press the button of a form."""
    assert form.action is not None
    return await send(client, form.body(**typed), to=form.action)


async def new_form(client: Client) -> Page:
    return Page(await (await client.get("/", headers=BROWSER)).text())


async def page(response: ClientResponse, status: int) -> Page:
    text = await response.text()
    assert response.status == status, text
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    found = Page(text)
    assert found.alert
    assert found.fields == [] or found.action == response.url.path
    return found


class TestForm:
    async def test_it_is_not_stored_and_loads_nothing_from_anywhere_else(self, client: Client) -> None:
        response = await client.get("/")
        assert response.status == 200
        assert response.headers["Cache-Control"] == "no-store"
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        for directive in ("script-src 'self'", "connect-src 'self'", "form-action 'self'", "frame-ancestors 'self'"):
            assert directive in policy.split("; ")
        assert "unsafe" not in policy
        html = await response.text()
        assert "iframe" not in Page(html).tags
        assert "http:" not in html
        assert "https:" not in html

    async def test_head(self, client: Client) -> None:
        response = await client.head("/")
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert await response.read() == b""

    async def test_each_has_an_id_of_its_own(self, client: Client) -> None:
        names = [(await new_form(client)).value("message_id") for _ in range(3)]
        assert [uuid.UUID(name).version for name in names] == [7, 7, 7]
        assert len(set(names)) == 3

    async def test_nothing_is_marked_as_required_that_is_not(self, client: Client) -> None:
        form = await new_form(client)
        assert list(form.attributes) == NAMES
        assert not any("required" in attributes for attributes in form.attributes.values())
        assert form.hidden == ["message_id"]
        assert "Email or phone is enough" in form.text

    @pytest.mark.parametrize("name", NAMES)
    async def test_as_much_as_can_be_typed_can_be_sent(self, client: Client, name: str) -> None:
        form = await new_form(client)
        longest = int(form.attributes[name]["maxlength"] or 0)
        typed = {"email": "jane@example.com", name: "é" * longest}
        assert (await press(client, form, **typed)).status == 303
        refused = await page(await press(client, form, **typed | {name: "é" * (longest + 1)}), 400)
        assert refused.errors == {name: f"At most {longest} characters, please: these are {longest + 1}."}

    async def test_all_of_it_at_its_longest_fits(self, client: Client, topic: Topic) -> None:
        form = await new_form(client)
        typed = {name: "漢" * int(found["maxlength"] or 0) for name, found in form.attributes.items()}
        assert (await press(client, form, **typed)).status == 303
        assert decode(topic.records[0][1]).fields == {"message": typed["message"]}


class TestPost:
    async def test_a_browser_goes_to_its_receipt(self, client: Client) -> None:
        response = await send(client, b"phone=1&message_id=m-1")
        assert response.status == 303
        assert response.headers["Location"] == "/leads/default/m-1?partition=3&offset=0"
        assert response.headers["Cache-Control"] == "no-store"

    async def test_from_our_page_it_goes_to_our_thanks(self, client: Client, topic: Topic) -> None:
        form = await new_form(client)
        response = await press(client, form, email="zoe@example.com", name="Zoë", message="a\nb")
        name = form.value("message_id")
        assert response.status == 303
        assert response.headers["Location"] == f"/forms/contact/received?reference={name}"
        assert response.headers["Cache-Control"] == "no-store"
        [(key, value)] = topic.records
        assert key == f"default/{name}".encode()
        lead = json.loads(value)
        del lead["captured_at"]
        assert lead == {
            "message_id": name, "tenant": "default", "email": "zoe@example.com", "name": "Zoë", "source": "form",
            "fields": {"message": "a\nb"},
        }  # fmt: skip

    async def test_sent_twice_it_is_the_same_lead(self, client: Client, topic: Topic) -> None:
        form = await new_form(client)
        responses = await asyncio.gather(*(press(client, form, phone="1", message="x") for _ in range(2)))
        assert [response.status for response in responses] == [303, 303]
        first, second = (decode(value) for _, value in topic.records)
        assert content_hash(first) == content_hash(second)

    async def test_names_that_come_again_become_a_list(self, client: Client, topic: Topic) -> None:
        response = await send(client, b"phone=1&x=b&y=&x=a", Accept="*/*")
        assert response.status == 202
        assert decode(topic.records[0][1]).fields == {"x": ["b", "a"], "y": ""}

    async def test_multipart(self, client: Client, topic: Topic) -> None:
        form = FormData({"email": "zoe@example.com", "tenant": "acme", "message": "a\r\nb"}, default_to_multipart=True)
        response = await client.post("/leads", data=form)
        assert response.status == 202
        assert (await response.json())["tenant"] == "acme"
        assert decode(topic.records[0][1]).fields == {"message": "a\nb"}

    @pytest.mark.parametrize("header", ["k-1", '"k-1"'])
    async def test_the_idempotency_key_is_the_id(self, client: Client, header: str) -> None:
        for body in (b"phone=1", b"phone=1&message_id=k-1"):
            response = await send(client, body, **{"Idempotency-Key": header})
            assert response.headers["Location"].startswith("/leads/default/k-1?")
        assert (await send(client, b"phone=1&message_id=k-2", **{"Idempotency-Key": header})).status == 400

    async def test_the_address_of_the_receipt_is_quoted(self, client: Client) -> None:
        response = await send(client, "phone=1&message_id=é 1?%26%23%25".encode())
        assert response.headers["Location"] == "/leads/default/%C3%A9%201%3F%26%23%25?partition=3&offset=0"

    @given(values=st.dictionaries(st.text("abcé\r\n\"'<&% ", min_size=1), st.text(max_size=20), max_size=5))
    def test_any_fields(self, values: dict[str, str]) -> None:
        values = {name.replace("\r", "\n"): text.replace("\r", "\n").replace("\0", "") for name, text in values.items()}
        topic = Topic()

        async def post() -> None:
            async for client in serve(topic):
                assert (await send(client, urlencode({**values, "phone": "1"}).encode())).status == 303

        asyncio.run(post())
        assert decode(topic.records[0][1]).fields == values


class TestWho:
    """A page for a form from a browser; JSON, as ever, for everybody and everything else."""

    @pytest.mark.parametrize(
        "accept,is_browser",
        [
            (BROWSER["Accept"], True),
            ("text/html", True),
            ("TEXT/HTML;level=1;q=0.001", True),
            ("application/json, text/html;q=0.1", True),
            ("*/*", False),
            ("", False),
            ("text/*", False),
            ("application/json", False),
            ("text/html;q=0", False),
            ("text/html; q=0.000, */*", False),
            ("text/html;q=nan", False),
            ("text/html;q=-1", False),
            ("application/xhtml+xml", False),
        ],
    )
    async def test_form(self, client: Client, accept: str, is_browser: bool) -> None:
        good, bad = await send(client, b"phone=1", Accept=accept), await send(client, b"x=1", Accept=accept)
        assert (good.status, bad.status) == (303 if is_browser else 202, 400)
        assert good.content_type == ("application/octet-stream" if is_browser else "application/json")
        assert bad.content_type == ("text/html" if is_browser else "application/problem+json")

    async def test_json(self, client: Client, topic: Topic) -> None:
        response = await client.post("/leads", json={"phone": "1"}, headers=BROWSER)
        assert (response.status, response.content_type) == (202, "application/json")
        response = await client.post("/leads", json={}, headers=BROWSER)
        assert (response.status, response.content_type) == (400, "application/problem+json")
        topic.silent = {"*"}
        response = await client.post("/leads", json={"phone": "1"}, headers=BROWSER)
        assert (response.status, response.content_type) == (503, "application/problem+json")

    async def test_text(self, client: Client) -> None:
        response = await send(client, b"phone=1", **{"Content-Type": "text/plain"})
        assert (response.status, response.content_type) == (415, "application/problem+json")
        assert "application/x-www-form-urlencoded" in (await response.json(content_type=None))["detail"]

    async def test_the_same_words_as_for_json(self, client: Client) -> None:
        for members in ({"name": "a"}, {"email": "a\0"}, {"phone": "1", "x\0": ""}, {"phone": "1", "tenant": ""}):
            as_json = await client.post("/leads", json=members)
            as_form = await send(client, urlencode(members).encode(), Accept="*/*")
            assert await as_json.read() == await as_form.read()
            assert as_json.status == 400


class TestProblem:
    async def test_nothing_to_reach_the_person(self, client: Client, topic: Topic) -> None:
        form = await new_form(client)
        shown = await page(await press(client, form, name=HOSTILE, message=f"\n\n{HOSTILE}\n", email=" "), 400)
        assert shown.errors == {"email": "Enter an email address or a phone number."}
        assert "Enter an email address" in shown.alert
        assert dict(shown.fields) == dict(form.fields) | {"name": HOSTILE, "message": f"\n\n{HOSTILE}\n", "email": " "}
        assert shown.tags.count("script") == 1
        assert topic.records == []
        assert (await press(client, shown, email="a@example.com")).status == 303
        lead = decode(topic.records[0][1])
        assert (lead.message_id, lead.name) == (form.value("message_id"), HOSTILE)
        assert lead.fields == {"message": f"\n\n{HOSTILE}\n"}

    async def test_what_our_form_does_not_have_is_hidden(self, client: Client, topic: Topic) -> None:
        sent = [("tenant", "acme"), ("x", HOSTILE), ("name", "a"), ("x", "2"), ("message", "m"), ("message", "n")]
        shown = await page(await client.post("/leads", data=FormData(sent), headers=BROWSER), 400)
        assert sorted(shown.hidden) == ["message", "message_id", "tenant", "x", "x"]
        assert (await send(client, shown.body(phone="1"))).status == 303
        lead = decode(topic.records[0][1])
        assert (lead.tenant, lead.name) == ("acme", "a")
        assert lead.fields == {"x": [HOSTILE, "2"], "message": ["m", "n"]}

    async def test_what_came_twice_comes_once_on_the_page(self, client: Client) -> None:
        shown = await page(await send(client, b"email=a&email=b&campaign=c&name="), 400)
        assert shown.errors == {"email": "This was sent more than once; only the first is shown."}
        assert shown.value("email") == "a"
        shown = await page(await send(client, b"email=a&campaign=c&campaign=d"), 400)
        assert "“campaign” came with the form" in shown.alert
        assert shown.value("campaign") == "c"
        assert (await send(client, shown.body())).status == 303

    @pytest.mark.parametrize("name", [b"message_id=", b"message_id=a%2Fb", b"message_id=a&message_id=b"])
    async def test_a_bad_id_is_replaced(self, client: Client, name: bytes) -> None:
        shown = await page(await send(client, name + b"&phone=1"), 400)
        assert uuid.UUID(shown.value("message_id")).version == 4
        assert (await send(client, shown.body())).status == 303

    async def test_a_field_that_nobody_can_mend(self, client: Client) -> None:
        shown = await page(await send(client, b"phone=1&tenant=a%20b"), 400)
        assert shown.errors == {}
        assert "“tenant” came with the form" in shown.alert
        assert shown.value("tenant") == "a b"

    async def test_files(self, client: Client, topic: Topic) -> None:
        form = FormData({"phone": "1", "x": "y"})
        form.add_field("cv", b"%PDF", filename="cv.pdf")
        shown = await page(await client.post("/leads", data=form, headers=BROWSER), 415)
        assert "Files cannot be sent here" in shown.alert
        assert topic.records == []
        assert (await send(client, shown.body())).status == 303
        assert decode(topic.records[0][1]).fields["x"] == "y"

    async def test_not_acknowledged(self, client: Client, topic: Topic) -> None:
        form = await new_form(client)
        topic.silent = {"*"}
        body = form.body(email="zoe@example.com", name=HOSTILE, message="\na\n b ") + b"&x=1&x=%0A2&tenant=acme"
        response = await send(client, body, to=CONTACT.url)
        assert response.headers["Retry-After"] == "5"
        shown = await page(response, 503)
        assert "counts once" in shown.alert
        assert set(shown.hidden) == {name for name, _ in shown.fields}  # it cannot be changed: it may have arrived
        for text in ("zoe@example.com", HOSTILE, "\na\n b "):
            assert text in shown.text
        topic.silent.clear()
        assert (await send(client, body, to=CONTACT.url)).status == 303
        assert (await press(client, shown)).status == 303
        first, second = (decode(value) for _, value in topic.records)
        assert first.message_id == form.value("message_id")
        assert first.tenant == "default"
        assert content_hash(first) == content_hash(second)

    async def test_not_acknowledged_without_an_id(self, client: Client, topic: Topic) -> None:
        topic.silent = {"*"}
        shown = await page(await send(client, b"phone=1"), 503)
        assert uuid.UUID(shown.value("message_id")).version == 7

    @pytest.mark.parametrize(
        "body,headers,status",
        [
            (b"name=%FF", {}, 400),
            (b"x", {"Content-Type": "multipart/form-data"}, 400),
            (b"x", {"Content-Type": "multipart/form-data; boundary=b"}, 400),
            (b"message=" + b"x" * LEAD_SIZE_MAX_BYTES, {}, 413),
            (b"[" * (LEAD_SIZE_MAX_BYTES + 1), {}, 413),
            (b"a=1&" * 1000, {}, 413),
            (b'{"email": "a"}', {}, 415),
            (b"phone=1", {"Content-Type": "application/x-www-form-urlencoded; charset=latin-1"}, 415),
            (gzip.compress(b"phone=1", mtime=0), {"Content-Encoding": "gzip"}, 415),
        ],
    )
    async def test_what_cannot_be_read(
        self, client: Client, topic: Topic, body: bytes, headers: dict[str, str], status: int
    ) -> None:
        shown = await page(await send(client, body, **headers), status)
        assert shown.fields == []
        assert "Nothing was kept" in shown.alert
        response = await send(client, body, **headers, Accept="*/*")
        assert (response.status, response.content_type) == (status, "application/problem+json")
        assert topic.records == []

    async def test_a_lead_that_is_too_large_as_json(self, client: Client) -> None:
        shown = await page(await send(client, b"phone=1&message=" + b"\x01" * 20_000), 413)
        assert "shorten" in shown.alert
        assert shown.value("message") == "\x01" * 20_000

    async def test_a_body_without_end(self, client: Client) -> None:
        answered = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            while not answered.is_set():
                yield b"x" * 65536
                await asyncio.sleep(0)

        await page(await client.post("/leads", data=endless(), headers=URLENCODED | BROWSER), 413)
        answered.set()

    async def test_a_body_that_does_not_end(self, topic: Topic) -> None:
        async for client in serve(topic, body_timeout_s=0.01):
            answered = asyncio.Event()

            async def stuck(answered: asyncio.Event = answered) -> AsyncIterator[bytes]:
                yield b"phone=1"
                await answered.wait()

            await page(await client.post("/leads", data=stuck(), headers=URLENCODED | BROWSER), 408)
            answered.set()
        assert topic.records == []

    @pytest.mark.parametrize(
        "members",
        [
            {"email": SECRET * 20},
            {"email": SECRET, "tenant": SECRET},
            {"email": SECRET, "message_id": f"/{SECRET}"},
            {"email": SECRET, "captured_at": SECRET},
            {"email": SECRET, "fields": SECRET},
            {"email": SECRET, "x": f"{SECRET}\0"},
        ],
    )
    @pytest.mark.parametrize("is_multipart", [False, True])
    async def test_no_value_in_a_log_or_a_problem(
        self, client: Client, caplog: pytest.LogCaptureFixture, members: dict[str, Any], is_multipart: bool
    ) -> None:
        caplog.set_level(logging.DEBUG)
        form = FormData(members, default_to_multipart=is_multipart)
        response = await client.post("/leads", data=form)
        assert response.status == 400
        assert SECRET not in await response.text()
        assert (await client.post("/leads", data=FormData(members), headers=BROWSER)).status == 400
        assert SECRET not in caplog.text
