"""Where each lane stands when the sink keeps the offsets: read at every assignment, checked against the log, advanced.

The rows are the truth. Kafka's committed offset only follows, for the tools that show lag.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from faust.types import TP

from pipeline.batches import Batch, Epoch, Log, Refused
from pipeline.circuit import SinkHealth, patiently
from pipeline.sinks.base import Checkpoint, Lane, Mark, Sink, StreamOffset

__all__ = ["SinkPositions"]


class SinkPositions:
    """The positions of one consumer group in the database of its sink."""

    def __init__(self, sink: Sink, group: str, health: SinkHealth) -> None:
        self._sink = sink
        self._group = group
        self._health = health
        self._at: dict[TP, StreamOffset] = {}

    async def begin(self, log_id: bytes, logs: Mapping[TP, Log], epoch: Epoch) -> dict[TP, int]:
        """Where each partition of an assignment begins: at the record before its position, by which its log is known.

        A partition without a row begins at the start of its log: a new database gets everything that is still there.

        Raises:
            Refused: the row is of another log.
            LetGo: the partitions are being let go.
        """
        starts = {self._lane(tp): StreamOffset(log.start, log_id.hex()) for tp, log in logs.items()}
        rows = await patiently(lambda: self._sink.offsets(starts), pause=epoch.pause, health=self._health)
        for tp in logs:
            self._at[tp] = row = rows[self._lane(tp)]
            if row.log_id != log_id.hex():
                raise _another(tp, "it is of another cluster, or the topic was made anew", logs[tp].start)
        return {tp: _before(self._at[tp], log) for tp, log in logs.items()}

    def unwritten(self, batch: Batch) -> list[Any]:
        """The records of `batch` that the sink has not yet.

        Raises:
            Refused: the record before them is not the one that the row names.
        """
        at = self._at[batch.tp]
        if at.last is not None and batch.first_offset <= at.last.offset:
            for record in batch.records:
                if record.offset == at.last.offset and _mark(record) != at.last:
                    raise _another(batch.tp, f"record {record.offset} is not the one that it names", at.next_offset)
        return [record for record in batch.records if record.offset >= at.next_offset]

    def checkpoint(self, batch: Batch) -> Checkpoint | None:
        """The step that `batch` takes its lane; None where the lane has got there already."""
        at = self._at[batch.tp]
        if batch.next_offset <= at.next_offset:
            return None
        after = StreamOffset(batch.next_offset, at.log_id, _mark(batch.records[-1]))
        return Checkpoint(self._lane(batch.tp), at.next_offset, after)

    def stands(self, tp: TP, at: StreamOffset) -> None:
        """Note where a lane stands."""
        self._at[tp] = at

    def _lane(self, tp: TP) -> Lane:
        return Lane(self._group, tp.topic, tp.partition)


def _mark(record: Any) -> Mark:
    return Mark(record.offset, record.timestamp, record.key)


def _before(row: StreamOffset, log: Log) -> int:
    # Retention may have deleted the record before; then there is nothing to compare.
    return row.next_offset if row.last is None or row.last.offset < log.start else row.last.offset


def _another(tp: TP, why: str, offset: int) -> Refused:
    where = f"{tp.topic}/{tp.partition}"
    return Refused(
        f"The checkpoint in the CRM's database does not fit {where}: {why}. To accept that, and begin at an offset of "
        f"this log, stop all workers and run: leads skip {tp.topic} {tp.partition} {offset}"
    )
