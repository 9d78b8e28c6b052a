"""The shorter way of a lead over HTTP: who is on it gets what aiohttp's own way answers, however the bytes arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest

from pipeline.lead import LEAD_SIZE_MAX_BYTES
from pipeline.web.capture import Outcome
from tests.unit.capture_server import Client, Topic, serve


class Counting(Topic):
    """Counts the leads that come by the shorter way."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0

    def put(self, key: bytes, value: bytes, tell: Callable[[Outcome], None]) -> None:
        self.puts += 1
        super().put(key, value, tell)


def request(body: Any, *headers: str, method: str = "POST /leads") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} HTTP/1.1", "Host: leads", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode() + data


def lead(number: int = 1) -> dict[str, str]:
    sent_at = "2026-01-05T08:00:00Z"
    return {"message_id": f"m{number}", "email": f"{'x' * (number % 7)}@example.com", "captured_at": sent_at}


class Peer:
    """A client that sends bytes, and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send as one segment, and let the server read it."""
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0.005)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers but for the time, and content of the next answer."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            status, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers["Content-Length"]))
        headers.pop("Date")
        is_json = headers["Content-Type"].endswith("json")
        return int(status.split()[1]), headers, json.loads(body) if is_json else body.decode()

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], Any]:
        await self.send(data)
        return await self.answer()

    async def is_closed(self) -> bool:
        return await self._reader.read() == b""

    def leave(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
def topic() -> Counting:
    return Counting()


@pytest.fixture
async def client(topic: Counting) -> AsyncIterator[Client]:
    async for client in serve(topic):
        yield client


async def connect(client: Client) -> Peer:
    return Peer(*await asyncio.open_connection("127.0.0.1", client.port))


async def known(client: Client, topic: Counting) -> Peer:
    """A connection on which the next lead goes the shorter way."""
    peer = await connect(client)
    assert (await peer.ask(request(lead(0))))[0] == 202
    topic.puts = 0
    return peer


class TestTheSame:
    async def test_a_receipt(self, client: Client, topic: Counting) -> None:
        peer = await connect(client)
        first, second = await peer.ask(request(lead())), await peer.ask(request(lead()))
        assert topic.puts == 1
        assert first[0] == second[0] == 202
        assert first[1] == second[1]
        assert [answer[2].pop("offset") for answer in (first, second)] == [0, 1]
        assert [answer[2].pop("status_url")[-8:] for answer in (first, second)] == ["offset=0", "offset=1"]
        assert first[2] == second[2]
        assert topic.records[0] == topic.records[1]

    async def test_no_answer_before_the_broker_has_it(self, client: Client, topic: Counting) -> None:
        peer = await known(client, topic)
        topic.acknowledge.clear()
        asking = asyncio.ensure_future(peer.ask(request(lead())))
        await asyncio.sleep(0.05)
        assert (topic.puts, asking.done()) == (1, False)
        topic.acknowledge.set()
        assert (await asking)[0] == 202

    @pytest.mark.parametrize("body", [b"{}", b"{", b"[]", b"5", b'{"email": 1}', b'{"phone": "\\u0000"}'])
    async def test_what_is_no_lead(self, client: Client, topic: Counting, body: bytes) -> None:
        expected = await (await connect(client)).ask(request(body))
        peer = await known(client, topic)
        assert await peer.ask(request(body)) == expected
        assert expected[0] == 400
        assert (await peer.ask(request(lead())))[0] == 202
        assert topic.puts == 1

    async def test_not_acknowledged(self, client: Client, topic: Counting) -> None:
        topic.silent = {"m1"}
        expected = await (await connect(client)).ask(request(lead()))
        peer = await known(client, topic)
        assert await peer.ask(request(lead())) == expected
        assert topic.puts == 1
        assert (expected[0], expected[1]["Retry-After"]) == (503, "5")

    async def test_spooled(self, client: Client, topic: Counting) -> None:
        topic.spooled = {"m1"}
        expected = await (await connect(client)).ask(request(lead()))
        peer = await known(client, topic)
        assert await peer.ask(request(lead())) == expected
        assert topic.puts == 1
        assert expected[0] == 202
        assert expected[2]["spooled"] is True

    async def test_a_bug_is_not_swallowed(
        self, client: Client, topic: Counting, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peer = await known(client, topic)

        def broken(*_: Any) -> Any:
            raise RuntimeError("bug")

        monkeypatch.setattr(topic, "_publish", broken)
        assert (await peer.ask(request(lead())))[0] == 500
        assert topic.puts == 1
        assert "RuntimeError: bug" in caplog.text


@pytest.mark.parametrize("kind", ["a*0*", "a*0*; b=c", "a*", "=b", 'a="', "a=\x80", "a*0*=b"])
async def test_a_media_type_that_is_none(client: Client, kind: str) -> None:
    """For some the parser of the standard library raises, and aiohttp answered 500."""
    peer = await connect(client)
    asked = request(lead()).replace(b"application/json", f"application/json; {kind}".encode("latin-1"))
    assert (await peer.ask(asked))[0] == 415
    assert (await peer.ask(request(lead())))[0] == 202


async def test_a_media_type_with_thousands_of_parameters_is_none(client: Client, topic: Counting) -> None:
    """aiohttp takes a second to find them all, before any limit of ours."""
    peer = await connect(client)
    many = b"application/json" + b";a=b" * 9
    assert (await peer.ask(request(lead()).replace(b"application/json", many)))[0] == 415
    few = b"application/json" + b";a=b" * 8
    assert (await peer.ask(request(lead()).replace(b"application/json", few)))[0] == 202


class TestAnotherRequest:
    @pytest.mark.parametrize(
        "data,status",
        [
            (request(lead(), "Idempotency-Key: m2"), 400),
            (request(lead(), "Content-Encoding: gzip"), 415),
            (request(lead(), "X-Leads-Forwarded: http://127.0.0.1:1"), 202),
            (request([lead()]), 202),
            (request(lead(), method="POST /leads?x=1"), 202),
            (request(lead(), method="PUT /leads"), 405),
            (request(lead()).replace(b"application/json", b"text/plain"), 415),
            (request({**lead(), "name": "x" * LEAD_SIZE_MAX_BYTES}), 413),
        ],
    )
    async def test_goes_aiohttps_way(self, client: Client, topic: Counting, data: bytes, status: int) -> None:
        for _ in range(2):
            peer = await known(client, topic)
            assert (await peer.ask(data))[0] == status
        assert topic.puts == 0

    async def test_the_end_of_the_connection_is_asked_for(self, client: Client, topic: Counting) -> None:
        for _ in range(2):
            peer = await connect(client)
            assert (await peer.ask(request(lead(), "Connection: close")))[0] == 202
            assert await peer.is_closed()
        assert topic.puts == 0


class TestPieces:
    async def test_nothing_is_learned_of_a_body_that_looks_like_a_head(self, client: Client, topic: Counting) -> None:
        """Empty lines before a request hide where its head ends: here its body seems to be a request of its own."""
        body = json.dumps(lead()).encode()
        fake = b"PUT /other HTTP/1.0\r\nHost: leads\r\nIdempotency-Key: m1\r\nContent-Length: %d\r\n\r\n" % len(body)
        size = 1000
        head = b"POST /leads HTTP/1.1\r\nHost: leads\r\nX-Pad: %b\r\nContent-Length: 1000\r\n\r\n"
        peer, other = await connect(client), await connect(client)
        await peer.send(b"\r\n\r\n" + head % (b"p" * (size + 2 - len(head))))
        await peer.send(fake.ljust(size) + request(lead()))
        topic.puts = 0
        assert (await other.ask(fake + body))[0] == 404
        assert topic.puts == 0

    async def test_of_one_request(self, client: Client, topic: Counting) -> None:
        peer = await known(client, topic)
        data = request(lead())
        for cut in (1, data.index(b"\r\n\r\n") + 4, len(data) - 1):
            await peer.send(data[:cut])
            assert (await peer.ask(data[cut:]))[0] == 202

    async def test_head_and_body_and_then_both_at_once(self, client: Client, topic: Counting) -> None:
        peer, data = await connect(client), request(lead())
        cut = data.index(b"\r\n\r\n") + 4
        await peer.send(data[:cut])
        assert (await peer.ask(data[cut:]))[0] == 202
        assert (await peer.ask(data))[0] == 202
        assert topic.puts == 1

    async def test_a_known_head_inside_another_request(self, client: Client, topic: Counting) -> None:
        await known(client, topic)
        inner = request(lead())
        peer = await connect(client)
        await peer.send(b"POST /leads HTTP/1.1\r\nHost: ")
        await peer.send(inner)
        outer = request(b" " * len(inner) + b"{}")
        cut = outer.index(b"\r\n\r\n") + 4
        peer = await connect(client)
        await peer.send(outer[:cut])
        await peer.send(inner)
        assert (await peer.ask(outer[cut + len(inner) :]))[0] == 400
        assert topic.puts == 0

    async def test_the_next_request_before_the_answer(self, client: Client, topic: Counting) -> None:
        peer = await known(client, topic)
        topic.acknowledge.clear()
        await peer.send(request(lead(1)))
        await peer.send(request(lead(2)) + request(lead(3)))
        assert topic.puts == 1
        topic.acknowledge.set()
        found = [(await peer.answer())[2]["message_id"] for _ in range(3)]
        assert found == ["m1", "m2", "m3"]

    async def test_behind_one_that_goes_aiohttps_way(self, client: Client, topic: Counting) -> None:
        peer = await known(client, topic)
        topic.acknowledge.clear()
        await peer.send(request(lead(1), "Idempotency-Key: m1"))
        await peer.send(request(lead(2)))
        assert topic.puts == 0
        topic.acknowledge.set()
        assert [(await peer.answer())[2]["message_id"] for _ in range(2)] == ["m1", "m2"]

    @pytest.mark.parametrize("seed", range(20))
    async def test_any_stream_in_any_pieces(self, client: Client, topic: Counting, seed: int) -> None:
        random, wanted, stream = Random(seed), [], b""
        for number in range(30):
            kind = random.randrange(6)
            data, status = {
                0: (request(lead(number), f"Idempotency-Key: m{number}"), 202),
                1: (request(b"{}"), 400),
                2: (request(b"", method="GET /none"), 404),
            }.get(kind, (request(lead(number)), 202))
            stream, wanted = stream + data, [*wanted, status]
        peer = await known(client, topic)
        reading = asyncio.ensure_future(_statuses(peer, len(wanted)))
        ends = [at for at in range(len(stream)) if stream.startswith(b"POST /leads", at)]
        cuts = sorted({*random.sample(ends, 12), *random.sample(range(len(stream)), random.choice((0, 0, 3))), 0})
        for start, end in zip(cuts, [*cuts[1:], len(stream)], strict=True):
            await peer.send(stream[start:end])
        assert await reading == wanted


async def _statuses(peer: Peer, count: int) -> list[int]:
    return [(await peer.answer())[0] for _ in range(count)]


class TestEnds:
    async def test_who_waits_is_answered_when_the_worker_stops(self, topic: Counting) -> None:
        async for client in serve(topic):
            peer = await known(client, topic)
            topic.acknowledge.clear()
            await peer.send(request(lead()))
            closing = asyncio.ensure_future(client.server.close())
            await asyncio.sleep(0.05)
            assert not closing.done()
            topic.acknowledge.set()
            assert (await peer.answer())[0] == 202
            await closing
            assert await peer.is_closed()

    async def test_a_client_that_leaves(self, client: Client, topic: Counting) -> None:
        peer = await known(client, topic)
        topic.acknowledge.clear()
        await peer.send(request(lead()))
        peer.leave()
        await asyncio.sleep(0.02)
        topic.acknowledge.set()
        other = await connect(client)
        assert (await other.ask(request(lead(2))))[0] == 202
        assert len(topic.records) == 3
