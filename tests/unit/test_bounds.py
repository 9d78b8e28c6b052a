"""What a worker takes on at a time, what an address may send, and what a connection may take."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from pipeline.web import bounds, connections
from pipeline.web.access import Access
from pipeline.web.bounds import BURST_S, Load, RateLimit
from pipeline.web.connections import OF_ADDRESS_MAX, Connections
from pipeline.web.problems import Problem
from tests.unit.capture_server import Client, Topic, serve
from tests.unit.test_fast_path import connect, lead, request


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


HERE, THERE = ip_address("192.0.2.1"), ip_address("192.0.2.2")


def passed(limit: RateLimit, address: Any, tries: int) -> int:
    count = 0
    for _ in range(tries):
        with suppress(Problem):
            limit.require(address)
            count += 1
    return count


class TestRateLimit:
    def test_a_burst_then_the_rate_of_each_address(self) -> None:
        clock = Clock()
        limit = RateLimit(5, now=clock)
        assert passed(limit, HERE, 100) == 5 * BURST_S
        assert passed(limit, THERE, 100) == 5 * BURST_S
        clock.now_s += 2
        assert passed(limit, HERE, 100) == 10
        clock.now_s += 3600
        assert passed(limit, HERE, 100) == 5 * BURST_S

    def test_an_array_counts_for_what_it_holds(self) -> None:
        clock = Clock()
        limit = RateLimit(1, now=clock)
        limit.require(HERE)
        limit.charge(HERE, 99)
        with pytest.raises(Problem) as refused:
            limit.require(HERE)
        assert refused.value.headers == {"Retry-After": "91"}
        clock.now_s += 91
        limit.require(HERE)

    def test_arrays_that_come_in_side_by_side(self) -> None:
        limit = RateLimit(1, now=Clock())
        assert passed(limit, HERE, 5) == 5
        limit.charge(HERE, 999)
        for _ in range(4):
            with pytest.raises(Problem):
                limit.charge(HERE, 999)

    def test_a_network_of_ipv6_is_one_address(self) -> None:
        limit = RateLimit(1, now=Clock())
        assert passed(limit, ip_address("2001:db8::1"), 100) == BURST_S
        assert passed(limit, ip_address("2001:db8::2"), 100) == 0
        assert passed(limit, ip_address("2001:db8:0:1::1"), 100) == BURST_S

    @pytest.mark.parametrize("address", [None, ip_address("127.0.0.1"), ip_address("::1")])
    def test_this_machine_has_none(self, address: Any) -> None:
        assert passed(RateLimit(1, now=Clock()), address, 100) == 100

    def test_nought_is_no_limit(self) -> None:
        assert passed(RateLimit(0, now=Clock()), HERE, 100) == 100

    def test_only_so_many_addresses_are_remembered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "ADDRESSES_MAX", 2)
        limit = RateLimit(1, now=Clock())
        passed(limit, HERE, 100)
        for number in range(10):
            limit.require(ip_address(number))
        assert len(limit._left) == 2


class TestConnections:
    def test_of_one_address(self) -> None:
        counted = Connections(Access(proxies=[ip_network("10.0.0.0/8")]))
        assert all(counted.enter(HERE) for _ in range(OF_ADDRESS_MAX))
        assert not counted.enter(HERE)
        counted.leave(HERE)
        assert not counted.enter(HERE)
        assert counted.enter(THERE)
        for _ in range(2):
            counted.leave(HERE)
        assert counted.enter(HERE)
        for exempt in (ip_address("127.0.0.1"), ip_address("10.0.0.1"), None):
            assert all(counted.enter(exempt) for _ in range(OF_ADDRESS_MAX + 1))

    def test_of_one_network_of_ipv6(self) -> None:
        counted = Connections(Access())
        entered = [counted.enter(ip_address(f"2001:db8::{number:x}")) for number in range(OF_ADDRESS_MAX + 1)]
        assert entered == [True] * OF_ADDRESS_MAX + [False]
        for number in range(OF_ADDRESS_MAX + 1):
            counted.leave(ip_address(f"2001:db8::{number:x}"))
        assert not counted._of

    def test_in_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
        counted = Connections(Access())
        assert [counted.enter(ip_address(number)) for number in range(3)] == [True, True, False]


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
def load() -> Load:
    return Load(2, 1000)


@pytest.fixture
async def client(topic: Topic, load: Load) -> AsyncIterator[Client]:
    async for client in serve(topic, load=load):
        yield client


@pytest.mark.parametrize("is_known", [False, True], ids=["aiohttp's way", "the shorter way"])
class TestBackpressure:
    async def test_a_request_too_many_is_refused_at_once(
        self, client: Client, topic: Topic, load: Load, is_known: bool
    ) -> None:
        peers = [await connect(client) for _ in range(3)]
        if is_known:
            for peer in peers:
                assert (await peer.ask(request(lead())))[0] == 202
        topic.acknowledge.clear()
        await peers[0].send(request(lead(1)))
        await peers[1].send(request(lead(2)))
        status, headers, problem = await peers[2].ask(request(lead(3)))
        assert (status, headers["Retry-After"], problem["type"]) == (503, "1", "urn:problem-type:leads:busy")
        assert len(json.dumps(problem)) < 300
        topic.acknowledge.set()
        assert [(await peer.answer())[0] for peer in peers[:2]] == [202, 202]
        assert (await peers[2].ask(request(lead(3))))[0] == 202
        assert (load.requests, load.size_bytes) == (0, 0)

    async def test_more_bytes_than_fit(self, client: Client, topic: Topic, load: Load, is_known: bool) -> None:
        one, two = await connect(client), await connect(client)
        if is_known:
            assert [(await peer.ask(request(lead())))[0] for peer in (one, two)] == [202, 202]
        topic.acknowledge.clear()
        await one.send(request({**lead(1), "company": "x" * 500}))
        assert (await two.ask(request({**lead(2), "company": "x" * 500})))[0] == 503
        topic.acknowledge.set()
        assert (await one.answer())[0] == 202
        assert (load.requests, load.size_bytes) == (0, 0)


async def test_bodies_that_arrive_slowly_keep_nobody_out(client: Client, topic: Topic, load: Load) -> None:
    slow = [await connect(client) for _ in range(10)]
    for number, peer in enumerate(slow):
        await peer.send(request(lead(number))[:-20])
    assert (await (await connect(client)).ask(request(lead(1))))[0] == 202
    for peer in slow:
        peer.leave()


def test_the_bodies_of_one_address_leave_room_for_others() -> None:
    load = Load(10, 80 * 1024 * 1024)
    with load.hold(HERE) as one, load.hold(HERE) as two, load.hold(THERE) as other, load.hold(None) as local:
        one.grow(6_000_000)
        with pytest.raises(Problem):
            two.grow(6_000_000)
        other.grow(6_000_000)
        local.grow(60_000_000)
    assert (load.size_bytes, load.bytes_of) == (0, {})


async def test_a_client_that_leaves_gives_back_what_it_held(client: Client, topic: Topic, load: Load) -> None:
    peer = await connect(client)
    await peer.send(request(lead())[:-20])
    assert load.size_bytes > 0
    peer.leave()
    async with asyncio.timeout(10):
        while load.size_bytes:  # noqa: ASYNC110  # the server's own event
            await asyncio.sleep(0.01)
    assert load.requests == 0


class TestSlowHeads:
    async def test_a_head_that_does_not_end(self, topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.web.fast_path.HEAD_TIMEOUT_S", 0.2)
        async for client in serve(topic):
            silent, slow, second = [await connect(client) for _ in range(3)]
            assert (await second.ask(request(lead(1))))[0] == 202
            await slow.send(b"POST /leads HTTP/1.1\r\nHost: x\r\n")
            await slow.send(b"X-A: 1\r\n")
            await second.send(request(lead(2))[:40])
            for peer in (silent, slow, second):
                status, headers, _ = await peer.answer()
                assert (status, headers["Connection"]) == (408, "close")
                assert await peer.is_closed()

    async def test_an_idle_connection_and_a_slow_body_have_their_own_time(self, client: Client) -> None:
        idle, slow = await connect(client), await connect(client)
        assert (await idle.ask(request(lead(1))))[0] == 202
        assert (await idle.ask(request(lead(1))))[0] == 202
        await slow.send(request(lead(2))[:-5])
        runner = client.server.runner
        assert runner is not None
        assert runner.server is not None
        handlers: list[Any] = list(runner.server.connections)
        assert [handler._alarm for handler in handlers] == [None, None]
        assert (await slow.ask(request(lead(2))[-5:]))[0] == 202


async def test_connections_beyond_the_bound(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 2)
    async for client in serve(topic):
        kept = [await connect(client) for _ in range(2)]
        assert [(await peer.ask(request(lead(1))))[0] for peer in kept] == [202, 202]
        refused = await connect(client)
        status, headers, problem = await refused.answer()
        assert (status, headers["Retry-After"], problem["title"]) == (503, "1", "Busy")
        assert await refused.is_closed()
        kept[0].leave()
        await asyncio.sleep(0.05)
        assert (await (await connect(client)).ask(request(lead(1))))[0] == 202


async def test_an_address_that_sends_too_much(topic: Topic) -> None:
    proxy = [ip_network("127.0.0.0/8")]
    async for client in serve(topic, access=Access(proxies=proxy), rate_limit=RateLimit(1)):
        peer = await connect(client)
        one, other = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
        assert (await peer.ask(request([lead(number) for number in range(100)], one)))[0] == 202
        status, headers, problem = await peer.ask(request(lead(1), one))
        assert (status, problem["type"]) == (429, "urn:problem-type:leads:too-many")
        assert 80 < int(headers["Retry-After"]) < 100
        assert (await peer.ask(request(lead(1), other)))[0] == 202
