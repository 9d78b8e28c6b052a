"""The database of a table: RocksDB, one for each partition, with the changelog offset up to which it is complete.

The offset has a column family of its own. Beside the entries, its one key would be in every file, and before all
others: the files would all overlap, and each merge would rewrite the whole database.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores.rocksdb import RocksDBOptions
from faust.stores.rocksdb import Store as StockStore
from faust.types import TP

from pipeline.batches.batch import DiskFull, Fatal

__all__ = ["OFFSET_FAMILY", "BatchStore"]

#: The column family of the offset.
OFFSET_FAMILY = "offset"
#: RocksDB's own defaults in Faust are 2 GiB of cache and 192 MiB of write buffers for each partition.
CACHE_SIZE_BYTES = 64 * 1024 * 1024
WRITE_BUFFER_SIZE_BYTES = 8 * 1024 * 1024
WRITE_BUFFERS_MAX = 2
#: Of the offset's family, which has one key: thousands of batches.
OFFSET_BUFFER_SIZE_BYTES = 1024 * 1024
#: A merge rewrites whole files: with RocksDB's 64 MiB that would be all of a partition.
FILE_SIZE_BYTES = 8 * 1024 * 1024
#: Entries looked at in one go by a sweep: about a millisecond.
SWEEP_ENTRIES = 2000

#: One cache for the tables of all partitions.
_cache = rocksdict.Cache(CACHE_SIZE_BYTES)

_UNLOGGED: Any = rocksdict.WriteOptions()
_UNLOGGED.disable_wal = True


class _Options(RocksDBOptions):
    def open(self, path: Path, *, read_only: bool = False) -> Any:
        families = {OFFSET_FAMILY: self._of_offset()}
        return rocksdict.Rdict(str(path), self.as_options(), column_families=families)

    def _of_offset(self) -> Any:
        options = rocksdict.Options(raw_mode=True)
        options.set_write_buffer_size(OFFSET_BUFFER_SIZE_BYTES)
        return options

    def as_options(self) -> Any:
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(_cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        # Entries and offset come into files together, so that without a log, too, there is none without the other.
        options.set_atomic_flush(True)
        options.set_target_file_size_base(FILE_SIZE_BYTES)
        options.set_write_buffer_size(WRITE_BUFFER_SIZE_BYTES)
        options.set_max_write_buffer_number(WRITE_BUFFERS_MAX)
        options.set_block_based_table_factory(blocks)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(64)
        return options


class BatchStore(StockStore):
    """RocksDB, one database per partition, each with the changelog, and its offset, up to which it is complete."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rocksdb_options = _Options()
        #: Which changelog the databases are made from: the id of its topic.
        self.log_id = b""
        #: Databases with writes that are neither in a file nor in RocksDB's log.
        self._unlogged: set[int] = set()
        #: What the offset family holds, by partition. Read once: each look at a family makes an object in rocksdict.
        self._offsets: dict[int, bytes] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, None where there is none. Raises `Fatal` when RocksDB cannot read."""
        return self._read(partition, list(keys))

    def next_offset(self, partition: int) -> int | None:
        """The changelog offset up to which the database is complete.

        None for a new database, for one that was made from another changelog than `log_id`, and for one of a version
        that kept the offset elsewhere.
        """
        value = self._offsets.get(partition) or self._read_offset(partition)
        if value is None:
            return None
        offset, log_id = value.split(b" ")
        return int(offset) if bytes.fromhex(log_id.decode()) == self.log_id else None

    def _read_offset(self, partition: int) -> bytes | None:
        with self._fatal("read"):
            offsets = self._db_for_partition(partition).get_column_family(OFFSET_FAMILY)
            value: bytes | None = offsets.get(self.offset_key)
        if value is not None:
            self._offsets[partition] = value
        return value

    def write(self, partition: int, entries: Mapping[bytes, bytes | None], next_offset: int | None) -> None:
        """Put (or delete, for None) `entries` and, if given, the new `next_offset`, all or nothing.

        Raises:
            Fatal: RocksDB refuses; its text is in the message.
        """
        changes = rocksdict.WriteBatch(raw_mode=True)
        for key, value in entries.items():
            if value is None:
                changes.delete(key)
            else:
                changes.put(key, value)
        # Else a kill could lose what was not logged, and keep this.
        self.flush(partition)
        self._write(partition, changes, next_offset)

    def apply(self, partition: int, records: Iterable[Any], next_offset: int, *, is_logged: bool) -> None:
        """Put (or delete, for a value of None) what `records` of the changelog say, and `next_offset`, all or nothing.

        What is not logged (in RocksDB's write-ahead log) is lost when the process is killed before it comes into a
        file: all writes from some one on, and their offsets with them, since each is wholly in one file, and files are
        written in order. It takes a quarter less processor time, for whoever can read the changelog again.

        Raises:
            Fatal: RocksDB refuses; its text is in the message.
        """
        changes = rocksdict.WriteBatch(raw_mode=True)
        put = changes.put
        for record in records:
            value = record.value
            if value is None:
                changes.delete(record.key)
            else:
                put(record.key, value)
        if is_logged:
            self.flush(partition)
        else:
            self._unlogged.add(partition)
        self._write(partition, changes, next_offset, None if is_logged else _UNLOGGED)

    def _write(self, partition: int, changes: Any, next_offset: int | None, options: Any = None) -> None:
        db = self._db_for_partition(partition)
        value = None
        if next_offset is not None:
            value = b"%d %s" % (next_offset, self.log_id.hex().encode())
            changes.put(self.offset_key, value, db.get_column_family_handle(OFFSET_FAMILY))
        with self._fatal("written"):
            db.write(changes, options)
        if value is not None:
            self._offsets[partition] = value

    def flush(self, partition: int) -> None:
        """Have everything that was not logged in files."""
        if partition in self._unlogged:
            with self._fatal("written"):
                db = self._db_for_partition(partition)
                # By hand only the named family is flushed, so in this order: never an offset without its entries.
                db.flush(wait=True)
                db.get_column_family(OFFSET_FAMILY).flush(wait=True)
            self._unlogged.discard(partition)

    def _read(self, partition: int, keys: list[bytes]) -> list[bytes | None]:
        with self._fatal("read"):
            values: list[bytes | None] = self._db_for_partition(partition).get(keys)
        return values

    def _open_for_partition(self, partition: int) -> Any:
        with self._fatal("opened"):
            return super()._open_for_partition(partition)

    @contextmanager
    def _fatal(self, done: str) -> Iterator[None]:
        """A fault of the disk is no record's fault."""
        try:
            yield
        except Exception as error:
            if DiskFull.TEXT in str(error):
                raise DiskFull(self.path) from error
            raise Fatal(f"The table {self.table_name} cannot be {done}: {error}") from error

    def scan(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries in the order of their keys, from `start` on."""
        with self._fatal("read"):
            entries = self._db_for_partition(partition).items(from_key=start)
            return list(islice(entries, limit))

    def sweep(self, partition: int, start: bytes, is_expired: Callable[[bytes], bool]) -> bytes | None:
        """Remove what is expired of the next entries from `start` on; returns where to go on, None at the end."""
        db = self._dbs.get(partition)
        if db is None:
            return None
        items = list(islice(db.items(from_key=start), SWEEP_ENTRIES))
        expired: dict[bytes, bytes | None] = {key: None for key, value in items if is_expired(value)}
        if expired:
            self.write(partition, expired, None)
        return items[-1][0] + b"\0" if len(items) == SWEEP_ENTRIES else None

    def wipe(self, partition: int) -> None:
        """Remove the database of `partition`: it will be rebuilt from its changelog."""
        self._close(partition)
        path = self.partition_path(partition)
        wiped = path.with_name(f"{path.name}.wiped")
        shutil.rmtree(wiped, ignore_errors=True)
        # At once: half a database, as a kill would leave it, cannot be opened any more.
        with suppress(FileNotFoundError):
            path.rename(wiped)
        shutil.rmtree(wiped, ignore_errors=True)

    def persisted_offset(self, tp: TP) -> int | None:
        """The last changelog offset applied, which is how Faust counts here."""
        offset = self.next_offset(tp.partition)
        return None if offset is None else offset - 1

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """Refused: the offset is written together with the entries that it stands for."""
        raise Fatal("the changelog offset of a table is only set by write()")

    def revoke_partitions(self, table: Any, tps: set[TP]) -> None:
        """Close the databases of partitions that went to another worker."""
        for tp in tps:
            if tp.topic in table.changelog_topic.topics:
                self._close(tp.partition)

    async def stop(self) -> None:
        """Close all databases."""
        for partition in list(self._dbs):
            self._close(partition)

    def _close(self, partition: int) -> None:
        db = self._dbs.pop(partition, None)
        self._unlogged.discard(partition)
        self._offsets.pop(partition, None)
        if db is not None:
            db.close()
            del db
            gc.collect()
