"""The capture page in a real Chromium: what it costs, who can read it, and where a lead is without a connection."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from pipeline.lead import decode
from pipeline.web.assets import SCRIPT
from pipeline.web.pages import Link, page
from tests.integration.browser import PATIENCE_MS, Visit, chromium, visit
from tests.unit.capture_server import Client, Topic, serve

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
fixture = pytest_asyncio.fixture(loop_scope="module", scope="module")
expect.set_options(timeout=PATIENCE_MS)

TRANSFERRED_MAX_BYTES = 30_000
#: Page, script and picture.
REQUESTS = 3
TARGET_MIN_PX = 44

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
NARROW = {"viewport": {"width": 320, "height": 640}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 3, "is_mobile": True, "has_touch": True}
SCHEMES = pytest.mark.parametrize("scheme", ["light", "dark"])

FORMS = """
[[form]]
name = "contact"
title = "Tell us what you need"
intro = "Leave your email address or phone number, and a person will get back to you."
thanks = "A person will get back to you."
fill_time_min_s = 0
origins = ["{origin}"]
field = [
    {{ name = "name", label = "Name" }}, {{ name = "email", label = "Email" }}, {{ name = "phone", label = "Phone" }},
    {{ name = "message", label = "What is it about?", type = "textarea" }},
]

[[form]]
name = "trade"
title = "Order"
accent = "#ffd400"
fill_time_min_s = 0
note = "What we do with what you tell us"
note_url = "/forms/contact"
field = [
    {{ name = "email", label = "Email" }},
    {{ name = "size", label = "How many?", type = "select", options = ["1", "more"], required = true }},
    {{ name = "terms", label = "I agree to the terms", type = "checkbox", required = true, hint = "Read them." }},
]
"""

SNIPPET = """<!DOCTYPE html><html lang="en"><title>Another site</title>
<form action="{base}/forms/{name}" method="post">
  <label>Email <input name="email" type="email" required></label>
  {more}
  <button>Send</button>
</form>
<script src="{base}/assets/form.js" defer></script>
"""


@fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


class Site:
    """Another site, on another origin, that shows `html`."""

    html = ""
    url = ""

    async def answer(self, request: web.Request) -> web.Response:
        return web.Response(text=self.html, content_type="text/html")


@fixture
async def site() -> AsyncIterator[Site]:
    found, application = Site(), web.Application()
    application.router.add_get("/", found.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    assert listening._server is not None
    found.url = f"http://localhost:{listening._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    yield found
    await runner.cleanup()


@fixture
async def topic() -> Topic:
    return Topic()


@fixture
async def client(topic: Topic, site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    path: Path = tmp_path_factory.mktemp("forms") / "forms.toml"
    path.write_text(FORMS.format(origin=site.url))
    async for client in serve(topic, forms=path):
        yield client


@fixture
async def base(client: Client) -> str:
    return str(client.make_url("")).rstrip("/")


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def empty(topic: Topic) -> None:
    topic.silent.clear()
    topic.records.clear()
    topic.headers.clear()


#: Not Playwright's own waiting, which needs `eval`; the policy of the page forbids that.
_UNTIL_NOTHING_IS_KEPT = """
() => new Promise(resolve => {
    const look = () => localStorage.length ? setTimeout(look, 20) : resolve();
    look();
})
"""


def sent(topic: Topic) -> list[str]:
    """The message ids of what was captured."""
    return [decode(value).message_id for _, value in topic.records]


async def fill(page: Page, **typed: str) -> None:
    for name, value in typed.items():
        await page.fill(f"[name={name}]", value)


async def press(page: Page) -> None:
    await page.click("form button")


async def message_id(page: Page) -> str:
    return await page.input_value("[name=message_id]")


async def thanked(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Thank you")).to_be_visible()


async def waiting(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Not confirmed yet")).to_be_visible()


class TestBudget:
    @pytest.mark.parametrize("screen", [DESKTOP, NARROW, PHONE], ids=["desktop", "narrow", "phone"])
    @SCHEMES
    async def test_bytes_requests_origins_and_shifts(
        self, browser: Browser, base: str, screen: dict[str, Any], scheme: str
    ) -> None:
        async with visit(browser, color_scheme=scheme, **screen) as seen:
            await seen.go(base)
            await seen.rest()
            assert len(seen.urls) == len(seen.sizes) == REQUESTS, seen.urls
            assert {url.startswith(f"{base}/") for url in seen.urls.values()} == {True}
            assert any(url.endswith(".avif") for url in seen.urls.values())
            assert sum(seen.sizes.values()) <= TRANSFERRED_MAX_BYTES, seen.sizes
            assert await seen.shifts() == 0
            assert not await seen.is_scrolled_sideways()


def _entry(number: int) -> dict[str, Any]:
    return {"key": Link(f"default/m-{number}", "/leads/default/m-1"), "offset": number, "time": None, "owner": "w"}


def _partition(number: int) -> dict[str, Any]:
    return {"partition": number, "owner": "http://w", "state": "ready", "changelog_offset": 7, "remaining": 0}


_RECEIPT = {"tenant": "default", "message_id": "m-1", "has_receipt": True, "this_record": None, "retry_after_s": 5}
OTHERS = {
    "receipt": page("receipt", state="pending", written_at=None, reason=None, **_RECEIPT),
    "dead-lettered": page("receipt", state="dead-lettered", written_at=None, reason="invalid", **_RECEIPT),
    "problem": page("problem", heading="No such page", text="There is nothing at this address."),
    "tables": page("tables", tables=[{"name": "seen", "entries_url": "/t", "partitions": [_partition(1)]}]),
    "entries": page("entries", name="seen", columns=list(_entry(1)), rows=[_entry(1), _entry(2)], next_url="/n"),
    "entry": page("entry", name="seen", rows=[_entry(1)]),
}


async def _flawed(page: Page, topic: Topic) -> None:
    await fill(page, email="zoe@")
    await press(page)
    await expect(page.locator("[aria-invalid=true]")).to_be_focused()


async def _refused(page: Page, topic: Topic) -> None:
    await page.eval_on_selector("form", "form => form.submit()")
    await expect(page.get_by_role("alert")).to_be_visible()


async def _locked(page: Page, topic: Topic) -> None:
    topic.silent = {"*"}
    await fill(page, email="zoe@example.com")
    await _refused(page, topic)


async def _kept(page: Page, topic: Topic) -> None:
    topic.silent = {"*"}
    await fill(page, email="zoe@example.com")
    await press(page)
    await waiting(page)


async def _thanked(page: Page, topic: Topic) -> None:
    await fill(page, email="zoe@example.com")
    await press(page)
    await thanked(page)


async def _received(page: Page, topic: Topic) -> None:
    await fill(page, email="zoe@example.com")
    await page.eval_on_selector("form", "form => form.submit()")
    await page.wait_for_url("**/received?**")


async def _empty(page: Page, topic: Topic) -> None:
    """As it is loaded."""


STATES: list[Callable[[Page, Topic], Awaitable[None]]] = [
    _empty, _flawed, _refused, _locked, _kept, _thanked, _received,
]  # fmt: skip


class TestEverybody:
    """Each state of the form, and each other page, on a screen of 320 pixels."""

    async def accessible(self, seen: Visit, what: str, scheme: str) -> None:
        # In the dark only the colours are others.
        assert await seen.barriers(*(["color-contrast"] if scheme == "dark" else [])) == [], what
        assert not await seen.is_scrolled_sideways(), what

    @SCHEMES
    async def test_the_form(self, browser: Browser, base: str, topic: Topic, scheme: str) -> None:
        async with visit(browser, color_scheme=scheme, reduced_motion="reduce", **NARROW) as seen:
            for state in STATES:
                topic.silent.clear()
                await seen.go(base)
                await state(seen.page, topic)
                await self.accessible(seen, state.__name__, scheme)
                await seen.page.evaluate("localStorage.clear()")

    @SCHEMES
    async def test_a_form_of_other_fields_and_a_colour_that_cannot_be_read(
        self, browser: Browser, base: str, scheme: str
    ) -> None:
        async with visit(browser, color_scheme=scheme, **NARROW) as seen:
            await seen.go(f"{base}/forms/trade")
            await self.accessible(seen, "empty", scheme)
            await press(seen.page)
            await expect(seen.page.locator("[aria-invalid=true]")).to_have_count(3)
            await self.accessible(seen, "flawed", scheme)

    @SCHEMES
    async def test_every_other_page(self, browser: Browser, scheme: str) -> None:
        async with visit(browser, color_scheme=scheme, **NARROW) as seen:
            for name, response in OTHERS.items():
                assert isinstance(response.body, bytes)
                await seen.page.set_content(response.body.decode())
                await self.accessible(seen, name, scheme)

    async def test_what_is_pressed_is_large_enough(self, browser: Browser, base: str) -> None:
        async with visit(browser, **NARROW) as seen:
            await seen.go(base)
            for one in await seen.page.locator("input:visible:not([tabindex]), textarea, button").all():
                box = await one.bounding_box()
                assert box is not None
                assert min(box["width"], box["height"]) >= TARGET_MIN_PX, await one.evaluate("one => one.outerHTML")


class TestWithoutScript:
    async def test_sent_and_thanked(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser, java_script_enabled=False, **NARROW) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            await fill(seen.page, email="zoe@example.com", message="a")
            await press(seen.page)
            await seen.page.wait_for_url(f"**/forms/contact/received?reference={name}")
            await thanked(seen.page)
            assert name in await seen.page.inner_text(".reference")
            assert sent(topic) == [name]

    async def test_what_is_wrong_is_beside_the_field(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser, java_script_enabled=False, **NARROW) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            await fill(seen.page, name="Zoë")
            await press(seen.page)
            await expect(seen.page.locator("#email-error")).to_have_text("Enter an email address or a phone number.")
            await expect(seen.page.locator("#email")).to_have_attribute("aria-describedby", "email-error")
            await expect(seen.page.locator("#name")).to_have_value("Zoë")
            await fill(seen.page, phone="1")
            await press(seen.page)
            await thanked(seen.page)
            assert sent(topic) == [name]


class TestInPlace:
    async def test_thanks_take_the_place_of_the_form(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            await fill(seen.page, email="zoe@example.com", message="First\nsecond")
            await seen.page.dblclick("form button")
            await thanked(seen.page)
            await expect(seen.page.locator(".done")).to_be_focused()
            await expect(seen.page.locator(".done")).to_contain_text("A person will get back to you.")
            assert seen.page.url == f"{base}/"
            assert sent(topic) == [name]
            assert decode(topic.records[0][1]).fields == {"message": "First\nsecond"}
            assert await seen.kept() == []

    async def test_the_next_one_has_an_id_of_its_own(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            for number in range(3):
                if number:
                    await seen.page.click("text=Send something else")
                    await expect(seen.page.locator("#name")).to_be_focused()
                    assert await seen.page.input_value("#email") == ""
                await fill(seen.page, email="zoe@example.com")
                await press(seen.page)
                await thanked(seen.page)
            found = [uuid.UUID(one) for one in sent(topic)]
            assert [one.version for one in found] == [7, 7, 7]
            assert found == sorted(set(found))

    async def test_the_servers_error_is_beside_the_field(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(f"{base}/forms/trade")
            await fill(seen.page, email="zoe@example.com")
            await seen.page.check("#terms")
            await seen.page.eval_on_selector("#size", "one => { one.required = false }")
            await press(seen.page)
            size = seen.page.locator("#size")
            await expect(size).to_be_focused()
            await expect(size).to_have_attribute("aria-invalid", "true")
            await expect(seen.page.locator("#size-error")).to_have_text("Please fill this in.")
            await seen.page.select_option("#size", "more")
            await expect(seen.page.locator("#size-error")).to_have_count(0)
            await expect(size).not_to_have_attribute("aria-invalid", "true")
            await press(seen.page)
            await thanked(seen.page)
            assert [decode(value).fields for _, value in topic.records] == [{"size": "more", "terms": "yes"}]

    async def test_either_is_enough(self, browser: Browser, base: str) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            await press(seen.page)
            await expect(seen.page.locator("#email-error")).to_have_text("Enter an email address or a phone number.")
            await fill(seen.page, phone="1")
            await press(seen.page)
            await thanked(seen.page)


class TestKept:
    async def test_offline_and_online_again(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            await seen.context.set_offline(True)
            await fill(seen.page, email="zoe@example.com", message="a")
            await press(seen.page)
            await waiting(seen.page)
            assert (await seen.kept(), sent(topic)) == ([name], [])
            await seen.context.set_offline(False)
            await thanked(seen.page)
            assert (await seen.kept(), sent(topic)) == ([], [name])

    async def test_at_the_next_visit(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            await seen.context.set_offline(True)
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await waiting(seen.page)
            await seen.page.close()
            await seen.context.set_offline(False)
            again = await seen.context.new_page()
            await again.goto(f"{base}/forms/trade")
            await again.evaluate(_UNTIL_NOTHING_IS_KEPT)
            assert sent(topic) == [name]

    async def test_not_acknowledged_it_is_tried_again(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.page.clock.install()
            await seen.go(base)
            name = await message_id(seen.page)
            topic.silent = {"*"}
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await waiting(seen.page)
            topic.silent.clear()
            await seen.page.clock.fast_forward(6_000)
            await thanked(seen.page)
            assert (await seen.kept(), sent(topic)) == ([], [name])

    @pytest.mark.parametrize("status,kind", [(429, "application/problem+json"), (407, "text/html"), (200, "text/html")])
    async def test_what_is_no_word_of_ours_is_tried_again_when_it_says(
        self, browser: Browser, base: str, topic: Topic, status: int, kind: str
    ) -> None:
        """Such as that of the portal of a hotel."""
        async with visit(browser) as seen:
            await seen.page.clock.install()
            await seen.go(base)
            name = await message_id(seen.page)
            busy = {"status": status, "headers": {"Retry-After": "3600"}, "content_type": kind, "body": "{}"}
            await seen.page.route("**/forms/contact", lambda route: route.fulfill(**busy), times=1)
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await waiting(seen.page)
            await seen.page.clock.fast_forward(1_800_000)
            assert sent(topic) == []
            await seen.page.clock.fast_forward(1_801_000)
            await thanked(seen.page)
            assert sent(topic) == [name]

    async def test_another_tab_sends_it(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            name = await message_id(seen.page)
            topic.silent = {"*"}
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await waiting(seen.page)
            topic.silent.clear()
            other = await seen.context.new_page()
            await other.goto(base)
            await thanked(seen.page)
            assert (await seen.kept(), sent(topic)) == ([], [name])

    @pytest.mark.parametrize("why", ["full", "unavailable"])
    async def test_what_cannot_be_kept_is_said_and_stays_in_the_form(
        self, browser: Browser, base: str, topic: Topic, why: str
    ) -> None:
        async with visit(browser) as seen:
            if why == "unavailable":
                await seen.page.add_init_script(
                    "Object.defineProperty(window, 'localStorage', {get() { throw new Error }})"
                )
            await seen.go(base)
            if why == "full":
                entry = '{"url": "https://other.example/", "body": ""}'
                keep = "entry => { for (let n = 0; n < 20; n++) localStorage.setItem(`lead:${n}`, entry) }"
                await seen.page.evaluate(keep, entry)
            name = await message_id(seen.page)
            topic.silent = {"*"}
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await expect(seen.page.get_by_role("status")).to_contain_text("this browser cannot keep it")
            await expect(seen.page.locator("#email")).to_have_value("zoe@example.com")
            topic.silent.clear()
            await press(seen.page)
            await thanked(seen.page)
            assert sent(topic) == [name]

    async def test_what_is_refused_later_goes_back_into_the_form(
        self, browser: Browser, base: str, topic: Topic
    ) -> None:
        async with visit(browser) as seen:
            await seen.go(f"{base}/forms/trade")
            name = str(uuid.uuid4())
            entry = {"url": f"{base}/forms/trade", "body": f"email=zoe%40example.com&message_id={name}&terms=yes"}
            await seen.page.evaluate(
                "([name, entry]) => localStorage.setItem(`lead:${name}`, JSON.stringify(entry))", [name, entry]
            )
            await seen.go(f"{base}/forms/trade")
            await expect(seen.page.locator("#size-error")).to_have_text("Please fill this in.")
            await expect(seen.page.locator("#email")).to_have_value("zoe@example.com")
            await expect(seen.page.locator("#terms")).to_be_checked()
            assert await seen.kept() == []
            await seen.page.select_option("#size", "1")
            await press(seen.page)
            await thanked(seen.page)
            assert sent(topic) == [name]


class TestEmbedded:
    async def test_in_place_on_a_site_of_the_form(self, browser: Browser, base: str, topic: Topic, site: Site) -> None:
        site.html = SNIPPET.format(base=base, name="contact", more="")
        async with visit(browser) as seen:
            await seen.go(site.url)
            await seen.rest()
            await fill(seen.page, email="zoe@")
            await press(seen.page)
            await expect(seen.page.locator("[aria-invalid=true]")).to_be_focused()
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await thanked(seen.page)
            assert seen.page.url == f"{site.url}/"
            ((name,), (headers,)) = sent(topic), topic.headers
            # Its clock is not ours.
            assert (uuid.UUID(name).version, headers) == (4, ())

    async def test_by_its_button_on_any_other(self, browser: Browser, base: str, topic: Topic, site: Site) -> None:
        more = '<input type="hidden" name="size" value="more"><input type="hidden" name="terms" value="yes">'
        site.html = SNIPPET.format(base=base, name="trade", more=more)
        async with visit(browser) as seen:
            await seen.go(site.url)
            await seen.rest()
            await fill(seen.page, email="zoe@example.com")
            await press(seen.page)
            await seen.page.wait_for_url(f"{base}/forms/trade/received?**")
            await thanked(seen.page)
            assert len(sent(topic)) == 1
            assert [fault for fault in seen.faults if "CORS" not in fault] == []
            seen.faults.clear()

    async def test_what_is_captured_is_what_was_typed(self, browser: Browser, base: str, topic: Topic) -> None:
        async with visit(browser) as seen:
            await seen.go(base)
            await fill(seen.page, email="zoe@example.com", name="Zoë & <b>", message="a+b=c\n%41 ü")
            async with seen.page.expect_request(lambda request: request.method == "POST") as asked:
                await press(seen.page)
            request = await asked.value
            assert parse_qs(request.post_data or "")["name"] == ["Zoë & <b>"]
            assert (await request.all_headers())["accept"] == "application/json"
            await thanked(seen.page)
            lead = decode(topic.records[0][1])
            assert (lead.name, lead.fields) == ("Zoë & <b>", {"message": "a+b=c\n%41 ü"})
            assert any(url.endswith(SCRIPT.url) for url in seen.urls.values())
