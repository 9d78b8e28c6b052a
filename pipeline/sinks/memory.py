"""The reference implementation of the sink contract, in memory: for tests, and to see what the contract asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pipeline.sinks.base import (
    AcceptedLead,
    Checkpoint,
    Fenced,
    Lane,
    RecordsRejected,
    SinkUnavailable,
    StreamOffset,
    WrittenLead,
)
from pipeline.sinks.contact import Contact, merged, submissions

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps rows in `rows`, by (tenant, message id), as long as the object lives."""

    def __init__(self, *, unavailable: int = 0, reject: Callable[[AcceptedLead], str | None] | None = None) -> None:
        self.rows: dict[tuple[str, str], AcceptedLead] = {}
        #: When each row was written.
        self.times: dict[tuple[str, str], datetime] = {}
        #: By tenant and address.
        self.contacts: dict[tuple[str, str], Contact] = {}
        self.lanes: dict[Lane, StreamOffset] = {}
        #: How many of the next calls of `write` find it unavailable.
        self.unavailable = unavailable
        #: Says why a lead can never be written, or None if it can.
        self.reject = reject
        self.retry_after_s: float | None = None

    async def open(self) -> None:
        """Nothing to do."""

    async def offsets(self, starts: Mapping[Lane, StreamOffset]) -> dict[Lane, StreamOffset]:
        """See `Sink.offsets`."""
        self._require_available()
        return {lane: self.lanes.setdefault(lane, start) for lane, start in starts.items()}

    async def put_offset(self, lane: Lane, at: StreamOffset) -> None:
        """See `Sink.put_offset`."""
        self._require_available()
        self.lanes[lane] = at

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        """See `Sink.write`."""
        self._require_available()
        if checkpoint is not None:
            found = self.lanes.get(checkpoint.lane)
            if found is None or found.next_offset != checkpoint.position:
                raise Fenced(found)
        if self.reject is not None:
            reasons = {index: reason for index, lead in enumerate(leads) if (reason := self.reject(lead)) is not None}
            if reasons:
                raise RecordsRejected(reasons)
        if checkpoint is not None:
            self.lanes[checkpoint.lane] = checkpoint.after
        return self._insert(leads)

    def _insert(self, leads: Sequence[AcceptedLead]) -> int:
        new = []
        for accepted in leads:
            name = accepted.lead.tenant, accepted.lead.message_id
            if name not in self.rows:
                self.rows[name], self.times[name] = accepted, datetime.now(UTC)
                new.append(accepted)
        for contact in submissions(new):
            name = contact.tenant, contact.address
            known = self.contacts.get(name)
            self.contacts[name] = contact if known is None else merged(known, contact)
        return len(new)

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """See `Sink.find`."""
        if self.unavailable > 0:
            raise SinkUnavailable("told to be unavailable", retry_after_s=self.retry_after_s)
        time = self.times.get((tenant, message_id))
        return None if time is None else WrittenLead(f"{tenant}/{message_id}", time)

    async def close(self) -> None:
        """Nothing to do; the rows stay."""

    def _require_available(self) -> None:
        if self.unavailable > 0:
            self.unavailable -= 1
            raise SinkUnavailable("told to be unavailable", retry_after_s=self.retry_after_s)
