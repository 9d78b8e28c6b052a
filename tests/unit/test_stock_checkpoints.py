"""What stock Faust and aiokafka do where our engine does something else, shown on their own classes.

Each test asserts the stock behaviour first, so that one that is mended upstream is noticed, and then ours beside it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaTimeoutError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.structs import TopicPartition
from faust.transport.consumer import Consumer as StockConsumer
from faust.transport.producer import ProducerBuffer
from intervaltree import IntervalTree

from pipeline.batches import Epoch, producer
from pipeline.batches.checkpoints import Checkpoints
from pipeline.batches.producer import Appender
from tests.unit.engine import P0, batch_of


class Stock(StockConsumer):
    """As much of a stock consumer as its bookkeeping of offsets needs."""

    def __init__(self, committed: int | None) -> None:
        self._acked = defaultdict(list)
        self._acked_index = defaultdict(set)
        self._gap = defaultdict(IntervalTree)
        self._committed_offset = defaultdict(lambda: None)
        self._committed_offset[P0] = committed

    def acknowledge(self, *offsets: int) -> int | None:
        self._acked[P0] += offsets
        self._acked_index[P0] |= set(offsets)
        return self._new_offset(P0)


Stock.__abstractmethods__ = frozenset()


def ours(start: int, *offsets: int) -> dict[Any, int]:
    """The checkpoint when single records from `start` on are delivered and only `offsets` are acknowledged."""
    checkpoints, epoch = Checkpoints(), Epoch()
    checkpoints.start(P0, start)
    batches = {offset: batch_of([offset], epoch=epoch) for offset in range(start, max(offsets) + 1)}
    for batch in batches.values():
        checkpoints.deliver(batch)
    for offset in offsets:
        checkpoints.ack(batches[offset])
    return checkpoints.pending()


class TestCheckpoint:
    def test_a_fresh_group_commits_over_a_head_that_is_not_acked(self) -> None:
        assert Stock(committed=None).acknowledge(5, 6, 7) == 8, "0 to 4 are in work, and never read again"
        assert ours(0, 5, 6, 7) == {}

    def test_so_does_a_group_that_stands_at_0(self) -> None:
        assert Stock(committed=0).acknowledge(5, 6, 7) == 8
        assert ours(0, 5, 6, 7) == {}

    def test_a_gap_of_one_message_is_committed_over(self) -> None:
        assert Stock(committed=31).acknowledge(32, 33) == 34, "31 is in work, and never read again (faust #606)"
        assert ours(31, 32, 33) == {}

    def test_a_gap_of_two_is_not(self) -> None:
        assert Stock(committed=31).acknowledge(33, 34) is None
        assert ours(31, 33, 34) == {}


class TestSeek:
    async def test_seek_to_committed_leaves_a_partition_without_an_offset_where_it_was(self) -> None:
        """100 records were fetched and dropped by a rebalance before the first commit: the group goes on after them."""
        consumer, tp = AIOKafkaConsumer(group_id="g"), TopicPartition("t", 0)
        consumer._fetcher = SimpleNamespace(seek_to=consumer._subscription.seek)
        consumer._subscription.assign_from_user([tp])
        consumer._subscription.seek(tp, 100)

        async def nothing_committed(_: TopicPartition) -> None: ...

        consumer.committed = nothing_committed
        assert await consumer.seek_to_committed() == {tp: None}
        assert await consumer.position(tp) == 100
        consumer._closed = True


class TestFlush:
    async def test_the_buffer_of_faust_is_flushed_while_its_messages_are_still_in_it(self) -> None:
        buffer = ProducerBuffer()
        buffer.app = SimpleNamespace(conf=SimpleNamespace(producer_threaded=False))

        async def no_broker(_: object) -> None:
            await asyncio.Event().wait()

        buffer._send_pending = no_broker  # type: ignore[method-assign,assignment]
        async with buffer:
            for _ in range(3):
                buffer.put(SimpleNamespace())  # type: ignore[arg-type]
            await buffer.flush()
            assert buffer.size > 0, "it waits for 0.1 s and says nothing"
            buffer.pending = asyncio.Queue()

    async def test_aiokafka_flushes_what_was_refused_without_an_error(self) -> None:
        cluster = SimpleNamespace(leader_for_partition=lambda tp: 0)
        accumulator = MessageAccumulator(cluster, 16384, 0, 30)
        builder = accumulator.create_builder()
        builder.append(timestamp=None, key=None, value=b"a lead")
        future = await accumulator.add_batch(builder, TopicPartition("t", 0), 1)
        accumulator.fail_all(KafkaTimeoutError())
        await accumulator.flush()
        assert isinstance(future.exception(), KafkaTimeoutError)

    async def test_ours_returns_only_when_it_is_acknowledged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same refusal, twice, and then an acknowledgement."""
        monkeypatch.setattr(producer, "RETRY_FIRST_S", 0.0)
        accumulator = MessageAccumulator(SimpleNamespace(), 16384, 0, 30)
        answers: list[Any] = [KafkaTimeoutError(), KafkaTimeoutError(), SimpleNamespace(offset=7)]

        async def send_batch(builder: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
            future = asyncio.get_running_loop().create_future()
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
            return future

        broker = SimpleNamespace(create_batch=accumulator.create_builder, send_batch=send_batch)
        batch = batch_of([0], epoch=Epoch())
        span = await Appender(lambda: broker).append(batch, "t", [(None, b"a lead", ()), (None, b"another", ())])
        assert span == (7, 9)
        assert answers == []
