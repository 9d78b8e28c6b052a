"""A worker played on a real socket: it answers as a test says, and keeps what it is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

SECRET = "jane.secret@private.example"
PROBLEM = {"type": "urn:problem-type:leads:not-acknowledged", "title": "Not acknowledged", "status": 503}

Play = Callable[[web.Request, list[dict[str, Any]]], Awaitable[web.StreamResponse]]


def receipt(lead: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"message_id": lead["message_id"], "tenant": lead["tenant"], "partition": 3, "offset": 0, **members}


def results(items: list[Any], status: int = 202, **headers: str) -> web.Response:
    return web.json_response({"results": items}, status=status, headers=headers)


async def accept(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
    return results([receipt(lead) for lead in leads])


@dataclass
class Worker:
    """Plays a worker: each request is answered by the next of `plays`, at last by the one that accepts."""

    plays: list[Play] = field(default_factory=list)
    arrays: list[list[dict[str, Any]]] = field(default_factory=list)
    sizes_bytes: list[int] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0
    url: str = ""

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.at_once_max = max(self.at_once, self.at_once_max)
        try:
            body = await request.read()
            leads = json.loads(body)
            self.arrays.append(leads)
            self.sizes_bytes.append(len(body))
            answer = await (self.plays.pop(0) if self.plays else accept)(request, leads)
            if isinstance(answer, web.Response) and answer.content_type == "application/json":
                items = json.loads(str(answer.text)).get("results", [])
                self.accepted += [item["message_id"] for item in items if "offset" in item]
            return answer
        finally:
            self.at_once -= 1

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Worker]:
        application = web.Application(client_max_size=2**30)
        application.add_routes([web.post("/leads", self.post)])
        async with TestServer(application) as server:
            self.url = str(server.make_url("/"))
            yield self


def answering(status: int, body: str = "", **headers: str) -> Play:
    async def play(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return play


async def drop(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
