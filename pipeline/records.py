"""How every consumer of this product reads records: any header names, and fast.

Kafka takes any bytes as the name of a header. aiokafka decodes them strictly, raises in the middle of a fetch, and
never gets past the record: one of it would stop every worker that reads its partition, whoever has sent it. Here such
a byte is shown as `\\xff`.

aiokafka goes through four calls for each record, and makes a dataclass of eleven fields of it. Here it is one call and
a struct of what is used, in less than half the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

__all__ = ["Record", "install_reader"]


def install_reader() -> None:
    """From now on, for every consumer of this process."""
    fetcher.MemoryRecords = _Kept
    fetcher.PartitionRecords = _PartitionRecords


# gc=False: it holds nothing that could hold it.
class Record(msgspec.Struct, gc=False):
    """A record as it came from the broker: what is used of aiokafka's `ConsumerRecord`, under the same names.

    The timestamp is in milliseconds since the epoch; its type is 1 where it is the broker's.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class _Kept:
    """aiokafka's records of one fetch, and the bytes that they are made of."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        records = MemoryRecords(raw)
        self.has_next = records.has_next
        self.next_batch = records.next_batch
        self.size_in_bytes = records.size_in_bytes


class _PartitionRecords(fetcher.PartitionRecords):
    """Goes on with a slower reader where aiokafka's fast one gives up."""

    _records: Any
    _records_iterator: Iterator[Record]

    def __iter__(self) -> Iterator[Record]:
        return self._records_iterator

    def _unpack_records(self) -> Iterator[Record]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            # What its batch has given already lies before `next_fetch_offset`, and is passed over.
            self._records = _LenientRecords(self._records.raw, self.next_fetch_offset)
            yield from super()._unpack_records()

    def _consumer_record(self, tp: Any, record: Any) -> Record:
        return Record(
            tp.topic, tp.partition, record.offset, record.timestamp, record.timestamp_type, record.key, record.value,
            tuple(record.headers),
        )  # fmt: skip


class _LenientRecords(_MemoryRecordsPy):
    """The batches of `raw` that do not lie before the offset `start`."""

    def __init__(self, raw: bytes, start: int) -> None:
        super().__init__(raw)
        while self._next_slice is not None and _LenientBatch(self._next_slice).next_offset <= start:
            self._cache_next()

    def next_batch(self) -> Any:
        batch = self._next_slice
        self._cache_next()
        return None if batch is None else _LenientBatch(batch)


class _LenientBatch(_DefaultRecordBatchPy):
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Lenient(self._buffer)


class _Lenient(bytearray):
    """Whose parts decode to something, whatever they are."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return _Lenient(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")
