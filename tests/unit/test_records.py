"""Any record is read, whatever bytes its headers have as names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
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


def pieces(raw: bytes, start: int, *, check: bool = False) -> Any:
    tp = TopicPartition("leads-seen-changelog", 0)
    return fetcher.PartitionRecords(tp, fetcher.MemoryRecords(raw), [], start, None, None, check, 0)


def test_a_changelog_comes_in_pieces_and_each_record_of_them_once() -> None:
    raw = batch(3, [], [("a", b"1")]) + batch(5, [], [], codec=GZIP) + batch(9, [])
    found = pieces(raw, 3)
    assert [(one.offset, one.timestamp) for one in found] == [(3, 1001), (5, 1001), (9, 1000)]
    assert found.next_fetch_offset == 10
    records = [(one.offset, one.key, one.value) for piece in pieces(raw, 3) for one in piece]
    assert records == [(offset, b"key %d" % offset, b"value") for offset in (3, 4, 5, 6, 9)]


@pytest.mark.parametrize("codec", [NONE, GZIP])
def test_a_piece_begins_where_the_fetch_did(codec: int) -> None:
    raw = batch(0, [], [], [], codec=codec) + batch(3, [])
    first, second = pieces(raw, 1)
    assert (first.offset, [one.offset for one in first]) == (1, [1, 2])
    assert (second.offset, [one.offset for one in second]) == (3, [3])


@pytest.mark.parametrize("start", [0, 3, 4])
def test_a_piece_with_an_odd_header_has_all_records_in_the_end(start: int) -> None:
    raw = batch(0, [], []) + odd(batch(2, [], [], [("odd", b"1")], []))
    found: dict[int, bytes] = {one.offset: one.key for piece in pieces(raw, start) for one in piece}
    assert found == {offset: b"key %d" % offset for offset in range(start, 6)}


def test_a_piece_that_is_damaged_is_refused() -> None:
    raw = bytearray(batch(0, [], []))
    raw[-3] ^= 1
    with pytest.raises(CorruptRecordException):
        list(pieces(bytes(raw), 0, check=True))


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
