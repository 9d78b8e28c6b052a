"""Captured leads share record batches, and are told once, in bounded time, what became of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, NotEnoughReplicasError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from pipeline.partitioner import partition
from pipeline.spool import Backlog, SpoolWriter, holds, look, spool_path
from pipeline.web.capture import Position, Spooled, Unacknowledged
from pipeline.web.publisher import TopicPublisher

PARTITIONS = 4
TOPIC = "lead-captured"


class Producer:
    """A double of aiokafka's: keeps what it is given until it is told how that went."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, list[bytes], asyncio.Future[Any]]] = []
        self.headers: list[Any] = []
        self.metadata = asyncio.Event()
        self.metadata.set()

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1_000_000, 0)

    async def send_batch(self, builder: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert topic == TOPIC
        await self.metadata.wait()
        records = [*MemoryRecords(bytes(builder._build())).next_batch()]
        self.headers += [record.headers for record in records]
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.sent.append((partition, [record.value for record in records], future))
        return future

    def acknowledge(self, number: int = 0, offset: int = 100) -> None:
        self.sent.pop(number)[2].set_result(SimpleNamespace(offset=offset))

    def fail(self, error: Exception) -> None:
        self.sent.pop(0)[2].set_exception(error)


@pytest.fixture
def producer() -> Producer:
    return Producer()


def publisher(producer: Producer | None, timeout_s: float = 60.0) -> TopicPublisher:
    return TopicPublisher(lambda: producer, TOPIC, partitions=PARTITIONS, timeout_s=timeout_s)


def key_in(number: int) -> bytes:
    return next(key for key in (f"default/{n}".encode() for n in range(100)) if partition(key, PARTITIONS) == number)


A, B = key_in(0), key_in(1)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def batches(producer: Producer) -> list[tuple[int, list[bytes]]]:
    return [(number, values) for number, values, _ in producer.sent]


async def test_an_idle_worker_sends_at_once(producer: Producer) -> None:
    publishing = asyncio.ensure_future(publisher(producer).publish([(A, b"1")]))
    await turns()
    assert batches(producer) == [(0, [b"1"])]
    assert not publishing.done()
    producer.acknowledge(offset=7)
    assert await publishing == [Position(0, 7)]


async def test_those_that_arrive_together_share_a_batch_for_each_partition(producer: Producer) -> None:
    one = publisher(producer)
    publishing = [
        asyncio.ensure_future(one.publish([(key, value)])) for key, value in ((A, b"1"), (B, b"2"), (A, b"3"))
    ]
    await turns()
    assert batches(producer) == [(0, [b"1", b"3"]), (1, [b"2"])]
    producer.acknowledge(1, offset=50)
    producer.acknowledge(0, offset=10)
    assert await asyncio.gather(*publishing) == [[Position(0, 10)], [Position(1, 50)], [Position(0, 11)]]


async def test_those_that_arrive_meanwhile_go_with_the_next_batch(producer: Producer) -> None:
    one = publisher(producer)
    publishing = asyncio.ensure_future(one.publish([(A, b"1")]))
    await turns()
    more = [asyncio.ensure_future(one.publish([(A, value)])) for value in (b"2", b"3")]
    other = asyncio.ensure_future(one.publish([(B, b"4")]))
    await turns()
    assert batches(producer) == [(0, [b"1"]), (1, [b"4"])]
    producer.acknowledge(0, offset=1)
    await turns()
    assert publishing.done()
    assert batches(producer) == [(1, [b"4"]), (0, [b"2", b"3"])]
    producer.acknowledge(1, offset=2)
    producer.acknowledge(0, offset=9)
    assert await asyncio.gather(*more, other) == [[Position(0, 2)], [Position(0, 3)], [Position(1, 9)]]


async def test_what_does_not_fit_goes_with_the_next_one(producer: Producer) -> None:
    records = [(A, bytes([number]) * 60_000) for number in range(20)]
    publishing = asyncio.ensure_future(publisher(producer).publish(records))
    await turns()
    first = producer.sent[0][1]
    assert 10 < len(first) < 20
    producer.acknowledge(offset=0)
    await turns()
    assert [*first, *producer.sent[0][1]] == [value for _, value in records]
    producer.acknowledge(offset=len(first))
    assert await publishing == [Position(0, number) for number in range(20)]


async def test_one_that_is_late_is_told_so_and_what_waits_is_never_sent(producer: Producer) -> None:
    one = publisher(producer, timeout_s=0.02)
    publishing = asyncio.ensure_future(one.publish([(A, b"1")]))
    await turns()
    waiting = asyncio.ensure_future(one.publish([(A, b"2")]))
    [[late], [never]] = await asyncio.gather(publishing, waiting)
    assert isinstance(late, Unacknowledged)
    assert isinstance(never, Unacknowledged)
    assert "in time" in str(late)
    producer.acknowledge()  # after all
    await turns()
    again = asyncio.ensure_future(one.publish([(A, b"3")]))
    await turns()
    assert batches(producer) == [(0, [b"3"])]
    producer.acknowledge(offset=5)
    assert await again == [Position(0, 5)]


async def test_those_that_come_later_wait_as_long(producer: Producer) -> None:
    one = publisher(producer, timeout_s=0.2)
    told: list[Any] = []
    one.put(A, b"1", told.append)
    await asyncio.sleep(0.15)
    one.put(A, b"2", told.append)
    await asyncio.sleep(0.1)
    assert len(told) == 1
    producer.acknowledge()
    await turns()
    producer.acknowledge(offset=8)
    await turns()
    assert told[1:] == [Position(0, 8)]


async def test_a_partition_that_became_late_while_another_had_no_leader(producer: Producer) -> None:
    one = publisher(producer, timeout_s=0.02)
    producer.metadata.clear()
    assert all(isinstance(out, Unacknowledged) for out in await one.publish([(A, b"1"), (B, b"2")]))
    again = asyncio.ensure_future(one.publish([(B, b"3")]))
    await turns()
    producer.metadata.set()
    await turns()
    assert batches(producer) == [(0, [b"1"]), (1, [b"3"])]
    producer.acknowledge(1, offset=3)
    assert await again == [Position(1, 3)]


@pytest.mark.parametrize("error", [KafkaTimeoutError(), NotEnoughReplicasError()])
async def test_the_broker_does_not_acknowledge(producer: Producer, error: Exception) -> None:
    one = publisher(producer)
    publishing = asyncio.ensure_future(one.publish([(A, b"1"), (A, b"2")]))
    await turns()
    producer.fail(error)
    outcomes = await publishing
    assert [type(error).__name__ in str(outcome) for outcome in outcomes] == [True, True]
    again = asyncio.ensure_future(one.publish([(A, b"3")]))
    await turns()
    assert batches(producer) == [(0, [b"3"])]
    again.cancel()


async def test_a_bug_is_raised(producer: Producer) -> None:
    publishing = asyncio.ensure_future(publisher(producer).publish([(A, b"1")]))
    await turns()
    producer.fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await publishing


async def test_a_worker_that_is_starting(producer: Producer) -> None:
    [outcome] = await publisher(None).publish([(A, b"1")])
    assert "starting" in str(outcome)


async def test_who_has_gone_is_not_told(producer: Producer) -> None:
    publishing = asyncio.ensure_future(publisher(producer).publish([(A, b"1")]))
    await turns()
    publishing.cancel()
    await turns()
    producer.acknowledge()
    await turns()
    assert publishing.cancelled()


async def test_one_that_cannot_be_told_keeps_no_other_waiting(producer: Producer) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    told: list[Any] = []

    def raises(outcome: Any) -> None:
        raise ValueError("a bug")

    topic = publisher(producer)
    for tell in (raises, told.append):
        topic.put(A, b"1", tell)
    await turns()
    producer.acknowledge()
    await turns()
    assert told == [Position(0, 101)]
    assert [str(context["exception"]) for context in complaints] == ["a bug"]


async def test_headers_go_along(producer: Producer) -> None:
    one = publisher(producer)
    told: list[Any] = []
    one.put(A, b"1", told.append)
    one.put(A, b"2", told.append, [("suspect", b"too fast")])
    publishing = asyncio.ensure_future(one.publish([(A, b"3"), (B, b"4")], headers=[("suspect", b"honeypot")]))
    await turns()
    assert producer.headers == [[], [("suspect", b"too fast")], [("suspect", b"honeypot")], [("suspect", b"honeypot")]]
    producer.acknowledge(1, offset=1)
    producer.acknowledge(0, offset=2)
    assert await publishing == [Position(0, 4), Position(1, 1)]
    assert told == [Position(0, 2), Position(0, 3)]


class TestWithASpool:
    """What the broker does not acknowledge is on the disk when that is told."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return spool_path(tmp_path)

    def spooling(self, producer: Producer | None, path: Path, timeout_s: float, **options: Any) -> TopicPublisher:
        spool = SpoolWriter(path, **{"max_bytes": 1 << 30, **options})
        return TopicPublisher(lambda: producer, TOPIC, partitions=PARTITIONS, timeout_s=timeout_s, spool=spool)

    def spooled(self, path: Path) -> list[bytes]:
        return [lead.value for lead in Backlog(path).read(0)]

    async def test_at_the_deadline_what_is_sent_and_what_waits_behind_it_is_spooled(
        self, producer: Producer, path: Path
    ) -> None:
        one = self.spooling(producer, path, timeout_s=0.02)
        first = asyncio.ensure_future(one.publish([(A, b"1")], headers=[("suspect", b"x")]))
        await turns()
        behind = asyncio.ensure_future(one.publish([(A, b"2"), (A, b"3")]))
        assert await asyncio.gather(first, behind) == [[Spooled()], [Spooled(), Spooled()]]
        assert self.spooled(path) == [b"1", b"2", b"3"]
        assert Backlog(path).read(0)[0].headers == [("suspect", b"x")]
        assert holds(path, A)
        assert batches(producer) == [(0, [b"1"])]

    async def test_then_it_is_away_and_the_next_ones_are_spooled_at_once_and_nothing_piles_up(
        self, producer: Producer, path: Path
    ) -> None:
        one = self.spooling(producer, path, timeout_s=60)
        publishing = asyncio.ensure_future(one.publish([(A, b"1")]))
        await turns()
        producer.fail(KafkaTimeoutError())
        assert await publishing == [Spooled()]
        assert one.is_away
        for number in range(20):
            assert await one.publish([(A, b"%d" % number)]) == [Spooled()]
        assert look(path).depth == 21
        assert producer.sent == []

    async def test_nor_does_each_partition_have_to_find_out(self, producer: Producer, path: Path) -> None:
        one = self.spooling(producer, path, timeout_s=60)
        both = [asyncio.ensure_future(one.publish([(key, b"1")])) for key in (A, B)]
        await turns()
        producer.fail(KafkaTimeoutError())
        assert await asyncio.gather(*both) == [[Spooled()], [Spooled()]]

    async def test_a_partition_is_not_away_while_another_one_is_acknowledged(
        self, producer: Producer, path: Path
    ) -> None:
        one = self.spooling(producer, path, timeout_s=60)
        both = [asyncio.ensure_future(one.publish([(key, b"1")])) for key in (A, B)]
        await turns()
        producer.acknowledge(1, offset=3)
        producer.fail(KafkaTimeoutError())
        assert await asyncio.gather(*both) == [[Spooled()], [Position(1, 3)]]
        other = asyncio.ensure_future(one.publish([(B, b"2")]))
        await turns()
        producer.acknowledge(offset=4)
        assert await other == [Position(1, 4)]

    async def test_when_it_is_back_leads_go_to_the_broker_again(self, producer: Producer, path: Path) -> None:
        one = self.spooling(producer, path, timeout_s=60)
        both = [asyncio.ensure_future(one.publish([(key, b"1")])) for key in (A, B)]
        await turns()
        for _ in both:
            producer.fail(KafkaTimeoutError())
        assert await asyncio.gather(*both) == [[Spooled()], [Spooled()]]
        for number in (0, 2, 3):
            one.returned(number)
        assert one.is_away
        again = asyncio.ensure_future(one.publish([(A, b"2")]))
        await turns()
        assert batches(producer) == [(0, [b"2"])]
        producer.acknowledge(offset=9)
        assert await again == [Position(0, 9)]
        assert await one.publish([(B, b"3")]) == [Spooled()]
        one.returned()
        assert not one.is_away

    async def test_a_batch_that_hangs_is_the_only_one(self, producer: Producer, path: Path) -> None:
        one = self.spooling(producer, path, timeout_s=0.02)
        for number in range(3):
            assert await one.publish([(A, b"%d" % number)]) == [Spooled()]
            one.returned()  # too early
        assert batches(producer) == [(0, [b"0"])]
        producer.acknowledge()  # after all: it is told to nobody
        assert self.spooled(path) == [b"0", b"1", b"2"]

    async def test_a_disk_that_hangs(self, producer: Producer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.web.publisher.SPOOL_MAX_S", 0.02)
        one = self.spooling(producer, path, timeout_s=0.02)
        monkeypatch.setattr(SpoolWriter, "put", lambda *_: None)
        [outcome] = await one.publish([(A, b"1")])
        assert isinstance(outcome, Unacknowledged)
        assert "the disk does not answer" in str(outcome)

    async def test_a_spool_that_is_full(self, producer: Producer, path: Path) -> None:
        one = self.spooling(producer, path, timeout_s=0.02, max_bytes=4096)
        [outcome] = await one.publish([(A, bytes(5000))])
        assert isinstance(outcome, Unacknowledged)
        assert "full" in str(outcome)

    async def test_a_bug_is_not_spooled(self, producer: Producer, path: Path) -> None:
        one = self.spooling(producer, path, timeout_s=60)
        publishing = asyncio.ensure_future(one.publish([(A, b"1")]))
        await turns()
        producer.fail(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await publishing
        assert not path.exists()
        assert not one.is_away

    async def test_a_worker_that_is_starting(self, path: Path) -> None:
        assert await self.spooling(None, path, timeout_s=60).publish([(A, b"1"), (B, b"2")]) == [Spooled(), Spooled()]
