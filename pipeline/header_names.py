"""Records whose headers have names that are not UTF-8 are read like all others: such a byte is shown as `\\xff`.

Kafka takes any bytes there. aiokafka decodes them strictly, raises in the middle of a fetch, and never gets past the
record: one of it would stop every worker that reads its partition, whoever has sent it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords, _MemoryRecordsPy

__all__ = ["read_any_header_names"]


def read_any_header_names() -> None:
    """From now on, for every consumer of this process."""
    fetcher.MemoryRecords = _Kept
    fetcher.PartitionRecords = _PartitionRecords


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

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except UnicodeDecodeError:
            # What its batch has given already lies before `next_fetch_offset`, and is passed over.
            self._records = _LenientRecords(self._records.raw, self.next_fetch_offset)
            self._records_iterator: Iterator[Any] = self._unpack_records()
            return super().__next__()


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
