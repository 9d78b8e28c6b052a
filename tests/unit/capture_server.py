"""`POST /leads` and the form over a real socket, with a double of our own `Publisher`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pipeline.lead import decode
from pipeline.web.capture import Capture, Position, Publisher, Unacknowledged
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

    async def publish(self, records: Sequence[tuple[bytes, bytes]]) -> list[Position | Unacknowledged]:
        self.asked.set()
        await self.acknowledge.wait()
        return [self._publish(key, value) for key, value in records]

    def _publish(self, key: bytes, value: bytes) -> Position | Unacknowledged:
        if decode(value).message_id in self.silent or "*" in self.silent:
            return Unacknowledged("broker-7 is away")
        self.records.append((key, value))
        return Position(partition=3, offset=len(self.records) - 1)


class Server(TestServer):
    """As in production: a client that goes away does not cancel the handler."""

    async def _make_runner(self, **options: Any) -> web.BaseRunner:
        return await super()._make_runner(**options | {"handler_cancellation": False})


async def serve(publisher: Publisher, **options: Any) -> AsyncIterator[Client]:
    # As small as can be: aiohttp's own bound must not be what holds, Faust sets another one.
    application = web.Application(client_max_size=1)
    application.add_routes([*Capture(publisher, **options).routes(), *form_routes()])
    async with TestClient(Server(application)) as client:
        yield client
