"""Any record is read, whatever bytes its headers have as names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from pipeline.records import install_reader

NONE, GZIP = 0, 1


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MemoryRecords", "PartitionRecords"):
        monkeypatch.setattr(fetcher, name, getattr(fetcher, name))
    install_reader()


def batch(first: int, *headers: list[tuple[str, bytes]], codec: int = NONE) -> bytes:
    """A record batch as the broker stores it, a record for each list of headers."""
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 1_000_000)
    for offset, names in enumerate(headers):
        builder.append(offset, 1000 + offset, b"key %d" % (first + offset), b"value", names)
    built = bytearray(builder.build())
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def read(raw: bytes, start: int = 0) -> Iterator[Any]:
    records = fetcher.MemoryRecords(raw)
    return fetcher.PartitionRecords(TopicPartition("t", 0), records, [], start, None, None, False, 0)


def odd(raw: bytes) -> bytes:
    """The same with names that are not UTF-8; a name that is to be so is `odd`."""
    return raw.replace(b"odd", b"o\xffd")


def test_records_before_and_behind_come_once_and_in_order() -> None:
    raw = batch(0, [], [("a", b"1")]) + odd(batch(2, [("b", b"2")], [("odd", b"3")], [])) + batch(5, [("c", b"4")])
    found = list(read(raw))
    assert [(one.offset, one.key, one.headers) for one in found] == [
        (0, b"key 0", ()), (1, b"key 1", (("a", b"1"),)), (2, b"key 2", (("b", b"2"),)),
        (3, b"key 3", (("o\\xffd", b"3"),)), (4, b"key 4", ()), (5, b"key 5", (("c", b"4"),)),
    ]  # fmt: skip


def test_a_fetch_that_begins_in_the_middle_of_a_batch() -> None:
    raw = odd(batch(10, [("odd", b"1")], [("odd", b"2")], [("odd", b"3")]))
    records = read(raw, start=11)
    assert [one.offset for one in records] == [11, 12]
    assert records.next_fetch_offset == 13  # type: ignore[attr-defined]


def test_values_that_are_not_utf_8_stay_as_they_are() -> None:
    (one,) = read(odd(batch(0, [("odd", b"\xff\xfe")])))
    assert one.headers == (("o\\xffd", b"\xff\xfe"),)
    assert (type(one.key), type(one.value)) == (bytes, bytes)


def test_a_compressed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = batch(0, [("a", b"1")], codec=GZIP)
    # A builder takes text only: what is compressed cannot be changed from outside, so the unpacking is.
    import aiokafka.record.default_records as default_records

    unpack = default_records.gzip_decode
    monkeypatch.setattr(default_records, "gzip_decode", lambda data: unpack(data).replace(b"a", b"\xff"))
    from pipeline.records import _LenientRecords

    (one,) = _LenientRecords(raw, 0).next_batch()
    assert one.headers == [("\\xff", b"1")]
