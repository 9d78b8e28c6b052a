"""The table's databases: batches, offsets and sweeps, on a real RocksDB."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import faust
import pytest
import rocksdict

from pipeline.batches.store import SWEEP_ENTRIES, BatchStore
from tests.unit.engine import record


def new_store(directory: Path) -> BatchStore:
    app = faust.App("table-test", datadir=directory, store="rocksdb://")
    table = app.Table("numbers", key_type=bytes, value_type=bytes)
    return BatchStore("rocksdb://", app, table, table_name="numbers", key_type=bytes, value_type=bytes)


@pytest.fixture
def store(tmp_path: Path) -> BatchStore:
    return new_store(tmp_path)


def test_entries_and_offset_are_written_together(store: BatchStore) -> None:
    assert store.next_offset(3) is None
    store.write(3, {b"a": b"1", b"b": b"2"}, 7)
    assert store.get_many(3, [b"b", b"x", b"a"]) == [b"2", None, b"1"]
    assert store.next_offset(3) == 7
    store.write(3, {b"a": None}, None)
    assert store.get_many(3, [b"a"]) == [None]
    assert store.next_offset(3) == 7
    assert store.next_offset(4) is None


@pytest.mark.parametrize("is_logged", [True, False])
def test_records_of_the_changelog_are_applied_in_their_order(store: BatchStore, is_logged: bool) -> None:
    store.write(0, {b"a": b"1", b"b": b"1"}, 4)
    pairs = [(b"a", b"2"), (b"b", None), (b"c", b"1"), (b"a", b"3")]
    records = [record(4 + number, key=key, value=value) for number, (key, value) in enumerate(pairs)]
    store.apply(0, records, 9, is_logged=is_logged)
    assert store.get_many(0, [b"a", b"b", b"c"]) == [b"3", None, b"1"]
    assert store.next_offset(0) == 9


def test_a_database_made_from_another_changelog_is_new(store: BatchStore) -> None:
    store.log_id = b"one"
    store.write(0, {b"a": b"1"}, 7)
    assert store.next_offset(0) == 7
    store.log_id = b"other"
    assert store.next_offset(0) is None


def test_a_database_that_has_its_offset_elsewhere_is_new(store: BatchStore) -> None:
    path = store.partition_path(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    with rocksdict.Rdict(str(path), options) as former:
        former[store.offset_key] = b"7 "
        former[b"a"] = b"1"
    assert store.next_offset(0) is None
    store.wipe(0)
    store.write(0, {b"a": b"2"}, 8)
    assert store.next_offset(0) == 8


@pytest.mark.parametrize("is_logged", [True, False])
def test_files_of_keys_in_order_do_not_overlap(store: BatchStore, is_logged: bool) -> None:
    size, writes = 20_000, 40
    for number in range(writes):
        first = number * size
        records = [record(first + n, key=b"default/%08d" % (first + n), value=b"v" * 40) for n in range(size)]
        store.apply(0, records, first + size, is_logged=is_logged)
    # Those of the offset have no other key.
    files = [one for one in store._db_for_partition(0).live_files() if one["end_key"] != store.offset_key]
    spans = sorted((one["start_key"], one["end_key"]) for one in files)
    assert len(spans) > 2
    assert all(former[1] < latter[0] for former, latter in pairwise(spans))


def test_a_wiped_partition_is_new(store: BatchStore) -> None:
    store.write(0, {b"a": b"1"}, 7)
    store.write(1, {b"a": b"1"}, 7)
    store.wipe(0)
    assert store.next_offset(0) is None
    assert store.get_many(0, [b"a"]) == [None]
    assert store.next_offset(1) == 7


def test_a_sweep_removes_what_is_expired_and_nothing_else(store: BatchStore) -> None:
    count = 2 * SWEEP_ENTRIES + 10
    store.write(0, {b"%06d" % n: b"old" if n % 2 else b"new" for n in range(count)}, count)
    start: bytes | None = b""
    rounds = 0
    while start is not None:
        start = store.sweep(0, start, lambda value: value == b"old")
        rounds += 1
    assert rounds == 3
    left = store.get_many(0, [b"%06d" % n for n in range(count)])
    assert left == [None if n % 2 else b"new" for n in range(count)]
    assert store.next_offset(0) == count


def test_a_sweep_does_not_open_a_database(store: BatchStore) -> None:
    assert store.sweep(5, b"", lambda value: True) is None
    assert 5 not in store._dbs


def test_entries_are_scanned_in_the_order_of_their_keys_without_the_offset(store: BatchStore) -> None:
    store.write(0, {b"c": b"3", b"a": b"1", b"b": b"2"}, 7)
    assert store.scan(0, b"", 2) == [(b"a", b"1"), (b"b", b"2")]
    assert store.scan(0, b"b\0", 2) == [(b"c", b"3")]
    assert store.scan(0, b"d", 2) == []
    assert [key for key, _ in store.scan(0, b"", 10)] == [b"a", b"b", b"c"]
