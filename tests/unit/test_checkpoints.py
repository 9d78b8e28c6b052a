"""The checkpoint is the end of the longest acknowledged prefix, whatever the order of acknowledgements (rule 2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from faust.types import TP
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.batches import Batch, Epoch
from pipeline.batches.checkpoints import Checkpoints
from tests.unit.engine import P0, P1, batch_of


def started(offset: int = 0) -> tuple[Checkpoints, Epoch]:
    checkpoints = Checkpoints()
    checkpoints.start(P0, offset)
    return checkpoints, Epoch()


def delivered(checkpoints: Checkpoints, *batches: Batch) -> list[Batch]:
    for batch in batches:
        checkpoints.deliver(batch)
    return list(batches)


def test_a_fresh_group_with_its_head_unacked_commits_nothing() -> None:
    checkpoints, epoch = started()
    head, tail = delivered(checkpoints, batch_of([0], epoch=epoch), batch_of([1, 2], epoch=epoch))
    assert not checkpoints.ack(tail)
    assert checkpoints.pending() == {}
    assert checkpoints.ack(head)
    assert checkpoints.pending() == {P0: 3}


def test_a_gap_of_one_batch_is_not_committed_over() -> None:
    checkpoints, epoch = started(10)
    first, middle, last = delivered(checkpoints, *(batch_of([offset], epoch=epoch) for offset in (10, 11, 12)))
    checkpoints.ack(first)
    checkpoints.ack(last)
    assert checkpoints.pending() == {P0: 11}
    checkpoints.committed({P0: 11})
    assert checkpoints.pending() == {}
    checkpoints.ack(middle)
    assert checkpoints.pending() == {P0: 13}


def test_gaps_of_the_log_need_no_bookkeeping() -> None:
    checkpoints, epoch = started(5)
    compacted = batch_of([7, 9], epoch=epoch, next_offset=12)
    markers_only = Batch(P0, [], 20, epoch)
    delivered(checkpoints, compacted, markers_only)
    checkpoints.ack(compacted)
    assert checkpoints.reached(P0) == 12
    checkpoints.ack(markers_only)
    assert checkpoints.reached(P0) == 20


def test_acknowledging_twice_moves_nothing_the_second_time() -> None:
    checkpoints, epoch = started()
    first, second = delivered(checkpoints, batch_of([0], epoch=epoch), batch_of([1], epoch=epoch))
    assert checkpoints.ack(first)
    assert not checkpoints.ack(first)
    assert checkpoints.reached(P0) == 1
    assert checkpoints.outstanding(P0) == 1
    assert checkpoints.ack(second)


def test_one_record_of_a_batch_moves_nothing() -> None:
    checkpoints, epoch = started()
    (whole,) = delivered(checkpoints, batch_of([0, 1], epoch=epoch))
    assert not checkpoints.ack(whole.one(0))
    assert checkpoints.pending() == {}


def test_a_late_acknowledgement_of_an_epoch_that_is_over_moves_nothing() -> None:
    checkpoints, old = started()
    (late,) = delivered(checkpoints, batch_of([0, 1], epoch=old))
    old.over = True
    checkpoints.forget()
    checkpoints.start(P0, 0)
    (again,) = delivered(checkpoints, batch_of([0], epoch=Epoch()))
    assert not checkpoints.ack(late)
    assert not late.acked
    assert checkpoints.pending() == {}
    checkpoints.ack(again)
    assert checkpoints.pending() == {P0: 1}


def test_a_confirmation_that_arrives_late_does_not_set_the_checkpoint_back() -> None:
    checkpoints, epoch = started()
    for batch in delivered(checkpoints, batch_of([0], epoch=epoch), batch_of([1], epoch=epoch)):
        checkpoints.ack(batch)
    checkpoints.committed({P0: 2})
    checkpoints.committed({P0: 1})
    assert checkpoints.pending() == {}


def test_a_confirmation_for_a_partition_that_is_gone_is_nothing() -> None:
    checkpoints, _ = started()
    checkpoints.forget()
    checkpoints.committed({P0: 7})
    assert checkpoints.reached(P0) is None
    assert checkpoints.outstanding(P0) == 0
    assert checkpoints.pending() == {}


@dataclass
class Model:
    """What a partition should have: its batches and which of them are acknowledged, in the order of the log."""

    start: int
    committed: int
    ends: list[int] = field(default_factory=list)
    acked: set[int] = field(default_factory=set)

    @property
    def prefix(self) -> int:
        return next((n for n in range(len(self.ends)) if n not in self.acked), len(self.ends))

    @property
    def reached(self) -> int:
        return self.ends[self.prefix - 1] if self.prefix else self.start

    @property
    def end(self) -> int:
        return self.ends[-1] if self.ends else self.start


TPS = st.sampled_from([P0, P1])


class AnyOrder(RuleBasedStateMachine):
    """Deliveries, acknowledgements, commits and rebalances in any order, against the model."""

    @initialize()
    def begin(self) -> None:
        self.checkpoints = Checkpoints()
        self.batches: dict[TP, list[Batch]] = {}
        self.models: dict[TP, Model] = {}
        self.late: list[Batch] = []
        self.in_flight: dict[TP, int] = {}
        self._assign({P0: 0, P1: 0})

    def _assign(self, offsets: dict[TP, int]) -> None:
        self.epoch = Epoch()
        for tp, offset in offsets.items():
            self.checkpoints.start(tp, offset)
            self.models[tp], self.batches[tp] = Model(offset, offset), []

    @rule(tp=TPS, gap=st.integers(0, 3), size=st.integers(0, 4), trailing=st.integers(0, 2))
    def deliver(self, tp: TP, gap: int, size: int, trailing: int) -> None:
        model = self.models[tp]
        first = model.end + gap
        offsets = range(first, first + size)
        next_offset = first + size + trailing + (not size)
        batch = batch_of(offsets, epoch=self.epoch, tp=tp, next_offset=next_offset)
        self.checkpoints.deliver(batch)
        self.batches[tp].append(batch)
        model.ends.append(next_offset)

    @rule(tp=TPS, data=st.data())
    def acknowledge(self, tp: TP, data: st.DataObject) -> None:
        if not self.batches[tp]:
            return
        index = data.draw(st.integers(0, len(self.batches[tp]) - 1))
        model = self.models[tp]
        before = model.reached
        model.acked.add(index)
        assert self.checkpoints.ack(self.batches[tp][index]) == (model.reached > before)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def acknowledge_late(self, data: st.DataObject) -> None:
        assert not self.checkpoints.ack(data.draw(st.sampled_from(self.late)))

    @rule()
    def commit(self) -> None:
        self.in_flight = self.checkpoints.pending()

    @rule()
    def confirm(self) -> None:
        self.checkpoints.committed(self.in_flight)
        for tp, offset in self.in_flight.items():
            self.models[tp].committed = max(self.models[tp].committed, offset)
        self.in_flight = {}

    @rule()
    def rebalance(self) -> None:
        self.epoch.over = True
        self.late = [batch for batches in self.batches.values() for batch in batches]
        self.in_flight = {}
        self.checkpoints.forget()
        assert self.checkpoints.pending() == {}
        self._assign({tp: model.committed for tp, model in self.models.items()})

    @invariant()
    def the_checkpoint_is_the_end_of_the_longest_acked_prefix(self) -> None:
        for tp, model in self.models.items():
            assert self.checkpoints.reached(tp) == model.reached
            assert self.checkpoints.outstanding(tp) == len(model.ends) - model.prefix
            batches = self.batches[tp][model.prefix :]
            assert self.checkpoints.outstanding_bytes(tp) == sum(batch.size_bytes for batch in batches)

    @invariant()
    def what_is_pending_is_reached_and_not_confirmed(self) -> None:
        pending = {tp: model.reached for tp, model in self.models.items() if model.reached > model.committed}
        assert self.checkpoints.pending() == pending


TestAnyOrder = AnyOrder.TestCase
