"""The reference implementation of the sink contract, in memory: for tests, and to see what the contract asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from pipeline.sinks.base import AcceptedLead, RecordsRejected, SinkUnavailable, WrittenLead

__all__ = ["MemorySink"]


class MemorySink:
    """Keeps rows in `rows`, by (tenant, message id), as long as the object lives."""

    def __init__(self, *, unavailable: int = 0, reject: Callable[[AcceptedLead], str | None] | None = None) -> None:
        self.rows: dict[tuple[str, str], AcceptedLead] = {}
        #: When each row was written.
        self.times: dict[tuple[str, str], datetime] = {}
        #: How many of the next calls of `write` find it unavailable.
        self.unavailable = unavailable
        #: Says why a lead can never be written, or None if it can.
        self.reject = reject
        self.retry_after_s: float | None = None

    async def open(self) -> None:
        """Nothing to do."""

    async def write(self, leads: Sequence[AcceptedLead]) -> int:
        """See `Sink.write`."""
        if self.unavailable > 0:
            self.unavailable -= 1
            raise SinkUnavailable("told to be unavailable", retry_after_s=self.retry_after_s)
        if self.reject is not None:
            reasons = {index: reason for index, lead in enumerate(leads) if (reason := self.reject(lead)) is not None}
            if reasons:
                raise RecordsRejected(reasons)
        before = len(self.rows)
        for accepted in leads:
            name = accepted.lead.tenant, accepted.lead.message_id
            self.rows.setdefault(name, accepted)
            self.times.setdefault(name, datetime.now(UTC))
        return len(self.rows) - before

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """See `Sink.find`."""
        if self.unavailable > 0:
            raise SinkUnavailable("told to be unavailable", retry_after_s=self.retry_after_s)
        time = self.times.get((tenant, message_id))
        return None if time is None else WrittenLead(f"{tenant}/{message_id}", time)

    async def close(self) -> None:
        """Nothing to do; the rows stay."""
