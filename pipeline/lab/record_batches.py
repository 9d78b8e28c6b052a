"""Records in record batches, ready to be sent: made once, they may be sent again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from pipeline.lab.partitioner import partitions

__all__ = ["record_batches"]

#: About 240 leads: what a busy producer collects while one request is on its way.
SIZE_MAX_BYTES = 100_000
#: Records whose partitions are found at once.
CHUNK_RECORDS = 4096


def record_batches(records: Iterable[tuple[bytes, bytes]], partition_count: int) -> Iterator[tuple[int, Any]]:
    """The record batches of keys and values, each with its partition; within a partition in the order of `records`."""
    builders = [_builder() for _ in range(partition_count)]
    rest = iter(records)
    while chunk := list(islice(rest, CHUNK_RECORDS)):
        for number, (name, value) in zip(partitions([name for name, _ in chunk], partition_count), chunk, strict=True):
            if builders[number].append(key=name, value=value, timestamp=None) is None:
                yield number, builders[number]
                builders[number] = _builder()
                assert builders[number].append(key=name, value=value, timestamp=None) is not None
    yield from ((number, builder) for number, builder in enumerate(builders) if builder.record_count())


def _builder() -> Any:
    return BatchBuilder(SIZE_MAX_BYTES, 0)
