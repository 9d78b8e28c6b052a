"""Hostile requests to a worker: what it takes, mangled byte by byte. By hand, 100,000 of them to one that runs:

python -m tests.integration.hostile http://127.0.0.1:6065 100000
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from urllib.parse import urlsplit

from pipeline.web.openapi import document

CONNECTIONS = 16
#: A worker that has not answered a whole request by then hangs.
PATIENCE_S = 60.0

_LEAD = {"message_id": "h-1", "tenant": "acme", "email": "a@example.com", "captured_at": "2026-01-05T08:00:00Z"}
_JSON, _FORM, _PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
_BODIES = [
    (_JSON, json.dumps({**_LEAD, "fields": {"a": [1, {"b": None}]}}).encode()),
    (_JSON, json.dumps([_LEAD, {**_LEAD, "message_id": "h-2"}, {}]).encode()),
    (_FORM, b"message_id=h-3&email=a%40example.com&name=Ada+L&plan=x&plan=y"),
    (_PARTS, b'--b\r\nContent-Disposition: form-data; name="email"\r\n\r\na@example.com\r\n--b--\r\n'),
    (_JSON, b""),
]
_ODD = [
    b"\0", b"\xff\xfe", b"\r\n", b"\r\n\r\n", b"\n", b"%00", b"%ff", b"../" * 9, b"'\"<script>",
    "\u202e\U0001f4a9".encode(), b"\\ud800", b"1e999", b"-" * 70, b"9" * 400, b"[" * 3000, b'{"a":' * 3000,
    b"x" * 9000, b"{{7*7}}", b"null", b";", b"=",
]  # fmt: skip
_HEADERS = [
    "Idempotency-Key: h-9", 'Idempotency-Key: "h 9"', "Idempotency-Key: ..", "Accept: text/html",
    "Accept: text/html;q=0.x", "Content-Encoding: gzip", "Expect: 100-continue", "Expect: nonsense", "Expect: \xff",
    "Authorization: Basic !!", "Origin: null",
    "X-Forwarded-For: ,,::1,", "X-Leads-Forwarded: http://x", "X-Leads-App: x", "Upgrade: websocket", "Cookie: a=b",
    "Range: bytes=0-", "If-None-Match: *", "Accept-Encoding: br;q=1, gzip;q=0", "Accept-Encoding: *;q=nan",
    "X: " + "y" * 5000,
]  # fmt: skip
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
_QUERIES = [
    "",
    "",
    "?",
    "?partition=0&offset=1",
    "?partition=-1&offset=9e9",
    "?limit=0",
    "?limit=9&from=0.%3D",
    "?from=1.AAA",
]


def requests(seed: int, count: int) -> Iterator[tuple[bytes, bool]]:
    """`count` requests that follow from `seed`, and of each whether it is whole, so that it must be answered."""
    random = Random(seed)
    paths = list(document()["paths"])
    for _ in range(count):
        kind, body = random.choice(_BODIES)
        body = _mangled(random, body) if random.random() < 0.8 else body
        path = re.sub(
            r"\{\w+\}",
            lambda _: random.choice(["acme", "h-1", "seen", "%2e%2e", "contact", "a%2Fb"]),
            random.choice(paths),
        )
        method = "POST" if random.random() < 0.6 else random.choice(_METHODS)
        path = path if method != "POST" or random.random() < 0.3 else "/leads"
        lines = [
            f"{method} {path}{random.choice(_QUERIES)} HTTP/1.1",
            f"Host: {random.choice(['127.0.0.1', 'x', '[::1]:1'])}",
        ]
        lines += [
            "Connection: close",
            f"Content-Type: {kind}",
            *random.sample(_HEADERS, random.choice([0, 0, 1, 2, 4])),
        ]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()
        if random.random() < 0.8:
            yield head + body, "Expect: 100-continue" not in lines
        else:
            yield _mangled(random, head) + body, False


def _mangled(random: Random, data: bytes) -> bytes:
    changes: list[Callable[[bytes, int], bytes]] = [
        lambda d, at: d[:at] + random.choice(_ODD) + d[at:],
        lambda d, at: d[:at] + d[at + random.randrange(1, 20) :],
        lambda d, at: d[:at] + bytes([random.randrange(256)]) + d[at + 1 :],
        lambda d, at: d[:at] + d[max(0, at - 30) : at] + d[at:],
        lambda d, at: d[:at],
    ]
    for _ in range(random.randrange(1, 4)):
        data = random.choice(changes)(data, random.randrange(len(data) + 1))
    return data


async def ask(host: str, port: int, data: bytes, *, is_whole: bool) -> bytes:
    """All that is answered; of a request that is cut off, perhaps nothing."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        with suppress(ConnectionError):
            writer.write(data)
            if not is_whole:
                writer.write_eof()
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        return b""
    finally:
        writer.transport.abort()


async def flood(url: str, count: int, *, seed: int) -> Counter[str]:
    """Send them; returns how often each status was answered, empty for none.

    Raises:
        AssertionError: one that was whole got no answer, or one got 500.
    """
    parts = urlsplit(url)
    given, statuses = requests(seed, count), Counter[str]()

    async def one_after_the_other() -> None:
        for data, is_whole in given:
            answer = await ask(parts.hostname or "", parts.port or 80, data, is_whole=is_whole)
            statuses[answer[9:12].decode("ascii", "replace")] += 1
            assert answer[9:12] != b"500", (data[:2000], answer[:500])
            assert answer.startswith(b"HTTP/1.1 ") or not is_whole, (data[:2000], answer[:500])

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(one_after_the_other())
    return statuses


if __name__ == "__main__":
    print(asyncio.run(flood(sys.argv[1], int(sys.argv[2]), seed=int((sys.argv[3:] or ["1"])[0]))))
