"""A shorter way for most requests: one lead as JSON, whose bytes have come at once, on a connection that is idle.

aiohttp's own way (parser, request, task, router, middlewares, response) takes three quarters of the time of such a
request. Here aiohttp reads the head of the first one; another head of the same bytes, whatever the length of the body,
means the same, and is not read again. All else goes to aiohttp, byte by byte as it came, and so does what is no lead:
there is one place that says what is wrong with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from aiohttp import hdrs, web
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server
from multidict import CIMultiDict, CIMultiDictProxy

from pipeline.lead import InvalidLead
from pipeline.web.access import Access, Address, parsed
from pipeline.web.bounds import BUSY_RETRY_AFTER_S, busy
from pipeline.web.capture import Capture, Receipt
from pipeline.web.connections import HEAD_TIMEOUT_S, IDLE_TIMEOUT_S, Connections, slow_head
from pipeline.web.hardening import HEADERS
from pipeline.web.heads import Heads
from pipeline.web.problems import CONTENT_TYPE, Problem

__all__ = ["FastPathHandler", "FastPathRunner"]

_CONTINUE = "100-continue"
MEDIA_TYPE_MAX_CHARS = 256
PARAMETERS_MAX = 8
_TOKEN = r"[!#$%&'+.^_`|~0-9A-Za-z-]+"
_VALUE = r'(?:"[ -!#-\[\]-~]*"|[!#-:<-~]+)'
_MEDIA_TYPE = re.compile(rf"[ \t]*{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*(?:{_TOKEN}={_VALUE})?){{0,{PARAMETERS_MAX}}}[ \t]*")
_REASONS = {
    202: b"Accepted",
    408: b"Request Timeout",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
}


class FastPathHandler(RequestHandler):
    """A connection. While a lead of the shorter way is on its way, what comes behind it waits in `_held`."""

    def __init__(
        self, manager: Server, *, capture: Capture, heads: Heads, connections: Connections, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._capture = capture
        self._heads = heads
        self._connections = connections
        self._client: Address | None = None
        #: Until when a head that has begun must be complete.
        self._alarm: asyncio.TimerHandle | None = None
        self._is_asked = False
        self._held = b""
        #: Bytes that are still to come of the request that aiohttp has begun with; None: it is not known any more.
        self._rest: int | None = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless there are too many."""
        super().connection_made(transport)
        self._client = parsed((transport.get_extra_info("peername") or ("",))[0])
        if self._connections.enter(self._client):
            self._await_head()
        else:
            self._end_with(busy())

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._connections.leave(self._client)
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the shorter way if there is one."""
        if self._is_asked:
            self._held += data
            self._pause_transport_reading()
        elif not (self._rest == 0 and self._is_idle() and self._submit(data)):
            before = len(self._messages)
            super().data_received(data)
            if data:
                self._follow(data, before)
            if len(self._messages) > before:
                self._head_is_there()
            elif self._alarm is None and self._is_idle():
                self._await_head()  # it has begun, and is not complete

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, without a word of it: aiohttp would quote it, and log it, whatever it holds."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        problem = Problem(status, "Not understood", "That is no request of HTTP as the web server takes it.")
        response = problem.response()
        response.headers.update(HEADERS)
        response.force_close()
        return response

    def _await_head(self) -> None:
        self._alarm = self._loop.call_later(HEAD_TIMEOUT_S, self._end_with, slow_head())

    def _head_is_there(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _end_with(self, problem: Problem) -> None:
        if self.transport is not None:
            self.transport.write(_of_problem(problem, is_last=True))
        self.force_close()

    def _is_idle(self) -> bool:
        return self._waiter is not None and not (self._waiter.done() or self._messages or self._close or self._paused)

    def _submit(self, data: bytes) -> bool:
        body = self._heads.body(data)
        if body is None:
            return False
        self._head_is_there()
        try:
            self._capture.submit(body, self._client, self._answer)
        except InvalidLead:
            return False
        except Problem as refusal:
            self._write(_of_problem(refusal))
            self._hold_back()
            return True
        self._is_asked = self._request_in_progress = True
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _hold_back(self) -> None:
        """Not to be kept busy by refusals: what this client sends sooner than it was told waits until then."""
        self._pause_transport_reading()
        self._loop.call_later(BUSY_RETRY_AFTER_S, self._resume_transport_reading)

    def _follow(self, data: bytes, before: int) -> None:
        """Keep track of where in a request aiohttp is, after it got `data`: a head is looked for at its start only."""
        if self._rest is None:
            return
        rest = self._rest - len(data) if self._rest > 0 else self._begun(data, before)
        self._rest = rest if rest >= 0 else None

    def _begun(self, data: bytes, before: int) -> int:
        if len(self._messages) != before + 1:
            return -1
        message, end = self._messages[-1][0], data.find(b"\r\n\r\n") + 4
        if not isinstance(message, RawRequestMessage) or message.chunked or message.upgrade or end < 4:
            return -1
        if not data.startswith(message.method.encode()):
            return -1  # aiohttp takes empty lines before a request: the head ends elsewhere
        self._heads.learn(data, message)
        return int(message.headers.get(hdrs.CONTENT_LENGTH, "0")) - (len(data) - end)

    def _answer(self, outcome: Receipt | Exception) -> None:
        self._is_asked = self._request_in_progress = False
        self._write(self._rendered(outcome))
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)  # the worker stops, and has waited for this
        held, self._held = self._held, b""
        if held:
            self._resume_transport_reading()
            self.data_received(held)

    def _write(self, answer: bytes) -> None:
        if self.transport is not None:
            self.transport.write(answer)

    def _rendered(self, outcome: Receipt | Exception) -> bytes:
        if isinstance(outcome, Receipt):
            return _response(202, b"application/json", msgspec.json.encode(outcome))
        if isinstance(outcome, Problem):
            return _of_problem(outcome)
        self.log_exception("Error handling request", exc_info=outcome)
        return _response(500, b"text/plain; charset=utf-8", b"500 Internal Server Error")


def _of_problem(problem: Problem, *, is_last: bool = False) -> bytes:
    headers = problem.headers | ({hdrs.CONNECTION: "close"} if is_last else {})
    return _response(problem.status, CONTENT_TYPE.encode(), msgspec.json.encode(problem.body()), headers)


def _response(status: int, content_type: bytes, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    more = _lines(headers) if headers else b""
    return b"HTTP/1.1 %d %b\r\n%bContent-Type: %b\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n%b" % (
        status, _REASONS[status], more, content_type, len(body), rfc822_formatted_time().encode(), _COMMON, body,
    )  # fmt: skip


def _lines(headers: Mapping[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


_COMMON = _lines(HEADERS)


class _Server(Server):
    """aiohttp's factory of connections."""

    capture: Capture
    heads: Heads
    counted: Connections

    def __call__(self) -> RequestHandler:
        return FastPathHandler(
            self, capture=self.capture, heads=self.heads, connections=self.counted, loop=self._loop, **self._kwargs
        )


def _request(make: Callable[..., web.BaseRequest], message: RawRequestMessage, *rest: Any) -> web.BaseRequest:
    """A request, without the headers that aiohttp had better not see.

    An expectation that is not known may be ignored (RFC 9110); aiohttp would quote it in its answer, and fail where it
    is no UTF-8. A media type with thousands of parameters is none; aiohttp would take a second to find them. Nor is one
    with a parameter such as `a*0*`, for which the parser of the standard library raises an IndexError.
    """
    expected, kind = message.headers.get(hdrs.EXPECT, _CONTINUE), message.headers.get(hdrs.CONTENT_TYPE, "")
    if expected.lower() != _CONTINUE:
        message = _without(message, hdrs.EXPECT)
    if kind and (len(kind) > MEDIA_TYPE_MAX_CHARS or not _MEDIA_TYPE.fullmatch(kind)):
        message = _without(message, hdrs.CONTENT_TYPE)
    return make(message, *rest)


def _without(message: RawRequestMessage, name: str) -> RawRequestMessage:
    headers = CIMultiDict(message.headers)
    headers.popall(name)
    return message._replace(headers=CIMultiDictProxy(headers))


class FastPathRunner(web.AppRunner):
    """aiohttp's, whose connections know the shorter way to `capture`."""

    __slots__ = ("_access", "_capture")

    def __init__(self, application: web.Application, capture: Capture, access: Access, **options: Any) -> None:
        super().__init__(application, **{"keepalive_timeout": IDLE_TIMEOUT_S, **options})
        self._capture = capture
        self._access = access

    async def _make_server(self) -> Server:
        plain = await super()._make_server()
        server = _Server(
            plain.request_handler, request_factory=partial(_request, plain.request_factory),
            handler_cancellation=plain.handler_cancellation, loop=plain._loop, **plain._kwargs,
        )  # fmt: skip
        server.capture, server.heads, server.counted = self._capture, Heads(), Connections(self._access)
        return server
