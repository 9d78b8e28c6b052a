"""What a sink is: the contract between the delivery of a batch and a CRM.

A sink has four calls for the delivery, `open()`, `offsets()`, `write()` and `close()`, `find(name)` for whoever asks
what became of a lead, and `put_offset()` for the operator. Its constructor does no I/O. Four errors tell the delivery
what to do, and any other error is a bug in the sink and ends the worker:

    SinkError
    ├── SinkUnavailable    try again later
    ├── RecordsRejected    some records can never be written; nothing was written; the others can be tried without them
    ├── Fenced             the checkpoint is not where the batch begins; nothing was written
    └── SinkUnusable       not before somebody mends it; ends the worker with a sentence
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

from pipeline.lead import Lead

__all__ = [
    "AcceptedLead",
    "Checkpoint",
    "Fenced",
    "Lane",
    "Mark",
    "RecordsRejected",
    "Sink",
    "SinkError",
    "SinkUnavailable",
    "SinkUnusable",
    "StreamOffset",
    "WrittenLead",
]


class SinkError(Exception):
    """Why a sink did not write a batch. Its text never holds data of a lead."""


class SinkUnavailable(SinkError):
    """The sink cannot be written now: down, locked, timed out, out of space.

    Nothing of the batch was written, or all of it, when only the answer got lost: the checkpoint, or the names of the
    leads, tell at the next try.
    """

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class SinkUnusable(SinkError):
    """The database is damaged, or its tables are not ours; the text says which. Nothing was written."""


class RecordsRejected(SinkError):
    """The sink refuses some records for good: index in the batch -> reason. Nothing of the batch was written."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} records rejected")
        self.reasons = dict(reasons)


class Mark(NamedTuple):
    """A record by which its log is known again."""

    offset: int
    #: The broker's time, milliseconds since the epoch.
    time_ms: int
    key: bytes | None


class Lane(NamedTuple):
    """Whose offset: that of a consumer group in a partition."""

    group: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class StreamOffset:
    """How far a lane has come, as it stands in the sink's own database, written together with the leads."""

    #: The next offset to read.
    next_offset: int
    #: Which log that is in: the id of the topic, which one of another cluster, or made anew, has not.
    log_id: str
    #: The record before `next_offset`; None at the start of a log.
    last: Mark | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The step that a batch takes a lane: from `position`, the next offset to read, to `after`."""

    lane: Lane
    position: int
    after: StreamOffset


class Fenced(SinkError):
    """The lane is not at the batch's position but at `found`; None: it is not in the database any more.

    Somebody else has written, or we have and the answer got lost.
    """

    def __init__(self, found: StreamOffset | None) -> None:
        super().__init__(f"the lane stands at {None if found is None else found.next_offset}")
        self.found = found


# A struct, and gc=False, because there is one for each lead: a dataclass takes six times as long to make.
class AcceptedLead(msgspec.Struct, frozen=True, gc=False):
    """A lead of `lead-accepted` and where it stands there."""

    lead: Lead
    partition: int
    offset: int
    #: The broker's time of the record, milliseconds since the epoch.
    time_ms: int
    #: Who sent it: the address of its contact (`pipeline.sinks.contact`).
    contact: str


@dataclass(frozen=True, slots=True)
class WrittenLead:
    """What the CRM says of a lead that it has."""

    #: What the CRM calls it.
    record_id: str
    #: With a time zone.
    written_at: datetime


class Sink(Protocol):
    """Where leads are written. One instance per worker; `write` may run for several partitions at once.

    Any call may be cancelled; it then ends at once, whatever the database does, and leaves the sink usable.
    """

    async def open(self) -> None:
        """Connect and create what is missing, so that a mistake shows before the first lead.

        May be called again. `write` does what is still to do of it, whether `open` raised or was not called.

        Raises:
            SinkUnavailable: it cannot be reached now.
        """

    async def offsets(self, starts: Mapping[Lane, StreamOffset]) -> dict[Lane, StreamOffset]:
        """Where each of these lanes stands. A lane that is not in the database yet is put where `starts` says.

        Raises:
            SinkUnavailable: it cannot be asked now.
        """

    async def put_offset(self, lane: Lane, at: StreamOffset) -> None:
        """Put a lane where an operator says. Its workers are stopped.

        Raises:
            SinkUnavailable: it cannot be written now.
        """

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        """Write leads, each at most once by (tenant, message id), and return how many were new.

        With a `checkpoint`, its step is taken in the same transaction, and only from its position. A contact counts the
        leads that are new. Returns only when all that is durable. When it is cancelled, all is written or nothing.

        Raises:
            SinkUnavailable: the same call may succeed later.
            RecordsRejected: nothing was written; it never will be with these records.
            Fenced: nothing was written; the lane is not at the checkpoint's position.
        """

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """The lead of this name if it is durable, else None. Does not wait for a `write`, and no `write` for it.

        Raises:
            SinkUnavailable: it cannot be asked now.
        """

    async def close(self) -> None:
        """Release everything. No `write` may be running."""
