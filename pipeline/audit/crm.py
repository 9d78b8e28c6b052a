"""The CRM's database, read from outside and never written: checkpoints, rows, counters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from pipeline.audit.outcome import WrongCounter

__all__ = ["COUNTERS", "CRM", "OFFSETS", "ROWS_AT_ONCE", "Row", "Snapshot", "StoredOffset"]

ROWS_AT_ONCE = 2_000

#: The columns of a `Row`.
ROWS = "SELECT contact, tenant, message_id, email, phone, name, company, source, campaign, fields FROM lead"
CONTACTS = "SELECT tenant, address, submissions FROM contact"
OFFSETS = "SELECT partition, next_offset, log_id FROM stream_offset WHERE consumer_group = {} AND topic = {}"
#: Of the contacts whose counter is wrong: tenant, counter, rows, the message id of one of its leads.
COUNTERS = """
SELECT tenant, sum(submissions), sum(leads), min(message_id) FROM (
    SELECT tenant, address, submissions, 0 AS leads, CAST(NULL AS text) AS message_id FROM contact
    UNION ALL
    SELECT tenant, contact, 0, 1, message_id FROM lead
) AS said_and_counted
GROUP BY tenant, address HAVING sum(submissions) <> sum(leads)
"""

#: The address of the contact, then what `Names.row` takes.
Row = Sequence[Any]


class StoredOffset(NamedTuple):
    """A checkpoint in the database: the next offset, and the id of the log that it is in."""

    next_offset: int
    log_id: str


class Snapshot(ABC):
    """The database in the moment in which it was first asked. Every method raises as `CRM` says."""

    def rows(self) -> AsyncIterator[Sequence[Row]]:
        """All rows of `lead`, some at a time."""
        return self.select(ROWS)

    def contacts(self) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """Tenant, address and submissions of all contacts, some at a time."""
        return self.select(CONTACTS)

    @abstractmethod
    def wrong_counters(self) -> AsyncIterator[WrongCounter]:
        """The contacts whose counter is wrong. This takes the database a sort of all rows."""

    @abstractmethod
    def select(self, sql: str) -> AsyncIterator[Sequence[Row]]:
        """What `sql` finds, `ROWS_AT_ONCE` rows at a time; nothing in a database without tables."""


class CRM(Protocol):
    """The database of an app.

    Raises:
        Unavailable: it cannot be read, in every method; the text is a sentence.
    """

    async def offsets(self, group: str, topic: str) -> dict[int, StoredOffset] | None:
        """The checkpoints of a consumer group by partition; None where there is no database of ours."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """A transaction that only reads."""
