"""`POST /leads` and the form over a real socket, with a double of our own `Publisher`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.lead import decode
from pipeline.spool import Headers
from pipeline.web.access import Access
from pipeline.web.assets import asset_routes
from pipeline.web.bounds import Load, RateLimit
from pipeline.web.capture import Capture, Outcome, Position, Publisher, Result, Spooled, Unacknowledged
from pipeline.web.compression import compressed
from pipeline.web.errors import explained
from pipeline.web.fast_path import FastPathRunner
from pipeline.web.form_pages import FormPages
from pipeline.web.forms_file import FormsFile
from pipeline.web.hardening import hardened

SECRET = "jane.secret@example.com"

Client = TestClient[web.Request, web.Application]


class Topic:
    """A publisher that keeps what it is given, and acknowledges all but the message ids in `silent`; those in `spooled`
    are spooled. `*` is all of them.
    """

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        #: Of each record, in their order.
        self.headers: list[Headers] = []
        self.silent: set[str] = set()
        self.spooled: set[str] = set()
        self.acknowledge = asyncio.Event()
        self.acknowledge.set()
        self.asked = asyncio.Event()
        self._puts: set[asyncio.Task[list[Result]]] = set()

    async def publish(self, records: Sequence[tuple[bytes, bytes]], headers: Headers = ()) -> list[Result]:
        self.asked.set()
        await self.acknowledge.wait()
        return [self._publish(key, value, headers) for key, value in records]

    def put(self, key: bytes, value: bytes, tell: Callable[[Outcome], None], headers: Headers = ()) -> None:
        task = asyncio.ensure_future(self.publish([(key, value)]))
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)
        task.add_done_callback(lambda done: tell(done.exception() or done.result()[0]))

    def _publish(self, key: bytes, value: bytes, headers: Headers) -> Result:
        names = {decode(value).message_id, "*"}
        if names & self.silent:
            return Unacknowledged("broker-7 is away")
        if names & self.spooled:
            return Spooled()
        self.records.append((key, value))
        self.headers.append(headers)
        return Position(partition=3, offset=len(self.records) - 1)


class Server(TestServer):
    """As in production: a client that goes away does not cancel the handler."""

    def __init__(self, application: web.Application, capture: Capture) -> None:
        super().__init__(application)
        self._capture = capture

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return FastPathRunner(self.app, self._capture, Access(), **options | {"handler_cancellation": False})


async def serve(publisher: Publisher, *, forms: Path | None = None, **options: Any) -> AsyncIterator[Client]:
    """The endpoints for everybody, with the forms of the file `forms`."""
    # As small as can be: aiohttp's own bound must not be what holds, Faust sets another one.
    # No limits, unless a test sets some.
    limits: dict[str, Any] = {"access": Access(), "load": Load(10_000, 1 << 30), "rate_limit": RateLimit(0)}
    capture = Capture(publisher, **limits | options)
    application = web.Application(client_max_size=1, middlewares=[hardened, compressed, explained])
    pages = FormPages(FormsFile(forms), capture)
    application.add_routes([*capture.routes(), *pages.routes(), *asset_routes()])
    async with TestClient(Server(application, capture)) as client:
        yield client
