"""Posts the leads of a seed to a worker as fast as it answers, each connection one request after the other:
`python -m pipeline.lab.http_load`. Run only by the benchmark.

A process of its own, and as light as Python can be, because it shares the processors with what is measured: requests
are bytes before the clock starts, and of an answer nothing is read but its status, its length and the receipts in it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any

from pipeline.lab.workload import Workload
from pipeline.lead import encode

__all__ = ["Answers", "Load", "LoadReport", "requests"]

CONNECT_MAX_S = 10.0
#: Of the answers that are not as they should be: how many are told.
FLAWS_MAX = 5


@dataclass(frozen=True)
class LoadReport:
    """What a load found.

    Attributes:
        accepted: leads with a receipt, those of the warm-up too.
        timed: leads with a receipt while the clock ran.
        seconds: how long that was.
        p50_ms, p99_ms, worst_ms: of the requests answered in that time, from the request to the whole answer.
        refused: answers 503 in all; a request that is refused is sent again after a pause, and timed from then on.
        cpu_s: processor seconds of the load itself in that time.
        peak_rss_mib: its memory.
        flaws: the first answers that were no 202 with a receipt for each lead, or what broke a connection.
    """

    accepted: int
    timed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    worst_ms: float
    cpu_s: float
    peak_rss_mib: float
    flaws: Sequence[str]
    refused: int = 0

    @classmethod
    def read(cls, path: Path) -> LoadReport:
        """The report in a file."""
        return cls(**json.loads(path.read_text()))


def requests(leads: Workload, per_request: int) -> Iterator[tuple[bytes, int]]:
    """Whole requests and how many leads are in each: single leads as objects, more as arrays of `per_request`."""
    bodies = (encode(leads.lead(number)) for number in leads.numbers())
    while part := list(islice(bodies, per_request)):
        body = part[0] if per_request == 1 else b"[" + b",".join(part) + b"]"
        head = f"POST /leads HTTP/1.1\r\nHost: leads\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        yield head.encode() + b"\r\n\r\n" + body, len(part)


class Answers:
    """Takes the bytes of one connection apart: answers with `Content-Length`, one after the other."""

    def __init__(self) -> None:
        self._bytes = b""

    def feed(self, data: bytes) -> bytes | None:
        """The whole answer, when this was the end of one; None while more is to come.

        Raises:
            ValueError: it is no such answer.
        """
        self._bytes = data = self._bytes + data if self._bytes else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        start = data.find(b"Content-Length: ", 0, end)
        if start < 0:
            raise ValueError("an answer without Content-Length")
        length = int(data[start + 16 : data.find(b"\r\n", start)])
        if len(data) < end + 4 + length:
            return None
        self._bytes = b""
        return data


class Load:
    """Sends requests over some connections, each the next one when it has its answer.

    Args:
        given: requests, and how many leads are in each.
        warm_up: so many requests are answered before the clock starts.
        pause_s: how long a connection waits before it sends again what was refused; 0: a refusal is a flaw.
    """

    def __init__(self, given: Sequence[tuple[bytes, int]], *, warm_up: int, pause_s: float = 0.0) -> None:
        self.pause_s = pause_s
        self._refused = 0
        self._given = iter(given)
        self._timed_at = warm_up
        self._left = len(given)
        self._latencies_s = array("d")
        self._accepted = self._accepted_before = 0
        self._began_s = self._began_cpu_s = 0.0
        self.flaws: list[str] = []
        self.done = asyncio.get_running_loop().create_future()

    def next(self) -> tuple[bytes, int] | None:
        """What to send next; None when nothing is left."""
        return next(self._given, None)

    def answered(self, answer: bytes, leads: int, sent_s: float) -> None:
        """Take the answer to a request with so many leads."""
        now_s = time.perf_counter()
        if answer.startswith(b"HTTP/1.1 202 ") and answer.count(b'"status_url":"') == leads:
            self._accepted += leads
        else:
            self.flaw(answer[:300].decode(errors="replace"))
        self._left -= 1
        if self._timed_at > 0:
            self._timed_at -= 1
            if self._timed_at == 0:
                self._start(now_s)
        elif sent_s >= self._began_s:
            self._latencies_s.append(now_s - sent_s)
        if self._left == 0:
            self._finish(now_s)

    def is_refused(self, answer: bytes) -> bool:
        """Whether the answer says to come again, which is counted."""
        if not (self.pause_s and answer.startswith(b"HTTP/1.1 503 ")):
            return False
        self._refused += 1
        return True

    def flaw(self, text: str) -> None:
        """Note what is not as it should be."""
        if len(self.flaws) < FLAWS_MAX:
            self.flaws.append(text)

    def failed(self, text: str) -> None:
        """A connection is broken: the load ends."""
        self.flaw(text)
        self._finish(time.perf_counter())

    def _start(self, now_s: float) -> None:
        self._began_s, self._began_cpu_s, self._accepted_before = now_s, time.process_time(), self._accepted

    def _finish(self, now_s: float) -> None:
        if self.done.done():
            return
        cuts_s = quantiles(self._latencies_s, n=100) if len(self._latencies_s) > 1 else [0.0] * 99
        self.done.set_result(
            LoadReport(
                accepted=self._accepted,
                timed=self._accepted - self._accepted_before,
                seconds=now_s - self._began_s,
                p50_ms=cuts_s[49] * 1000,
                p99_ms=cuts_s[98] * 1000,
                worst_ms=max(self._latencies_s, default=0.0) * 1000,
                cpu_s=time.process_time() - self._began_cpu_s,
                peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                flaws=self.flaws,
                refused=self._refused,
            )
        )


class _Connection(asyncio.Protocol):
    _transport: Any

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answers = Answers()
        self._request = b""
        self._leads = 0
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def go_on(self) -> None:
        request = self._load.next()
        if request is None:
            self._leads = 0
            return
        self._request, self._leads = request
        self._send()

    def _send(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._answers.feed(data)
        except ValueError as error:
            return self._load.failed(str(error))
        if answer is not None and self._load.is_refused(answer):
            asyncio.get_running_loop().call_later(self._load.pause_s, self._send)
        elif answer is not None:
            leads, sent_s = self._leads, self._sent_s
            self._load.answered(answer, leads, sent_s)
            self.go_on()
        return None

    def connection_lost(self, error: Exception | None) -> None:
        if self._leads:
            self._load.failed(f"a connection was lost: {error!r}")


async def _run(
    port: int, connections: int, given: Sequence[tuple[bytes, int]], warm_up: int, pause_s: float
) -> LoadReport:
    loop = asyncio.get_running_loop()
    load = Load(given, warm_up=warm_up, pause_s=pause_s)
    async with asyncio.timeout(CONNECT_MAX_S):
        made = [await loop.create_connection(lambda: _Connection(load), "127.0.0.1", port) for _ in range(connections)]
    for _, connection in made:
        connection.go_on()
    report: LoadReport = await load.done
    for transport, _ in made:
        transport.close()
    return report


def _main() -> None:
    leads = Workload(int(os.environ["LAB_SEED"]), int(os.environ["LAB_LEADS"]))
    given = list(requests(leads, int(os.environ["LAB_PER_REQUEST"])))
    port, connections = int(os.environ["LAB_PORT"]), int(os.environ["LAB_CONNECTIONS"])
    gc.freeze()  # the requests are walked by nobody
    import uvloop  # here: it is of the `bench` extra, and `leads` reads this module for its report

    pause_s = float(os.environ["LAB_PAUSE_S"])
    report = uvloop.run(_run(port, connections, given, int(os.environ["LAB_WARM_UP"]), pause_s))
    path = Path(os.environ["LAB_REPORT"])
    path.with_suffix(".new").write_text(json.dumps(asdict(report)))
    path.with_suffix(".new").replace(path)


if __name__ == "__main__":
    _main()
