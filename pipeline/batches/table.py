"""A table that is read and written a batch at a time: RocksDB below, its changelog topic beside it.

The changelog is the truth. A local database never runs ahead of it: its entries are put only after the broker has
acknowledged them in the changelog, together with the changelog offset up to which the database is complete.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple

import faust
import rocksdict
from faust.stores.rocksdb import RocksDBOptions
from faust.stores.rocksdb import Store as StockStore
from faust.types import TP

from pipeline.batches.batch import Batch, BatchSchema, DiskFull, Fatal
from pipeline.batches.producer import Entry
from pipeline.batches.reread import reread

__all__ = ["BatchStore", "BatchTable", "Logged", "changes"]

#: RocksDB's own defaults in Faust are 2 GiB of cache and 192 MiB of write buffers for each partition.
CACHE_SIZE_BYTES = 64 * 1024 * 1024
WRITE_BUFFER_SIZE_BYTES = 8 * 1024 * 1024
WRITE_BUFFERS_MAX = 2
#: Entries looked at in one go by a sweep: about a millisecond.
SWEEP_ENTRIES = 2000

#: One cache for the tables of all partitions.
_cache = rocksdict.Cache(CACHE_SIZE_BYTES)

_UNLOGGED: Any = rocksdict.WriteOptions()
_UNLOGGED.disable_wal = True


class _Options(RocksDBOptions):
    def as_options(self) -> Any:
        blocks = rocksdict.BlockBasedOptions()
        blocks.set_block_cache(_cache)
        blocks.set_bloom_filter(10, False)
        blocks.set_cache_index_and_filter_blocks(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
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

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, None where there is none. Raises `Fatal` when RocksDB cannot read."""
        return self._read(partition, list(keys))

    def next_offset(self, partition: int) -> int | None:
        """The changelog offset up to which the database is complete.

        None for a new database, and for one that was made from another changelog than `log_id`.
        """
        value = self._read(partition, [self.offset_key])[0]
        if value is None:
            return None
        offset, log_id = value.split(b" ")
        return int(offset) if bytes.fromhex(log_id.decode()) == self.log_id else None

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
        if next_offset is not None:
            changes.put(self.offset_key, b"%d %s" % (next_offset, self.log_id.hex().encode()))
        with self._fatal("written"):
            self._db_for_partition(partition).write(changes, options)

    def flush(self, partition: int) -> None:
        """Have everything that was not logged in files."""
        if partition in self._unlogged:
            with self._fatal("written"):
                self._db_for_partition(partition).flush(wait=True)
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
            return list(islice((entry for entry in entries if entry[0] != self.offset_key), limit))

    def sweep(self, partition: int, start: bytes, is_expired: Callable[[bytes], bool]) -> bytes | None:
        """Remove what is expired of the next entries from `start` on; returns where to go on, None at the end."""
        db = self._dbs.get(partition)
        if db is None:
            return None
        items = list(islice(db.items(from_key=start), SWEEP_ENTRIES))
        expired: dict[bytes, bytes | None] = {
            key: None for key, value in items if key != self.offset_key and is_expired(value)
        }
        if expired:
            self.write(partition, expired, None)
        return items[-1][0] + b"\0" if len(items) == SWEEP_ENTRIES else None

    def wipe(self, partition: int) -> None:
        """Remove the database of `partition`: it will be rebuilt from its changelog."""
        self._close(partition)
        shutil.rmtree(self.partition_path(partition), ignore_errors=True)

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
        if db is not None:
            db.close()
            del db
            gc.collect()


def changes(records: Sequence[Any]) -> Iterable[Any]:
    """The records of a changelog. A reader may have left them in pieces, which are read now."""
    return chain.from_iterable(records) if records and isinstance(records[0], Iterable) else records


class Logged(NamedTuple):
    """What the changelog has, and the database is to get: entries by key, None for those that are deleted.

    With them the database is complete up to `next_offset`; None: there is more in between, which a recovery reads.
    """

    entries: Mapping[bytes, bytes | None]
    next_offset: int | None


class BatchTable(faust.Table[bytes, bytes]):
    """A table of raw keys and values whose entries are put by partition and in batches.

    It has no item assignment: a change goes to the changelog first, which takes an acknowledgement from the broker.
    """

    data: BatchStore

    def __init__(self, app: Any, **kwargs: Any) -> None:
        schema = BatchSchema(key_type=bytes, value_type=bytes)
        super().__init__(app, key_type=bytes, value_type=bytes, schema=schema, **kwargs)

    def _new_store(self) -> BatchStore:
        return BatchStore(
            self.app.conf.store, self.app, self, table_name=self.name, key_type=bytes, value_type=bytes, loop=self.loop
        )

    def get(self, partition: int, key: bytes) -> bytes | None:
        """The value of `key` in `partition`, None where there is none."""
        return self.data.get_many(partition, [key])[0]

    def known(self, partition: int, keys: Iterable[bytes | None]) -> dict[bytes, bytes]:
        """The entries of those of `keys` that are in `partition`."""
        asked = list({key for key in keys if key is not None})
        values = self.data.get_many(partition, asked)
        return {key: value for key, value in zip(asked, values, strict=True) if value is not None}

    def scan(self, partition: int, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries of `partition` in the order of their keys, from `start` on."""
        return self.data.scan(partition, start, limit)

    async def log_many(self, batch: Batch, entries: Mapping[bytes, bytes]) -> Logged:
        """Append `entries` to the changelog; returns what is to be put once the broker has acknowledged.

        Raises:
            LetGo: the partition is being let go.
            Fatal: the broker refuses for good.
        """
        app: Any = self.app
        records: list[Entry] = [(key, value, ()) for key, value in entries.items()]
        first, following = await app.appender.append(batch, self.changelog_topic_name, records)
        known = self.data.next_offset(batch.tp.partition) if entries else None
        if known is None or (first == known and following - first == len(entries)):
            return Logged(entries, None if known is None else following)
        return await self._with_others(batch.tp.partition, entries, known, following)

    async def _with_others(
        self, partition: int, entries: Mapping[bytes, bytes | None], known: int, following: int
    ) -> Logged:
        """What the changelog has from `known` on: not only `entries`, but also a try that was not acknowledged, or what
        a worker wrote that had the partition before. A recovery would put all of it, in its order; so does this.
        """
        records = await reread(self.app, TP(self.changelog_topic_name, partition), known, following)
        if records is None:
            return Logged(entries, None)
        return Logged(
            {record.key: record.value for record in changes(records) if known <= record.offset < following}, following
        )

    def put_acknowledged(self, batch: Batch, logged: Logged) -> None:
        """Put what stands in the changelog, as `log_many` returned it.

        Raises:
            LetGo: the partition is being let go.
            Fatal: RocksDB refuses.
        """
        batch.epoch.check()
        if logged.entries:
            self.data.write(batch.tp.partition, logged.entries, logged.next_offset)

    async def sweep(self, is_expired: Callable[[bytes], bool]) -> None:
        """Remove entries whose value is expired from the local databases, a few thousand at a time.

        Only from these: the changelog forgets by its own retention, and who reads an entry checks its time.
        """
        for partition in list(self.data._dbs):
            start: bytes | None = b""
            while start is not None:
                start = self.data.sweep(partition, start, is_expired)
                await asyncio.sleep(0)

    def apply(self, batch: Batch, *, is_logged: bool = True) -> None:
        """Apply a batch of the changelog itself, during recovery."""
        if batch.tp.topic != self.changelog_topic_name:
            raise Fatal(f"a batch of {batch.tp.topic} was about to be applied to the table {self.name}")
        self.data.apply(batch.tp.partition, changes(batch.records), batch.next_offset, is_logged=is_logged)

    def apply_changelog_batch(self, batch: Any) -> None:
        """Nothing: the stock recovery's buffers are not used."""
