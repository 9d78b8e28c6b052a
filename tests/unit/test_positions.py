"""Where a lane stands, by the rows of its sink: what is read again is not written again, and another log is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from faust.types import TP

from pipeline.batches import Batch, Epoch, LetGo, Log, Refused
from pipeline.circuit import SinkHealth
from pipeline.positions import SinkPositions
from pipeline.sinks import Lane, Mark, StreamOffset
from pipeline.sinks.memory import MemorySink
from tests.unit.engine import record

TOPIC = "lead-accepted"
P3 = TP(TOPIC, 3)
LANE = Lane("leads", TOPIC, 3)
LOG_ID = b"\x01\x02"
LOG = Log(None, 10, 100)


def batch_of(*offsets: int, epoch: Epoch | None = None) -> Batch:
    records = [record(offset, key=b"k%d" % offset, time_ms=offset, partition=3, topic=TOPIC) for offset in offsets]
    return Batch(P3, records, offsets[-1] + 1, epoch or Epoch())


def row(next_offset: int, *, last: int | None = None, log_id: bytes = LOG_ID) -> StreamOffset:
    mark = None if last is None else Mark(last, last, b"k%d" % last)
    return StreamOffset(next_offset, log_id.hex(), mark)


async def begun(at: StreamOffset | None, *, log: Log = LOG) -> tuple[SinkPositions, int, MemorySink]:
    sink = MemorySink()
    if at is not None:
        sink.lanes[LANE] = at
    positions = SinkPositions(sink, "leads", SinkHealth())
    return positions, (await positions.begin(LOG_ID, {P3: log}, Epoch()))[P3], sink


async def test_a_lane_without_a_row_begins_at_the_start_of_its_log() -> None:
    positions, begins, sink = await begun(None)
    assert begins == 10
    assert sink.lanes[LANE] == row(10)
    assert [one.offset for one in positions.unwritten(batch_of(10, 11))] == [10, 11]


async def test_it_begins_one_record_earlier_to_know_its_log_again() -> None:
    positions, begins, _ = await begun(row(50, last=48))
    assert begins == 48
    assert [one.offset for one in positions.unwritten(batch_of(48, 50, 51))] == [50, 51]
    assert positions.checkpoint(batch_of(48)) is None


async def test_a_record_that_retention_has_deleted_is_not_asked_for() -> None:
    _, begins, _ = await begun(row(50, last=48), log=Log(None, 49, 100))
    assert begins == 50


@pytest.mark.parametrize("other", [Mark(48, 47, b"k48"), Mark(48, 48, b"other")])
async def test_a_log_that_went_on_with_other_records_is_refused(other: Mark) -> None:
    positions, _, _ = await begun(replace(row(50), last=other))
    with pytest.raises(Refused, match="leads skip lead-accepted 3 50"):
        positions.unwritten(batch_of(48, 50))


async def test_the_row_of_another_log_is_refused() -> None:
    with pytest.raises(Refused, match=r"another cluster, or the topic was made anew.*leads skip lead-accepted 3 10"):
        await begun(row(50, log_id=b"\xff"))


async def test_a_step_goes_from_where_the_lane_stands_to_the_end_of_the_batch() -> None:
    positions, _, _ = await begun(row(50, last=48))
    step = positions.checkpoint(batch_of(48, 50, 53))
    assert step is not None
    assert (step.lane, step.position, step.after) == (LANE, 50, row(54, last=53))
    positions.stands(P3, step.after)
    assert positions.unwritten(batch_of(48, 50, 53)) == []
    assert positions.checkpoint(batch_of(48, 50, 53)) is None


async def test_who_waits_for_the_database_is_told_to_let_go() -> None:
    sink, epoch = MemorySink(unavailable=100), Epoch()
    epoch.leaving.set()
    with pytest.raises(LetGo):
        await SinkPositions(sink, "leads", SinkHealth()).begin(LOG_ID, {P3: LOG}, epoch)
