"""Appended means acknowledged (rule 6), and never for a partition that is gone (rules 4 and 7)."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    NotLeaderForPartitionError,
    ProducerClosed,
    TopicAuthorizationFailedError,
)
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from pipeline.batches import Batch, Entry, Epoch, Fatal, LetGo, producer, together
from pipeline.batches.producer import Appender
from tests.unit.engine import batch_of

#: Room for three small records, and for the head of a batch.
BATCH_SIZE_BYTES = 100


class Metadata:
    """What an acknowledgement says."""

    def __init__(self, offset: int) -> None:
        self.offset = offset


class Broker:
    """A producer whose broker answers as it is told: an error, or None for an acknowledgement."""

    def __init__(self, *answers: Exception | None) -> None:
        self.log: list[bytes | None] = []
        self.attempts = 0
        self._answers = list(answers)

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_SIZE_BYTES, 0)

    async def send_batch(self, builder: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Metadata]:
        self.attempts += 1
        future: asyncio.Future[Metadata] = asyncio.get_running_loop().create_future()
        answer = self._answers.pop(0) if self._answers else None
        if answer is not None:
            future.set_exception(answer)
        else:
            future.set_result(Metadata(len(self.log)))
            self.log += values(builder)
        return future


def values(builder: BatchBuilder) -> list[bytes | None]:
    """Of the records in a batch, as a consumer would read them."""
    found = [record.value for record in MemoryRecords(bytes(builder._build())).next_batch()]
    assert len(found) == builder.record_count()
    return found


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RETRY_FIRST_S", 0.0)


@pytest.fixture
def batch() -> Batch:
    return batch_of([0], epoch=Epoch())


def entries(count: int) -> list[Entry]:
    return [(b"key", b"%d" % number, ()) for number in range(count)]


async def append(broker: Broker, batch: Batch, wanted: list[Entry]) -> tuple[int, int]:
    return await Appender(lambda: broker).append(batch, "topic", wanted)


async def test_it_returns_the_span_of_all_its_record_batches(batch: Batch) -> None:
    broker = Broker()
    broker.log = [b"somebody else's"]
    assert await append(broker, batch, entries(7)) == (1, 8)
    assert broker.attempts == 3
    assert broker.log[1:] == [value for _, value, _ in entries(7)]


async def test_nothing_to_append_is_nothing(batch: Batch) -> None:
    broker = Broker()
    assert await append(broker, batch, []) == (0, 0)
    assert broker.attempts == 0


@pytest.mark.parametrize("error", [KafkaTimeoutError(), NotLeaderForPartitionError()])
async def test_it_tries_until_the_broker_acknowledges(batch: Batch, error: KafkaError) -> None:
    broker = Broker(error, error, None, error)
    assert await append(broker, batch, entries(4)) == (3, 7)
    assert broker.log == [b"0", b"1", b"2", b"0", b"1", b"2", b"3"], "some may stand there twice, none is missing"


@pytest.mark.parametrize("error", [TopicAuthorizationFailedError(), MessageSizeTooLargeError(), ProducerClosed()])
async def test_what_no_retry_mends_is_fatal(batch: Batch, error: KafkaError) -> None:
    with pytest.raises(Fatal, match=type(error).__name__):
        await append(Broker(error), batch, entries(1))


async def test_a_record_larger_than_a_batch_has_one_of_its_own(batch: Batch) -> None:
    broker = Broker()
    large: Entry = (b"key", b"x" * 1000, [("header", b"1")])
    assert await append(broker, batch, [*entries(1), large, *entries(1)]) == (0, 3)
    assert broker.log == [b"0", b"x" * 1000, b"0"]
    assert broker.attempts == 3


async def test_nothing_is_appended_for_an_epoch_that_is_over(batch: Batch) -> None:
    broker = Broker()
    batch.epoch.over = True
    with pytest.raises(LetGo):
        await append(broker, batch, entries(1))
    assert broker.attempts == 0


async def test_a_retry_ends_when_the_partition_is_being_let_go(batch: Batch) -> None:
    batch.epoch.leaving.set()
    broker = Broker(KafkaTimeoutError())
    with pytest.raises(LetGo):
        await append(broker, batch, entries(1))
    assert broker.attempts == 1


async def test_together_waits_for_the_others_before_it_raises(batch: Batch) -> None:
    ended: list[str] = []

    async def hangs() -> tuple[int, int]:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("hangs")
        return 0, 0

    async def raises() -> tuple[int, int]:
        await asyncio.sleep(0)
        raise Fatal("refused")

    with pytest.raises(Fatal, match="refused"):
        await together(hangs(), raises())
    assert ended == ["hangs"]
