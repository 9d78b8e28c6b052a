"""Partitions are lanes: in order within, beside each other, and one bad record stops no other (rules 1, 4 and 7)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable

import pytest
from faust.types import TP

from pipeline.batches import Batch, Epoch, Fatal, LetGo, Refused
from pipeline.batches.bugs import SYSTEMATIC_RECORDS
from pipeline.batches.lanes import Lanes
from tests.unit.engine import P0, P1, Event, batch_of


class Agent:
    """Work that waits until it is told to go on, or raises for the offsets that it is told to."""

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.written: list[int] = []
        self.cancelled: list[int] = []
        self.raises: dict[int, BaseException] = {}
        self.gates: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.gated: set[int] = set()
        self.bugs: list[tuple[int, Exception]] = []
        self.fatal: list[BaseException] = []
        self.epoch = Epoch()
        self.lanes = Lanes(self._work, on_bug=self._on_bug, on_fatal=self.fatal.append)

    async def _work(self, batch: Batch) -> None:
        self.started.append((batch.tp.partition, batch.first_offset))
        if batch.first_offset in self.gated:
            try:
                await self.gates[batch.first_offset].wait()
            except asyncio.CancelledError:
                self.cancelled.append(batch.first_offset)
                raise
        for record in batch.records:
            if record.offset in self.raises:
                raise self.raises[record.offset]
        self.written += [record.offset for record in batch.records]

    async def _on_bug(self, batch: Batch, error: Exception) -> None:
        (record,) = batch.records
        self.bugs.append((record.offset, error))

    def put(self, offsets: Iterable[int], tp: TP = P0) -> Event:
        event = Event(batch_of(offsets, epoch=self.epoch, tp=tp))
        self.lanes.put(event)  # type: ignore[arg-type]
        return event

    async def idle(self) -> None:
        """Until no lane works."""
        while self.lanes._running:
            await asyncio.wait(set(self.lanes._running.values()))

    async def let_go(self, grace_s: float) -> None:
        self.epoch.leaving.set()
        await self.lanes.let_go(grace_s)
        self.epoch.over = True


async def turns(count: int = 10) -> None:
    """Let every task that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def agent() -> Agent:
    return Agent()


class TestOrder:
    async def test_batches_of_a_partition_are_worked_on_in_order_one_at_a_time(self, agent: Agent) -> None:
        agent.gated = {0, 1}
        events = [agent.put([0])]
        await turns()
        for offset in (1, 2):
            events.append(agent.put([offset]))
            await turns()
        assert agent.started == [(0, 0)]
        agent.gates[0].set()
        await turns()
        assert [event.acked for event in events] == [1, 0, 0]
        agent.gates[1].set()
        await agent.idle()
        assert agent.written == [0, 1, 2]
        assert [event.acked for event in events] == [1, 1, 1]

    async def test_what_waits_is_one_batch(self, agent: Agent) -> None:
        agent.gated = {0}
        agent.put([0])
        await turns()
        waiting = [agent.put(offsets) for offsets in ([1, 2], [3], [5, 6])]
        agent.gates[0].set()
        await agent.idle()
        assert agent.started == [(0, 0), (0, 1)]
        assert agent.written == [0, 1, 2, 3, 5, 6]
        assert [event.acked for event in waiting] == [1, 1, 1]

    async def test_a_blocked_partition_does_not_stop_its_neighbour(self, agent: Agent) -> None:
        agent.gated = {0}
        blocked, behind = agent.put([0], P0), agent.put([1], P0)
        free = [agent.put([offset], P1) for offset in (10, 11)]
        await turns()
        assert [event.acked for event in free] == [1, 1]
        assert (blocked.acked, behind.acked) == (0, 0)
        agent.gates[0].set()
        await agent.idle()
        assert (blocked.acked, behind.acked) == (1, 1)

    async def test_a_lane_that_has_run_dry_takes_the_next_batch(self, agent: Agent) -> None:
        for offset in range(3):
            event = agent.put([offset])
            await agent.idle()
            assert event.acked == 1

    @pytest.mark.parametrize("steps", range(5))
    async def test_a_batch_that_comes_just_as_its_lane_ends_is_not_left_behind(self, agent: Agent, steps: int) -> None:
        first = agent.put([0])
        await turns(steps)
        second = agent.put([1])
        await turns()
        assert (first.acked, second.acked) == (1, 1)


class TestRecordsThatRaise:
    async def test_one_record_is_isolated_and_the_rest_of_its_batch_goes_on(self, agent: Agent) -> None:
        bug = agent.raises[1] = ValueError("cannot digest 1")
        event, after = agent.put([0, 1, 2]), agent.put([3])
        await agent.idle()
        assert agent.bugs == [(1, bug)]
        assert agent.written == [0, 2, 3]
        assert (event.acked, after.acked) == (1, 1)
        assert agent.fatal == []

    async def test_a_batch_that_raises_only_as_a_whole_dead_letters_nothing(self, agent: Agent) -> None:
        class OnceOnly(dict[int, Exception]):
            def __contains__(self, offset: object) -> bool:
                return len(agent.started) == 1

            def __getitem__(self, offset: int) -> Exception:
                return ValueError("once")

        agent.raises = OnceOnly()
        event = agent.put([0, 1])
        await agent.idle()
        assert (agent.written, agent.bugs, event.acked) == ([0, 1], [], 1)

    async def test_a_few_records_that_all_raise_are_dead_lettered(self, agent: Agent) -> None:
        agent.raises = {offset: ValueError() for offset in range(SYSTEMATIC_RECORDS - 1)}
        event = agent.put(agent.raises)
        await agent.idle()
        assert len(agent.bugs) == SYSTEMATIC_RECORDS - 1
        assert event.acked == 1

    async def test_many_records_that_all_raise_are_the_fault_of_the_code(self, agent: Agent) -> None:
        agent.raises = {offset: ValueError("every one") for offset in range(SYSTEMATIC_RECORDS)}
        event = agent.put(agent.raises)
        await agent.idle()
        assert event.acked == 0
        assert agent.bugs == []
        assert [type(error) for error in agent.fatal] == [Fatal]
        assert isinstance(agent.fatal[0].__cause__, ValueError)

    async def test_so_are_small_batches_in_a_row_that_all_raise(self, agent: Agent) -> None:
        agent.raises = {offset: ValueError() for offset in range(SYSTEMATIC_RECORDS)}
        events = []
        for offset in agent.raises:
            events.append(agent.put([offset], tp=(P0, P1)[offset % 2]))
            await agent.idle()
        assert [type(error) for error in agent.fatal] == [Fatal]
        assert sum(event.acked for event in events) == len(agent.bugs) == SYSTEMATIC_RECORDS - 1

    async def test_a_good_record_in_between_starts_the_count_anew(self, agent: Agent) -> None:
        agent.raises = {offset: ValueError() for offset in range(2 * SYSTEMATIC_RECORDS) if offset % 50}
        for offset in range(2 * SYSTEMATIC_RECORDS):
            agent.put([offset])
            await agent.idle()
        assert (agent.fatal, agent.written) == ([], [0, 50, 100, 150])

    async def test_one_good_record_among_many_bad_ones_is_not_systematic(self, agent: Agent) -> None:
        agent.raises = {offset: ValueError() for offset in range(SYSTEMATIC_RECORDS)}
        event = agent.put([*agent.raises, SYSTEMATIC_RECORDS])
        await agent.idle()
        assert (len(agent.bugs), agent.written, event.acked) == (SYSTEMATIC_RECORDS, [SYSTEMATIC_RECORDS], 1)

    async def test_a_dead_letter_that_cannot_be_appended_ends_the_worker(self, agent: Agent) -> None:
        refused = Fatal("the broker refuses")

        async def refuse(batch: Batch, error: Exception) -> None:
            raise refused

        agent.lanes._on_bug = refuse
        agent.raises[0] = ValueError()
        event = agent.put([0])
        await agent.idle()
        assert (agent.fatal, event.acked) == ([refused], 0)


class TestFatalAndLetGo:
    @pytest.mark.parametrize("fatal", [Fatal("disk"), Refused("another log")])
    async def test_a_fatal_error_goes_to_on_fatal_and_acks_nothing(self, agent: Agent, fatal: Exception) -> None:
        agent.raises[1] = fatal
        event = agent.put([0, 1, 2])
        await agent.idle()
        assert agent.fatal == [fatal]
        assert (event.acked, agent.bugs) == (0, [])

    @pytest.mark.parametrize("fatal", [Fatal("disk"), Refused("another log")])
    async def test_a_fatal_error_of_a_single_record_run_does_too(self, agent: Agent, fatal: Exception) -> None:
        agent.raises = {0: ValueError(), 1: fatal}
        event = agent.put([0, 1])
        await agent.idle()
        assert agent.fatal == [agent.raises[1]]
        assert (event.acked, agent.bugs) == (0, [])

    async def test_a_cancellation_that_a_library_lets_out_ends_the_worker(self, agent: Agent) -> None:
        agent.raises[0] = asyncio.CancelledError()
        event = agent.put([0])
        await agent.idle()
        assert not event.acked
        (fatal,) = agent.fatal
        assert "cancelled, and not by this worker" in str(fatal)

    async def test_let_go_acks_nothing_and_is_no_error(self, agent: Agent) -> None:
        agent.raises[0] = LetGo()
        event, behind = agent.put([0]), agent.put([1])
        await agent.idle()
        assert (event.acked, behind.acked, agent.fatal, agent.bugs) == (0, 0, [], [])
        assert agent.started == [(0, 0)]

    async def test_work_that_ends_after_its_epoch_acks_nothing(self, agent: Agent) -> None:
        agent.gated = {0}
        event = agent.put([0])
        await turns()
        agent.epoch.over = True
        agent.gates[0].set()
        await agent.idle()
        assert (agent.written, event.acked, agent.fatal) == ([0], 0, [])


class TestLettingGo:
    async def test_what_finishes_within_its_grace_is_acked(self, agent: Agent) -> None:
        agent.gated = {0}
        event = agent.put([0])
        await turns()
        letting_go = asyncio.ensure_future(agent.let_go(60.0))
        await turns()
        assert not letting_go.done()
        agent.gates[0].set()
        await letting_go
        assert (event.acked, agent.cancelled) == (1, [])

    async def test_what_does_not_finish_is_cancelled_and_awaited(self, agent: Agent) -> None:
        agent.gated = {0, 10}
        events = [agent.put([0], P0), agent.put([10], P1)]
        await turns()
        await agent.let_go(0.001)
        assert sorted(agent.cancelled) == [0, 10]
        assert [event.acked for event in events] == [0, 0]
        assert agent.lanes._running == {}
        assert agent.fatal == []

    async def test_it_awaits_work_that_takes_its_time_to_be_cancelled(self, agent: Agent) -> None:
        steps: list[str] = []

        async def work(batch: Batch) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await turns()
                steps.append("cleaned up")

        agent.lanes._work = work
        agent.put([0])
        await turns()
        await agent.let_go(0)
        steps.append("let go")
        assert steps == ["cleaned up", "let go"]

    async def test_what_waits_is_not_begun(self, agent: Agent) -> None:
        agent.gated = {0}
        agent.put([0])
        await turns()
        waiting = agent.put([1])
        letting_go = asyncio.ensure_future(agent.let_go(60.0))
        await turns()
        agent.gates[0].set()
        await letting_go
        assert agent.started == [(0, 0)]
        assert waiting.acked == 0

    async def test_a_batch_that_comes_after_leaving_is_dropped(self, agent: Agent) -> None:
        agent.epoch.leaving.set()
        event = agent.put([0])
        await agent.idle()
        assert (agent.started, event.acked) == ([], 0)

    @pytest.mark.parametrize("steps", [0, 1, 10])
    async def test_the_next_epoch_starts_afresh(self, agent: Agent, steps: int) -> None:
        """However far the lane had come when it was cancelled; one that had not even begun to run, too."""
        agent.gated = {0}
        agent.put([0])
        agent.put([1])
        await turns(steps)
        await agent.let_go(0)
        agent.epoch, agent.gated = Epoch(), set()
        events = [agent.put([0]), agent.put([1])]
        await turns()
        assert [event.acked for event in events] == [1, 1]
        assert agent.written == [0, 1]
