"""The benchmark `page`: the capture page in a Chromium whose processor is slowed down, as a telephone's is."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Any

from pipeline.lab.bench.capture import ready
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import Benchmark, Figure
from pipeline.topics import CAPTURED

__all__ = ["browser_path", "page"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
LEFT_OUT = "It is left out: there is no Chromium, or no Playwright."

CPU_SLOWDOWN = 4
LCP_MAX_MS = 200
TRANSFERRED_MAX_BYTES = 30_000
#: Loads in each round, without a cache. One before them does not count: it is the start of a process of Chromium's.
LOADS = 5
SCREENS = {"desktop": (1280, 800), "telephone": (390, 844)}

#: A page that is only a heading: what the browser itself takes here.
NOTHING = "data:text/html,<!DOCTYPE html><title>Nothing</title><h1>Nothing</h1>"

#: Asked when all is loaded; the frame with the picture is the next one then.
_LCP_MS = """
() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() =>
    new PerformanceObserver(list => resolve(list.getEntries().at(-1).startTime))
        .observe({type: "largest-contentful-paint", buffered: true}), 100))))
"""


@dataclass(frozen=True)
class _Loaded:
    """Milliseconds until the largest part was painted, and what was transferred."""

    lcp_ms: float
    size_bytes: int
    requests: int


def browser_path() -> str | None:
    """The browser, if it can be used."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return None
    return next(filter(None, map(shutil.which, NAMES)), None)


async def page(at: Installation) -> Benchmark:
    """How soon the form is there, and what it takes."""
    path = browser_path()
    figures: list[Figure] = []
    if path is not None:
        await at.emptied("none", CAPTURED)
        with at.ours("page", "none", "leads") as worker:
            await ready(worker)
            found = await _measure(path, [NOTHING, worker.url], LOADS * at.sizes.rounds)
        for screen, (nothing, loaded) in found.items():
            figures += _figures(screen, nothing, loaded)
            at.say(f"page, {screen}: painted after {figures[-4].value:.0f} ms, {figures[-2].value:,.0f} bytes")
    return Benchmark(
        name="page", title=f"GET / in Chromium, nothing cached, processor slowed down {CPU_SLOWDOWN} times", unit="ms",
        figures=figures, left_out=[] if path else [LEFT_OUT],
    )  # fmt: skip


def _figures(screen: str, nothing: list[_Loaded], loaded: list[_Loaded]) -> list[Figure]:
    sizes = [float(one.size_bytes) for one in loaded]
    return [
        Figure(
            name=f"largest contentful paint, {screen}", unit="ms", values=[one.lcp_ms for one in loaded],
            at_most=LCP_MAX_MS,
        ),
        Figure(name=f"of a heading alone, {screen}", unit="ms", values=[one.lcp_ms for one in nothing]),
        Figure(name=f"transferred, {screen}", unit="bytes", values=sizes, at_most=TRANSFERRED_MAX_BYTES),
        Figure(name=f"requests, {screen}", unit="", values=[float(one.requests) for one in loaded]),
    ]  # fmt: skip


async def _measure(path: str, urls: list[str], count: int) -> dict[str, list[list[_Loaded]]]:
    """The loads of each of `urls`, for each screen."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"], env=_environ())
        try:
            found: dict[str, list[list[_Loaded]]] = {}
            for screen, (width, height) in SCREENS.items():
                context = await browser.new_context(viewport={"width": width, "height": height})
                found[screen] = [await _loads(context, url, count) for url in urls]
                await context.close()
            return found
        finally:
            await browser.close()


def _environ() -> dict[str, str | float | bool]:
    # It puts a socket there, whose path may have 107 characters.
    return {**os.environ, "TMPDIR": "/tmp"}


async def _loads(context: Any, url: str, count: int) -> list[_Loaded]:
    tab = await context.new_page()
    session = await context.new_cdp_session(tab)
    sizes: list[int] = []
    session.on("Network.loadingFinished", lambda event: sizes.append(int(event["encodedDataLength"])))
    await session.send("Network.enable")
    await session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    await session.send("Emulation.setCPUThrottlingRate", {"rate": CPU_SLOWDOWN})
    found = []
    for _ in range(count + 1):
        sizes.clear()
        await tab.goto(url)
        lcp_ms = await tab.evaluate(_LCP_MS)
        transferred = [one for one in sizes if one]
        found.append(_Loaded(float(lcp_ms), sum(transferred), len(transferred)))
    return found[1:]
