"""What an agent gets: a batch, the epoch that it belongs to, and the schema that lets it through."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faust.serializers.schemas import Schema
from faust.types import TP

__all__ = ["STATUS_HUNG", "STATUS_REFUSED", "Batch", "BatchSchema", "DiskFull", "Epoch", "Fatal", "LetGo", "Refused"]

#: EX_CONFIG of sysexits.h: the supervisor does not restart a worker that ends with it.
STATUS_REFUSED = 78
#: EX_SOFTWARE: the worker hangs.
STATUS_HUNG = 70
#: A `Record` without key and value.
RECORD_SIZE_BYTES = 100


class LetGo(Exception):
    """The partition of this batch is being let go: stop working on it, acknowledge nothing. Never an error."""


class Fatal(Exception):
    """No record's fault, and nothing that a retry would mend: ends the worker, its batch not acknowledged."""


class Refused(Exception):
    """The worker cannot do its work here. Its text says what to do.

    `status` is the exit status (sysexits.h): 78 where a restart will not change it, another where it may.
    """

    def __init__(self, text: str, *, status: int = STATUS_REFUSED) -> None:
        super().__init__(text)
        self.status = status


class DiskFull(Fatal, Refused):
    """The disk of `path` is full. Once there is room, a restart goes on where this worker stopped."""

    #: How every library here says it: it is the system's own text.
    TEXT = os.strerror(errno.ENOSPC)

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"No space is left on the disk of {path}; free some. Nothing is lost: what was not written was not "
            "acknowledged.",
            status=os.EX_IOERR,
        )


class Epoch:
    """One assignment of partitions to this worker, from its seek to its revocation.

    `leaving` is set when a rebalance or a stop begins: whoever only waits stops waiting, whoever works may finish.
    `over` is set when nobody may produce, put or acknowledge for this assignment any more.
    """

    __slots__ = ("leaving", "over")

    def __init__(self) -> None:
        self.leaving = asyncio.Event()
        self.over = False

    def check(self) -> None:
        """Raise `LetGo` when the epoch is over."""
        if self.over:
            raise LetGo

    async def pause(self, delay_s: float) -> None:
        """Wait `delay_s` seconds before another try; raise `LetGo` at once when the partitions are being let go."""
        if not self.leaving.is_set() and delay_s > 0:
            waiter = asyncio.ensure_future(self.leaving.wait())
            try:
                await asyncio.wait({waiter}, timeout=delay_s)
            finally:
                waiter.cancel()
        if self.leaving.is_set() or self.over:
            raise LetGo


class Batch:
    """A contiguous run of records of one partition, as the broker delivered them.

    `records` have what is named as in aiokafka's `ConsumerRecord`, in the order of their offsets, up to but not
    including `next_offset`.
    Offsets may be missing in between where the log has none (compaction, transaction markers).
    """

    __slots__ = ("_size_bytes", "acked", "epoch", "next_offset", "records", "tp")

    def __init__(self, tp: TP, records: Sequence[Any], next_offset: int, epoch: Epoch) -> None:
        self.tp = tp
        self.records = records
        self.next_offset = next_offset
        self.epoch = epoch
        self.acked = False
        self._size_bytes: int | None = None

    @classmethod
    def joined(cls, batches: Sequence[Batch]) -> Batch:
        """Batches of one partition and one epoch that follow each other, as one."""
        if len(batches) == 1:
            return batches[0]
        records = [record for batch in batches for record in batch.records]
        return cls(batches[0].tp, records, batches[-1].next_offset, batches[0].epoch)

    def one(self, index: int) -> Batch:
        """The record at `index` as a batch of its own."""
        record = self.records[index]
        return Batch(self.tp, [record], record.offset + 1, self.epoch)

    @property
    def first_offset(self) -> int:
        """The offset of the first record."""
        offset: int = self.records[0].offset
        return offset

    @property
    def size_bytes(self) -> int:
        """About what it takes: keys, values, and something for each record, which may have neither."""
        if self._size_bytes is None:
            sizes = (len(record.key or b"") + len(record.value or b"") for record in self.records)
            self._size_bytes = RECORD_SIZE_BYTES * len(self.records) + sum(sizes)
        return self._size_bytes

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        return f"<Batch {self.tp.topic}/{self.tp.partition} {self.first_offset}..{self.next_offset}>"


class BatchSchema(Schema):
    """Marks a topic that is delivered in batches: the value of its events is a `Batch`, not decoded by Faust."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """The key of a batch: none."""
        return message.key

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """The batch itself."""
        return message.value
