"""Heads of requests that mean nothing but: here is one lead. Of a kind aiohttp reads the first, nobody the others."""

from __future__ import annotations

import re

from aiohttp import hdrs
from aiohttp.http import HttpVersion11
from aiohttp.http_parser import RawRequestMessage

from pipeline.lead import LEAD_SIZE_MAX_BYTES
from pipeline.web.access import FORWARDED, FORWARDING

__all__ = ["Heads"]

#: Kinds of heads that are remembered: one for each kind of client.
HEADS_MAX = 1024
HEAD_SIZE_MAX_BYTES = 4096

#: What endpoint, middlewares and aiohttp look at beside the media type: with one of these it is another request.
_SIGNIFICANT = (
    frozenset(
        ("content-encoding", "expect", "idempotency-key", "origin", "transfer-encoding", "upgrade", FORWARDED.lower())
    )
    | FORWARDING
)
_MEDIA_TYPES = frozenset(("application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"))
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([1-9]\d{0,6})\r\n")


class Heads:
    """Heads of requests, without the value of their Content-Length, that mean nothing but: here is one lead."""

    def __init__(self) -> None:
        self._known: set[bytes] = set()

    def body(self, data: bytes) -> bytes | None:
        """The body, when `data` is a whole request with a known head and a body of a lead's size."""
        end = data.find(b"\r\n\r\n") + 4
        found = _LENGTH.search(data, 0, end)
        if found is None or _kind(data, end, found) not in self._known:
            return None
        length = int(found[1])
        return data[end:] if length == len(data) - end and length <= LEAD_SIZE_MAX_BYTES else None

    def learn(self, data: bytes, message: RawRequestMessage) -> None:
        """Remember the head that `data` begins with, which aiohttp has read as `message`, if it is such a one."""
        end = data.find(b"\r\n\r\n") + 4
        found = _LENGTH.search(data, 0, end)
        if found is None or end > HEAD_SIZE_MAX_BYTES or not _is_plain(message):
            return
        head = data[:end]
        if head.count(b"\r\n") != len(message.raw_headers) + 2 or head.count(b"\n") != head.count(b"\r\n"):
            return  # aiohttp has not seen the same lines
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        self._known.add(_kind(data, end, found))


def _kind(data: bytes, end: int, found: re.Match[bytes]) -> bytes:
    return data[: found.start(1)] + data[found.end(1) : end]


def _is_plain(message: RawRequestMessage) -> bool:
    names = [name.lower() for name, _ in message.headers.items()]
    return (
        (message.method, message.path, message.version) == ("POST", "/leads", HttpVersion11)
        and not (message.should_close or message.upgrade or message.chunked or message.compression)
        and len(set(names)) == len(names)
        and _SIGNIFICANT.isdisjoint(names)
        and message.headers.get(hdrs.CONTENT_TYPE, "").lower() in _MEDIA_TYPES
    )
