"""A real Chromium, and what it says of a page: bytes, requests, shifts of the layout, barriers for people."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

__all__ = ["Visit", "chromium", "visit"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: Set where these tests must not be skipped.
REQUIRED = "REQUIRE_BROWSER"
#: Far above what anything takes here; reached only when something hangs.
PATIENCE_MS = 30_000

#: What an answer that is no success leaves in the console; everything else there is a fault.
_EXPECTED = "Failed to load resource"
#: The script of a form begins after the first frame.
_AFTER_PAINT = "() => new Promise(resolve => requestAnimationFrame(() => setTimeout(() => setTimeout(resolve))))"
_SHIFTS = """
() => new Promise(resolve => {
    let sum = 0;
    const add = list => list.getEntries().forEach(entry => { sum += entry.value; });
    const observer = new PerformanceObserver(add);
    observer.observe({type: "layout-shift", buffered: true});
    requestAnimationFrame(() => requestAnimationFrame(() => {
        add({getEntries: () => observer.takeRecords()});
        resolve(sum);
    }));
})
"""


def _path() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get(REQUIRED):
        pytest.fail("There is no Chromium, and the tests that need it must not be skipped here")
    if found is None:
        pytest.skip("there is no Chromium: install Debian's package chromium")
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser. Skips the test where there is none."""
    path = _path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Visit:
    """A page in a browser, and all that it has loaded."""

    def __init__(self, context: BrowserContext, page: Page, *, has_script: bool) -> None:
        self.context = context
        self.has_script = has_script
        self.page = page
        self.faults: list[str] = []
        self.urls: dict[str, str] = {}
        self.sizes: dict[str, int] = {}

    async def begin(self) -> None:
        """Count what is transferred, and hear what the browser complains of, such as the policy of the page."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        session = await self.context.new_cdp_session(self.page)
        session.on("Network.requestWillBeSent", self._sent)
        session.on("Network.loadingFinished", self._finished)
        await session.send("Network.enable")

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(_EXPECTED):
            self.faults.append(message.text)

    def _sent(self, event: dict[str, Any]) -> None:
        if event["request"]["url"].startswith("http"):
            self.urls[event["requestId"]] = event["request"]["url"]

    def _finished(self, event: dict[str, Any]) -> None:
        self.sizes[event["requestId"]] = int(event["encodedDataLength"])

    async def go(self, url: str) -> None:
        """Load a page and all that belongs to it, and let its script begin."""
        await self.page.goto(url)
        if self.has_script:
            await self.page.evaluate(_AFTER_PAINT)

    async def rest(self) -> None:
        """Wait until nothing is transferred any more."""
        await self.page.wait_for_load_state("networkidle")

    async def shifts(self) -> float:
        """How much the layout has moved (CLS)."""
        return float(await self.page.evaluate(_SHIFTS))

    async def is_scrolled_sideways(self) -> bool:
        """Whether the page is wider than the screen."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    async def barriers(self, *rules: str) -> list[str]:
        """What axe finds, by these rules (default: all)."""
        found = await Axe().run(self.page, options={"runOnly": list(rules)} if rules else None)
        return [f"{one['id']}: {[node['html'] for node in one['nodes']]}" for one in found.response["violations"]]

    async def kept(self) -> list[str]:
        """The message ids of the leads that the browser keeps."""
        keys = await self.page.evaluate("Object.keys(localStorage)")
        return [key.removeprefix("lead:") for key in keys if key.startswith("lead:")]


@asynccontextmanager
async def visit(browser: Browser, **options: Any) -> AsyncIterator[Visit]:
    """A page of a browser without a history. At the end nothing was said in its console."""
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    try:
        found = Visit(context, await context.new_page(), has_script=options.get("java_script_enabled", True))
        await found.begin()
        yield found
        assert found.faults == []
    finally:
        await context.close()
