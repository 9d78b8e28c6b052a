"""Batches and events without a broker, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka.structs import ConsumerRecord
from faust.types import TP

from pipeline.batches import Batch, Epoch

TOPIC = "lead-captured"
P0, P1 = TP(TOPIC, 0), TP(TOPIC, 1)


def record(
    offset: int,
    *,
    value: bytes | None = None,
    key: bytes | None = None,
    time_ms: int = 0,
    partition: int = 0,
    topic: str = TOPIC,
    headers: Iterable[tuple[str, bytes]] = (),
) -> ConsumerRecord[bytes, bytes]:
    """A record as aiokafka delivers it."""
    sizes = len(key or b""), len(value or b"")
    return ConsumerRecord(topic, partition, offset, time_ms, 1, key, value, None, *sizes, tuple(headers))


def batch_of(offsets: Iterable[int], *, epoch: Epoch, tp: TP = P0, next_offset: int | None = None) -> Batch:
    """A batch with a record at each of `offsets`."""
    records = [record(offset, partition=tp.partition) for offset in offsets]
    return Batch(tp, records, records[-1].offset + 1 if next_offset is None else next_offset, epoch)


class Event:
    """What a lane takes of a Faust event: its value, and whether it was acknowledged."""

    def __init__(self, batch: Batch) -> None:
        self.value = batch
        self.acked = 0

    def ack(self) -> None:
        self.acked += 1
