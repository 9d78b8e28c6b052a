"""Delivery is contiguous (rules 3 and 4): whatever is fetched and dropped, nothing is skipped, nothing comes twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batches import Batch, Epoch
from pipeline.batches import consumer as consumer_module
from pipeline.batches.checkpoints import Checkpoints
from pipeline.batches.consumer import LANE_DEPTH_BATCHES, BatchConsumer, PositionLost
from pipeline.batches.fetch import Log, Slice
from tests.unit.engine import P0, P1, record


class Broker:
    """A partition and aiokafka's position in it, which moves with every fetch, whatever becomes of the records."""

    def __init__(self, offsets: list[int], end: int) -> None:
        self.offsets = offsets
        self.end = end
        self.position = 0
        self.size = 3
        self.asked: list[dict[TP, int]] = []
        self.seeks: list[int] = []

    async def fetch(self, wanted: Mapping[TP, int]) -> dict[TP, Slice]:
        self.asked.append(dict(wanted))
        if P0 not in wanted:
            return {}
        found = [record(offset) for offset in self.offsets if offset >= self.position][: self.size]
        self.position = found[-1].offset + 1 if found else self.end
        if found or self.position > wanted[P0]:
            return {P0: Slice(found, self.position)}
        return {}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        self.position = positions[P0]
        self.seeks.append(self.position)

    async def logs(self, tps: frozenset[TP]) -> dict[TP, Log]:
        return {P0: Log(None, min(self.offsets, default=self.end), self.end)}

    def wake(self) -> None: ...


class Consumer(BatchConsumer):
    """Our consumer without Faust around it."""

    def __init__(self, broker: Broker) -> None:
        self.epoch, self.checkpoints = Epoch(), Checkpoints()
        self._positions, self._gaps = {}, {}
        self._acknowledged = asyncio.Event()
        self._is_revoked, self._committing, self._asking = False, None, set()
        self._thread = broker  # type: ignore[assignment]
        self.app = SimpleNamespace(lanes=[], positions={}, consumer_generation_id=1, conf=SimpleNamespace(id="leads"))
        self.log = logging.getLogger(__name__)  # type: ignore[assignment]
        self.delivered: list[Batch] = []
        self.flow_active = True
        self.can_resume_flow, self.suspend_flow = asyncio.Event(), asyncio.Event()  # type: ignore[assignment]

    def _get_active_partitions(self) -> set[TP]:
        return {P0, P1}

    async def wait_first(self, first: Awaitable[Any], *others: Any, timeout: Any = None) -> Any:
        for other in others:
            other.close()
        await first

    async def callback(self, message: Any) -> None:  # type: ignore[override]
        self.delivered.append(message.value)

    def ack_all(self) -> None:
        for batch in self.delivered:
            if not batch.acked:
                self._acknowledge(batch)

    def offsets(self) -> list[int]:
        return [one.offset for batch in self.delivered for one in batch.records]

    async def drop_next(self) -> None:
        """Fetch, and deliver nothing of it."""
        await self._thread.fetch(self._wanted())


Consumer.__abstractmethods__ = frozenset()


async def begun(offsets: list[int], end: int | None = None, start: int = 0) -> tuple[Consumer, Broker]:
    broker = Broker(offsets, offsets[-1] + 1 if end is None else end)
    consumer = Consumer(broker)
    await consumer.begin({P0: start})
    consumer.flow_active = True
    return consumer, broker


async def test_what_is_fetched_and_not_delivered_is_sought_back_to() -> None:
    consumer, broker = await begun([0, 1, 2, 3, 4, 5])
    await consumer.drop_next()
    await consumer._deliver_next()
    assert consumer.delivered == []
    assert broker.seeks[1:] == [0]
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1, 2]


async def test_what_was_delivered_is_not_delivered_again() -> None:
    consumer, broker = await begun([0, 1, 2, 3])
    await consumer._deliver_next()
    broker.position = 1
    await consumer._deliver_next()
    assert broker.seeks[1:] == [3]
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1, 2, 3]


async def test_a_gap_of_the_log_is_believed_when_the_broker_says_so_twice() -> None:
    consumer, broker = await begun([0, 1, 7, 8])
    broker.size = 2
    await consumer._deliver_next()
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1]
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1, 7, 8]
    consumer.ack_all()
    assert consumer.checkpoints.reached(P0) == 9


async def test_markers_at_the_end_of_the_log_are_acknowledged_without_a_delivery() -> None:
    consumer, _ = await begun([0, 1], end=4)
    for _ in range(3):
        await consumer._deliver_next()
        consumer.ack_all()
    assert consumer.offsets() == [0, 1]
    assert consumer.checkpoints.reached(P0) == 4
    assert consumer.checkpoints.outstanding(P0) == 0


async def test_an_answer_from_long_ago_is_not_the_second_one() -> None:
    """0 to 2 are dropped, sought back to and delivered; then 3 to 5 are dropped twice, as no gap of the log is."""
    consumer, broker = await begun(list(range(9)))
    broker.size = 6
    await consumer.drop_next()
    await consumer._deliver_next()
    broker.size = 3
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1, 2]
    await consumer.drop_next()
    await consumer._deliver_next()
    assert consumer.offsets() == [0, 1, 2], "3 to 5 are skipped"


async def test_a_partition_without_an_explicit_position_delivers_nothing() -> None:
    consumer, broker = await begun([0, 1])
    assert P1 in consumer._get_active_partitions()
    await consumer._deliver_next()
    assert broker.asked == [{P0: 0}]


async def test_small_batches_fill_a_lane_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, broker = await begun(list(range(30)))
    await consumer._deliver_next()
    monkeypatch.setattr(consumer_module, "LANE_DEPTH_BYTES", 4 * consumer.delivered[0].size_bytes)
    for _ in range(6):
        await consumer._deliver_next()
    assert len(consumer.delivered) == 4
    assert broker.asked[-1] == {}
    consumer.ack_all()
    await consumer._deliver_next()
    assert len(consumer.delivered) == 5


async def test_a_full_lane_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_module, "LANE_DEPTH_BYTES", 0)
    consumer, broker = await begun(list(range(30)))
    for _ in range(LANE_DEPTH_BATCHES + 1):
        await consumer._deliver_next()
    assert len(consumer.delivered) == LANE_DEPTH_BATCHES
    assert broker.asked[-1] == {}
    consumer.ack_all()
    await consumer._deliver_next()
    assert len(consumer.delivered) == LANE_DEPTH_BATCHES + 1


async def test_what_arrives_for_the_epoch_before_is_not_delivered() -> None:
    consumer, broker = await begun([0, 1, 2])
    fetch = broker.fetch

    async def fetch_during_a_rebalance(wanted: Mapping[TP, int]) -> dict[TP, Slice]:
        slices = await fetch(wanted)
        await consumer.begin({P0: 1})
        consumer.flow_active = True
        return slices

    broker.fetch = fetch_during_a_rebalance  # type: ignore[method-assign]
    await consumer._deliver_next()
    assert consumer.delivered == []
    broker.fetch = fetch  # type: ignore[method-assign]
    await consumer._deliver_next()
    assert consumer.offsets() == [1, 2]


async def test_a_late_acknowledgement_moves_nothing_in_the_next_epoch() -> None:
    consumer, _ = await begun([0, 1, 2])
    await consumer._deliver_next()
    (late,) = consumer.delivered
    await consumer.begin({P0: 0})
    consumer._acknowledge(late)
    assert consumer.checkpoints.pending() == {}
    assert not consumer._acknowledged.is_set()


@pytest.mark.parametrize("stored, position", [(None, 10), (10, 10), (15, 15), (20, 20), (9, None), (21, None)])
async def test_the_explicit_position(stored: int | None, position: int | None) -> None:
    """The stored offset, else the start of the log (stock: nothing, without a stored one); never outside the log."""
    consumer = Consumer(Broker([], 0))
    log = Log(stored, start=10, end=20)
    if position is not None:
        assert consumer._position(P0, log) == position
    else:
        with pytest.raises(PositionLost, match="leads skip lead-captured 0 10"):
            consumer._position(P0, log)


@given(
    st.lists(st.integers(0, 3), max_size=25).map(lambda gaps: [sum(gaps[: n + 1]) + n for n in range(len(gaps))]),
    st.integers(0, 3),
    st.lists(
        st.tuples(st.sampled_from(["deliver", "rebalance", "drop and rebalance"]), st.integers(1, 5)), max_size=20
    ),
)
async def test_nothing_is_skipped_whatever_happens(
    offsets: list[int], trailing: int, steps: list[tuple[str, int]]
) -> None:
    end = (offsets[-1] + 1 if offsets else 0) + trailing
    consumer, broker = await begun(offsets, end)
    committed, acked = 0, set()
    for step, size in [*steps, *[("deliver", 5)] * 60]:
        broker.size = size
        if "drop" in step:
            await consumer.drop_next()
        if "rebalance" in step:
            consumer.delivered = []
            await consumer.begin({P0: committed})
            consumer.flow_active = True
        else:
            await consumer._deliver_next()
            acked |= set(consumer.offsets())
            consumer.ack_all()
            committed = consumer.checkpoints.reached(P0) or 0
            assert {offset for offset in offsets if offset < committed} <= acked, "committed over what was not acked"
    assert sorted(acked) == offsets
    assert committed == end
