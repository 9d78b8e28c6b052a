"""`POST /leads` and the form over a real socket, with a double of our own `Publisher`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.lead import decode
from pipeline.web.capture import Capture, Outcome, Position, Publisher, Unacknowledged
from pipeline.web.fast_path import FastPathRunner
from pipeline.web.form import form_routes

SECRET = "jane.secret@example.com"

Client = TestClient[web.Request, web.Application]


class Topic:
    """A publisher that keeps what it is given, and acknowledges all but the message ids in `silent`."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, bytes]] = []
        self.silent: set[str] = set()
        self.acknowledge = asyncio.Event()
        self.acknowledge.set()
        self.asked = asyncio.Event()
        self._puts: set[asyncio.Task[list[Position | Unacknowledged]]] = set()

    async def publish(self, records: Sequence[tuple[bytes, bytes]]) -> list[Position | Unacknowledged]:
        self.asked.set()
        await self.acknowledge.wait()
        return [self._publish(key, value) for key, value in records]

    def put(self, key: bytes, value: bytes, tell: Callable[[Outcome], None]) -> None:
        task = asyncio.ensure_future(self.publish([(key, value)]))
        self._puts.add(task)
        task.add_done_callback(self._puts.discard)
        task.add_done_callback(lambda done: tell(done.exception() or done.result()[0]))

    def _publish(self, key: bytes, value: bytes) -> Position | Unacknowledged:
        if decode(value).message_id in self.silent or "*" in self.silent:
            return Unacknowledged("broker-7 is away")
        self.records.append((key, value))
        return Position(partition=3, offset=len(self.records) - 1)


class Server(TestServer):
    """As in production: a client that goes away does not cancel the handler."""

    def __init__(self, application: web.Application, capture: Capture) -> None:
        super().__init__(application)
        self._capture = capture

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return FastPathRunner(self.app, self._capture, **options | {"handler_cancellation": False})


async def serve(publisher: Publisher, **options: Any) -> AsyncIterator[Client]:
    # As small as can be: aiohttp's own bound must not be what holds, Faust sets another one.
    application, capture = web.Application(client_max_size=1), Capture(publisher, **options)
    application.add_routes([*capture.routes(), *form_routes()])
    async with TestClient(Server(application, capture)) as client:
        yield client
