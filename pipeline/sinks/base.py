"""What a sink is: the contract between the delivery of a batch and a CRM.

A sink has three calls for the delivery, `open()`, `write(batch)` and `close()`, and `find(name)` for whoever asks what
became of a lead. Its constructor does no I/O. Two errors tell the delivery what to do, and any other error is a bug in
the sink and ends the worker:

    SinkError
    ├── SinkUnavailable    nothing was written; try again later
    └── RecordsRejected    some records can never be written; nothing was written; the others can be tried without them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pipeline.lead import Lead

__all__ = ["AcceptedLead", "RecordsRejected", "Sink", "SinkError", "SinkUnavailable", "WrittenLead"]


class SinkError(Exception):
    """Why a sink did not write a batch. Its text never holds data of a lead."""


class SinkUnavailable(SinkError):
    """The sink cannot be written now: down, locked, timed out, out of space. Nothing of the batch was written."""

    def __init__(self, reason: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class RecordsRejected(SinkError):
    """The sink refuses some records for good: index in the batch -> reason. Nothing of the batch was written."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__(f"{len(reasons)} records rejected")
        self.reasons = dict(reasons)


@dataclass(frozen=True, slots=True)
class AcceptedLead:
    """A lead of `lead-accepted` and where it stands there."""

    lead: Lead
    partition: int
    offset: int
    #: The broker's time of the record, milliseconds since the epoch.
    time_ms: int


@dataclass(frozen=True, slots=True)
class WrittenLead:
    """What the CRM says of a lead that it has."""

    #: What the CRM calls it.
    record_id: str
    #: With a time zone.
    written_at: datetime


class Sink(Protocol):
    """Where leads are written. One instance per worker; `write` may run for several partitions at once."""

    async def open(self) -> None:
        """Connect and create what is missing, so that a mistake shows before the first lead.

        May be called again. `write` does what is still to do of it, whether `open` raised or was not called.

        Raises:
            SinkUnavailable: it cannot be reached now.
        """

    async def write(self, leads: Sequence[AcceptedLead]) -> int:
        """Write leads, each at most once by (tenant, message id), and return how many were new.

        Returns only when every lead in `leads` is durable. Cancelling it leaves the sink usable: the leads are then
        written or not, and writing them again changes nothing.

        Raises:
            SinkUnavailable: nothing was written; the same call may succeed later.
            RecordsRejected: nothing was written; it never will be with these records.
        """

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """The lead of this name if it is durable, else None. Does not wait for a `write`, and no `write` for it.

        Raises:
            SinkUnavailable: it cannot be asked now.
        """

    async def close(self) -> None:
        """Release everything. No `write` may be running."""
