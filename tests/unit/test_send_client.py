"""The client and its patience, against a server on a real socket that answers as the test says."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pipeline.embedded import free_port
from pipeline.lead import parse
from pipeline.sending import client as client_module
from pipeline.sending.client import Client, Item, NotAccepting, Unavailable, Verdict, leads_url
from pipeline.sending.entry import BadFile, Numbered, Refused
from pipeline.sending.reading import AHEAD_MAX_ENTRIES
from pipeline.sending.sender import BATCH_MAX_LEADS, BATCH_SIZE_MAX_BYTES, LANES, GaveUp, Sender
from pipeline.sending.tally import Tally
from tests.unit.send_worker import PROBLEM, SECRET, Worker, accept, answering, drop, receipt, results


def numbered(count: int, **members: Any) -> list[Numbered]:
    return [Numbered(n, parse({"message_id": f"m{n}", "email": SECRET, **members})) for n in range(1, count + 1)]


@dataclass
class Time:
    """Time that passes only while somebody sleeps."""

    now_s: float = 1000.0
    slept_s: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


class Run:
    """A sender, what it said, and the time that passed for it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.said: list[str] = []
        self.time = Time()

    async def send(self, url: str, entries: Iterator[Any], patience_s: float = 300.0, timeout_s: float = 60.0) -> None:
        async with aiohttp.ClientSession() as session:
            await Sender(
                Client(session, leads_url(url), timeout_s=timeout_s),
                self.tally,
                say=self.said.append,
                moved=lambda: None,
                patience_s=patience_s,
                sleep=self.time.sleep,
                clock=self.time.clock,
            ).send(entries)

    @property
    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker().serving() as serving:
        yield serving


@pytest.fixture
def run() -> Run:
    return Run()


@asynccontextmanager
async def talking(answer: bytes) -> AsyncIterator[str]:
    """A server that reads a little, writes these bytes and hangs up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def one(url: str, entries: list[Numbered] | None = None, **options: Any) -> Any:
    """The answer to one request."""
    async with aiohttp.ClientSession() as session:
        items = [Item.of(entry.line, entry.lead) for entry in entries or numbered(2)]
        return await Client(session, leads_url(url), **options).post(items)


def announcing(worker: Worker) -> asyncio.Event:
    """Set when the worker has accepted its first request."""
    arrived = asyncio.Event()

    async def play(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
        arrived.set()
        return await accept(request, leads)

    worker.plays = [play]
    return arrived


class TestUrl:
    @pytest.mark.parametrize(
        "text,url",
        [
            ("http://host:6066", "http://host:6066/leads"),
            ("http://host:6066/", "http://host:6066/leads"),
            ("https://host/crm/", "https://host/crm/leads"),
            ("http://[::1]:6066/leads", "http://[::1]:6066/leads"),
            ("http://host/leads/", "http://host/leads/"),
        ],
    )
    def test_of_a_worker_or_of_its_leads(self, text: str, url: str) -> None:
        assert str(leads_url(text)) == url

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "host:6066",
            "ftp://host",
            "http://",
            "/leads",
            "http://[x",
            "http://h:99999",
            "http://h/?a=b",
            "http://a..b/",
            f"http://{'a' * 70}.example/",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError):
            leads_url(text)

    async def test_a_password_is_not_shown(self) -> None:
        async with aiohttp.ClientSession() as session:
            assert Client(session, leads_url("http://me:s3cret@host")).shown_url == "http://host/leads"


class TestAnswers:
    async def test_mixed_results(self, worker: Worker) -> None:
        async def mixed(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            refused = {"type": "x", "status": 400, "field": "email", "reason": "no\x1b[31m", "detail": SECRET}
            return results([receipt(leads[0]), PROBLEM | {"message_id": "m2"}, refused], Retry_After="7")

        worker.plays = [mixed]
        answer = await one(worker.url, numbered(3))
        assert answer.verdicts == [Verdict(202), Verdict(503), Verdict(400, "email: no\\u001b[31m")]
        [array] = worker.arrays
        assert [lead["message_id"] for lead in array] == ["m1", "m2", "m3"]

    async def test_none_acknowledged(self, worker: Worker) -> None:
        async def none(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            return web.json_response(PROBLEM | {"results": [PROBLEM] * 2}, status=503, headers={"Retry-After": "7"})

        worker.plays = [none]
        assert await one(worker.url) == ([Verdict(503)] * 2, 7.0)

    @pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
    async def test_later(self, worker: Worker, status: int) -> None:
        worker.plays = [answering(status, f"<p>{SECRET}", Retry_After="11")]
        with pytest.raises(Unavailable, match=str(status)) as error:
            await one(worker.url)
        assert error.value.retry_after_s == 11.0
        assert SECRET not in str(error.value)

    @pytest.mark.parametrize(
        "text", ["", "-5", "soon", "1e9", "9" * 400, "Mon, 99 Foo", "Fri, 31 Dec 9999 23:59:59 -1200"]
    )
    async def test_a_retry_after_that_means_nothing(self, worker: Worker, text: str) -> None:
        worker.plays = [answering(503, Retry_After=text)]
        with pytest.raises(Unavailable) as error:
            await one(worker.url)
        assert error.value.retry_after_s == 0.0

    async def test_a_retry_after_with_a_date(self, worker: Worker) -> None:
        for at, low, high in ((timedelta(hours=1), 3500, 3601), (timedelta(hours=-1), 0, 0)):
            worker.plays = [answering(503, Retry_After=format_datetime(datetime.now(UTC) + at, usegmt=True))]
            with pytest.raises(Unavailable) as error:
                await one(worker.url)
            assert low <= error.value.retry_after_s <= high

    @pytest.mark.parametrize("status", [200, 301, 308, 400, 401, 403, 404, 405, 413, 415, 500, 501])
    async def test_not_accepting(self, worker: Worker, status: int) -> None:
        worker.plays = [answering(status, f"<html>{SECRET}", Location="http://127.0.0.1:1/")]
        with pytest.raises(NotAccepting) as error:
            await one(worker.url)
        assert f"{worker.url}leads answers {status}" in str(error.value)
        assert SECRET not in str(error.value)

    async def test_a_lead_that_is_spooled_is_safe(self, worker: Worker) -> None:
        results = [{"message_id": f"m{n}", "tenant": "default", "spooled": True} for n in (1, 2)]
        worker.plays = [answering(202, json.dumps({"results": results}))]
        assert (await one(worker.url)).verdicts == [Verdict(202), Verdict(202)]

    @pytest.mark.parametrize(
        "body",
        [
            "<html>hello",
            '{"results": [{"message_id": "m1", "tenant": "default", "spooled": false}, {"status": 503}]}',
            "",
            "[" * 100_000,
            "null",
            '{"results": 5}',
            '{"results": []}',
            '{"results": [{}, {}]}',
            '{"results": [{"message_id": "m1", "tenant": "default"}, {"message_id": "m2", "tenant": "default"}]}',
            '{"results": [{"message_id": "m2", "tenant": "default", "offset": 1}, {"status": 503}]}',
            '{"results": [{"status": 202}, {"status": 503}]}',
            '{"results": [{"status": "503"}, {"status": 503}]}',
        ],
    )
    async def test_a_202_without_a_receipt_for_each_is_none(self, worker: Worker, body: str) -> None:
        worker.plays = [answering(202, body)]
        with pytest.raises(NotAccepting, match="answers 202, but not with receipts"):
            await one(worker.url)

    async def test_an_answer_without_end(self, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "ANSWER_SIZE_MAX_BYTES", 1000)

        async def endless(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            answer = web.StreamResponse(status=202)
            await answer.prepare(request)
            while True:
                await answer.write(b" " * 1000)

        worker.plays = [endless]
        with pytest.raises(NotAccepting, match="more than a worker would"):
            await one(worker.url)

    @pytest.mark.parametrize(
        "answer", [b"SSH-2.0-OpenSSH_9.9\r\n", b"\x15\x03\x01\x00\x02\x02", b"HTTP/1.1 abc\r\n\r\n"]
    )
    async def test_what_speaks_no_http(self, answer: bytes) -> None:
        async with talking(answer + SECRET.encode()) as url:
            with pytest.raises((NotAccepting, Unavailable)) as error:
                await one(url)
        assert SECRET not in str(error.value)

    @pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 202 Acc", b"HTTP/1.1 202 OK\r\nContent-Length: 99\r\n\r\n{"])
    async def test_a_connection_that_is_lost(self, answer: bytes) -> None:
        async with talking(answer) as url:
            with pytest.raises(Unavailable):
                await one(url)

    async def test_a_broker_is_no_worker_and_the_next_try_would_find_it_too(self) -> None:
        """As Kafka does: it hangs up at once on what is not its protocol."""

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size < 1000:  # "POST" is more than a thousand million
                request = await reader.readexactly(size)
                writer.write(b"\0\0\0\6" + request[4:8] + b"\0\0")
                await writer.drain()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            with pytest.raises(NotAccepting, match="it is a Kafka broker"):
                await one(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def test_nobody_there(self) -> None:
        with pytest.raises(Unavailable, match="connection refused"):
            await one(f"http://127.0.0.1:{free_port()}")

    async def test_no_answer_in_time(self, worker: Worker) -> None:
        answered = asyncio.Event()

        async def stuck(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            await answered.wait()
            return web.Response()

        worker.plays = [stuck]
        with pytest.raises(Unavailable, match="no answer in time"):
            await one(worker.url, timeout_s=0.05)
        answered.set()


class TestSender:
    async def test_all_are_sent_once_in_bounded_requests(self, worker: Worker, run: Run) -> None:
        await run.send(worker.url, iter(numbered(3000)))
        assert Counter(worker.accepted) == Counter(f"m{n}" for n in range(1, 3001))
        assert max(map(len, worker.arrays)) == BATCH_MAX_LEADS
        assert worker.at_once_max <= LANES
        assert run.tally.text("accepted") == "3,000 leads accepted (3,000 different message ids), 0 lines refused"
        assert run.said == []

    async def test_large_leads_make_small_arrays(self, worker: Worker, run: Run) -> None:
        await run.send(worker.url, iter(numbered(200, x="x" * 60_000)))
        assert len(worker.accepted) == 200
        assert 500_000 < max(worker.sizes_bytes) <= BATCH_SIZE_MAX_BYTES + 2

    async def test_no_more_is_read_than_can_be_sent(self, worker: Worker, run: Run) -> None:
        ahead: list[int] = []

        def entries() -> Iterator[Numbered]:
            for entry in numbered(10_000):
                ahead.append(entry.line - run.tally.accepted)
                yield entry

        await run.send(worker.url, entries())
        # On its way, waiting and being collected, in each lane; and what is read and dealt out.
        assert max(ahead) <= LANES * 3 * BATCH_MAX_LEADS + 2 * AHEAD_MAX_ENTRIES

    async def test_leads_of_one_id_arrive_in_order(self, worker: Worker, run: Run) -> None:
        entries = [Numbered(n, parse({"message_id": f"m{n % 7}", "phone": f"{n}"})) for n in range(1, 4001)]
        worker.plays = [accept, drop, accept, answering(503), drop, accept, accept, drop]
        await run.send(worker.url, iter(entries))
        arrived: dict[str, list[int]] = {}
        for array in worker.arrays:
            for lead in array:
                found = arrived.setdefault(lead["message_id"], [])
                if int(lead["phone"]) not in found:  # else it is sent again
                    found.append(int(lead["phone"]))
        assert sum(map(len, arrived.values())) == 4000
        assert all(found == sorted(found) for found in arrived.values())
        assert run.tally.text("accepted") == "4,000 leads accepted (7 different message ids), 0 lines refused"

    async def test_items_not_acknowledged_are_sent_again_alone_and_as_they_were(self, worker: Worker, run: Run) -> None:
        async def half(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            return results([receipt(lead) if n % 2 else PROBLEM for n, lead in enumerate(leads)])

        worker.plays = [half] * LANES
        await run.send(worker.url, iter(numbered(400)))
        assert Counter(worker.accepted) == Counter(f"m{n}" for n in range(1, 401))
        sent = [json.dumps(lead) for array in worker.arrays for lead in array]
        assert len(set(sent)) == 400
        assert len(sent) > 400
        assert run.tally.accepted == 400

    async def test_what_the_worker_refuses_is_reported_by_its_line(self, worker: Worker, run: Run) -> None:
        async def refuse(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            refused = {"status": 400, "field": "email", "reason": "is not known here", "detail": SECRET}
            return results([refused] * len(leads), status=400)

        worker.plays = [refuse]
        await run.send(worker.url, iter([*numbered(1), Refused(2, "is not UTF-8")]))
        assert sorted(run.said) == ["line 1: email: is not known here", "line 2: is not UTF-8"]
        assert run.tally.text("accepted") == "0 leads accepted, 2 lines refused"

    async def test_retry_after_is_honoured_and_backoff_grows(self, worker: Worker, run: Run) -> None:
        worker.plays = [answering(503, Retry_After="20"), *[answering(429)] * 7, drop]
        await run.send(worker.url, iter(numbered(1)))
        first, *others = run.time.slept_s
        assert 20 <= first <= 25
        assert len(others) == 8
        assert all(low <= slept <= 1.25 * low for slept, low in zip(others, (0.5, 1, 2, 4, 8, 10, 10, 10), strict=True))
        assert run.said == [
            f"{worker.url}leads: it answers 503. Trying again for up to 300 s.",
            f"{worker.url}leads accepts leads again.",
        ]
        assert worker.accepted == ["m1"]

    async def test_it_gives_up(self, run: Run) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        with pytest.raises(GaveUp, match=r"connection refused. Nothing was accepted for 60 s"):
            await run.send(url, iter(numbered(1000)), patience_s=60)
        assert run.tally.accepted == 0
        assert len(run.said) == 1

    async def test_one_lead_waits_as_long_as_it_may_and_not_longer(self, run: Run) -> None:
        with pytest.raises(GaveUp):
            await run.send(f"http://127.0.0.1:{free_port()}", iter(numbered(1)), patience_s=60)
        assert sum(run.time.slept_s) == pytest.approx(60)

    async def test_it_does_not_wait_for_what_comes_after_its_patience(self, worker: Worker, run: Run) -> None:
        worker.plays = [answering(503, Retry_After="3600")]
        with pytest.raises(GaveUp):
            await run.send(worker.url, iter(numbered(1)))
        assert run.time.slept_s == []

    async def test_a_worker_that_hangs_is_not_waited_for_longer(self, worker: Worker, run: Run) -> None:
        hung = asyncio.Event()

        async def hang(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            await hung.wait()
            return web.Response()

        worker.plays = [hang] * 100
        run.time.clock = time.monotonic  # type: ignore[method-assign]
        started_s = time.monotonic()
        with pytest.raises(GaveUp, match=r"no answer in time. Nothing was accepted for 1.5 s"):
            await run.send(worker.url, iter(numbered(1000)), patience_s=1.5)
        assert 1.4 < time.monotonic() - started_s < 5
        hung.set()

    async def test_success_renews_the_patience(self, worker: Worker, run: Run) -> None:
        async def but_one(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            return results([receipt(leads[0]), *[PROBLEM] * (len(leads) - 1)])

        worker.plays = [play for _ in range(40) for play in (answering(503, Retry_After="5"), but_one)]
        # Under one id, and so in one lane: time that lanes sleep away together would add up here.
        entries = [Numbered(n, parse({"message_id": "m", "phone": f"{n}"})) for n in range(20)]
        await run.send(worker.url, iter(entries), patience_s=12)
        assert sum(run.time.slept_s) > 60
        assert run.tally.accepted == 20

    async def test_patience_does_not_run_while_there_is_nothing_to_send(self, worker: Worker, run: Run) -> None:
        def entries() -> Iterator[Numbered]:
            run.time.now_s += 10_000
            yield from numbered(1)

        worker.plays = [answering(503)]
        await run.send(worker.url, entries())
        assert worker.accepted == ["m1"]

    async def test_an_answer_that_ends_it_ends_the_other_lanes(self, worker: Worker, run: Run) -> None:
        worker.plays = [accept, *[answering(404)] * 100]
        with pytest.raises(NotAccepting, match="answers 404"):
            await run.send(worker.url, iter(numbered(5000)))
        assert run.tally.accepted <= len(worker.accepted) <= BATCH_MAX_LEADS

    async def test_what_comes_before_a_bad_end_is_sent(self, worker: Worker, run: Run) -> None:
        def entries() -> Iterator[Numbered]:
            yield from numbered(1001)
            raise BadFile("cut off")

        with pytest.raises(BadFile, match="cut off"):
            await run.send(worker.url, entries())
        assert len(worker.accepted) == run.tally.accepted == 1001

    async def test_a_bug_is_not_swallowed(self, worker: Worker, run: Run) -> None:
        def entries() -> Iterator[Numbered]:
            yield from numbered(1)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await run.send(worker.url, entries())

    async def test_what_has_come_is_sent_while_the_rest_does_not_come(self, worker: Worker, run: Run) -> None:
        typed = threading.Event()

        def entries() -> Iterator[Numbered]:
            yield from numbered(3)
            typed.wait()

        arrived = announcing(worker)
        sending = asyncio.create_task(run.send(worker.url, entries()))
        await asyncio.wait_for(arrived.wait(), 10)
        assert not sending.done()
        typed.set()
        await sending

    async def test_a_lead_is_not_held_back_by_others_that_come_one_by_one(self, worker: Worker, run: Run) -> None:
        is_enough = threading.Event()

        def entries() -> Iterator[Numbered]:
            for entry in numbered(2000):
                yield entry
                if is_enough.wait(0.02):
                    return

        arrived = announcing(worker)
        sending = asyncio.create_task(run.send(worker.url, entries()))
        await asyncio.wait_for(arrived.wait(), 20)
        is_enough.set()
        await sending
        assert run.tally.accepted < 500

    async def test_it_ends_while_the_file_gives_nothing(self, worker: Worker, run: Run) -> None:
        typed = threading.Event()

        def entries() -> Iterator[Numbered]:
            yield from numbered(2000)
            typed.wait()  # a terminal at which nobody types

        worker.plays = [answering(404)]
        with pytest.raises(NotAccepting):
            await run.send(worker.url, entries())
        typed.set()


class TestTally:
    def test_ids_are_counted_up_to_a_bound(self) -> None:
        tally = Tally(ids_max=3)
        for n in (1, 2, 1, 3):
            tally.accept(numbered(n)[-1].lead)
        assert tally.text("accepted") == "4 leads accepted (3 different message ids), 0 lines refused"
        tally.accept(numbered(4)[-1].lead)
        tally.refused = 1
        assert tally.text("accepted") == "5 leads accepted (more than 3 different message ids), 1 line refused"

    def test_an_id_belongs_to_its_tenant(self) -> None:
        tally = Tally()
        for tenant in ("acme", "default"):
            tally.accept(numbered(1, tenant=tenant)[0].lead)
        assert tally.text("valid") == "2 leads valid (2 different message ids), 0 lines refused"
