"""A table that is read and written a batch at a time: a database below, its changelog topic beside it.

The changelog is the truth. A local database never runs ahead of it: its entries are put only after the broker has
acknowledged them in the changelog, together with the changelog offset up to which the database is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import faust
from faust.types import TP

from pipeline.batches.batch import Batch, BatchSchema, Fatal
from pipeline.batches.producer import Entry
from pipeline.batches.reread import reread
from pipeline.batches.store import BatchStore

__all__ = ["BatchTable", "Logged"]

#: After a changelog could not be read again; until then the offset of the table stands still.
REREAD_AGAIN_S = 60.0


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
        #: When to try that again, by partition.
        self._reread_again_s: dict[int, float] = {}

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
        now_s = asyncio.get_running_loop().time()
        if now_s < self._reread_again_s.get(partition, now_s):
            return Logged(entries, None)
        records = await reread(self.app, TP(self.changelog_topic_name, partition), known, following)
        if records is None:
            self._reread_again_s[partition] = now_s + REREAD_AGAIN_S
            return Logged(entries, None)
        return Logged({record.key: record.value for record in records}, following)

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
        self.data.apply(batch.tp.partition, batch.records, batch.next_offset, is_logged=is_logged)

    def apply_changelog_batch(self, batch: Any) -> None:
        """Nothing: the stock recovery's buffers are not used."""
