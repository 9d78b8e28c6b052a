"""What one transaction does to the SQLite CRM: the step of a lane, the leads, their contacts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain

import msgspec

from pipeline.sinks.base import AcceptedLead, Checkpoint, Fenced, Lane, Mark, RecordsRejected, StreamOffset
from pipeline.sinks.contact import Contact, submissions
from pipeline.sinks.sqlite_schema import (
    ADD_OFFSET,
    CONTACTS,
    INSERTS,
    LAST_ID,
    NEW,
    OFFSET,
    PUT_OFFSET,
    ROWS_AT_ONCE,
    STEP,
)

__all__ = ["first_offset", "insert", "put_offset", "transaction"]

_Row = tuple[object, ...]


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the lock for writing from the start; commit at the end, or roll back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself rolls back after some errors.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def insert(connection: sqlite3.Connection, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None) -> int:
    """Take the step of `checkpoint`, insert what is new of `leads` and count it in the contacts; returns how many.

    Raises:
        Fenced, RecordsRejected: as `Sink.write`. The transaction must be rolled back.
    """
    if checkpoint is not None:
        _step(connection, checkpoint)
    written_at = _utc(datetime.now(UTC))
    rows = [_row(accepted, written_at) for accepted in leads]
    connection.execute("SAVEPOINT batch")
    try:
        return _insert(connection, leads, rows)
    except (sqlite3.IntegrityError, sqlite3.DataError):
        _undo(connection, "batch")
        if reasons := _rejected(connection, leads, rows):
            raise RecordsRejected(reasons) from None
        raise


def first_offset(connection: sqlite3.Connection, lane: Lane, start: StreamOffset) -> StreamOffset:
    """Where `lane` stands, which is at `start` when it has not been here before."""
    connection.execute(ADD_OFFSET, (*lane, *_offset_row(start)))
    found = _offset(connection, lane)
    assert found is not None
    return found


def put_offset(connection: sqlite3.Connection, lane: Lane, at: StreamOffset) -> None:
    """Put `lane` at `at`."""
    connection.execute(PUT_OFFSET, (*lane, *_offset_row(at)))


def _step(connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
    step = connection.execute(STEP, (*_offset_row(checkpoint.after), *checkpoint.lane, checkpoint.position))
    if step.rowcount == 0:
        raise Fenced(_offset(connection, checkpoint.lane))


def _offset(connection: sqlite3.Connection, lane: Lane) -> StreamOffset | None:
    row = connection.execute(OFFSET, lane).fetchone()
    if row is None:
        return None
    next_offset, log_id, *last = row
    return StreamOffset(next_offset, log_id, None if last[0] is None else Mark(*last))


def _offset_row(at: StreamOffset) -> _Row:
    return at.next_offset, at.log_id, *(at.last or (None, None, None))


def _insert(connection: sqlite3.Connection, leads: Sequence[AcceptedLead], rows: Sequence[_Row]) -> int:
    (last_id,) = connection.execute(LAST_ID).fetchone()
    count = _in_few_statements(connection, INSERTS, rows)
    if count < len(leads):
        places = set(connection.execute(NEW, (last_id,)))
        leads = [accepted for accepted in leads if (accepted.partition, accepted.offset) in places]
    _in_few_statements(connection, CONTACTS, [_contact_row(contact) for contact in submissions(leads)])
    return count


def _in_few_statements(connection: sqlite3.Connection, statements: Mapping[int, str], rows: Sequence[_Row]) -> int:
    """Execute `statements`, by how many rows they take, with all `rows`; returns how many they changed.

    A step of a statement runs without the interpreter lock, and has to wait for it afterwards: with a row for each step
    the writer would queue behind the event loop a thousand times for a batch.
    """
    start = changed = 0
    for count in ROWS_AT_ONCE:
        while len(rows) - start >= count:
            values = list(chain.from_iterable(rows[start : start + count]))
            changed += connection.execute(statements[count], values).rowcount
            start += count
    return changed


def _rejected(connection: sqlite3.Connection, leads: Sequence[AcceptedLead], rows: Sequence[_Row]) -> dict[int, str]:
    """Which rows a constraint refuses, and its SQLite name."""
    reasons: dict[int, str] = {}
    for index, row in enumerate(rows):
        connection.execute("SAVEPOINT record")
        try:
            _insert(connection, leads[index : index + 1], [row])
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            # The name only: the message of a constraint or trigger may quote the record.
            reasons[index] = error.sqlite_errorname
            _undo(connection, "record")
        connection.execute("RELEASE record")
    return reasons


def _undo(connection: sqlite3.Connection, savepoint: str) -> None:
    """Go back to `savepoint`. A trigger can roll back all of the transaction; it will be, so go on in another."""
    if not connection.in_transaction:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"SAVEPOINT {savepoint}")
    connection.execute(f"ROLLBACK TO {savepoint}")


def _row(accepted: AcceptedLead, written_at: str) -> _Row:
    lead = accepted.lead
    return (
        lead.tenant,
        lead.message_id,
        accepted.contact,
        lead.email,
        lead.phone,
        lead.name,
        lead.company,
        lead.source,
        lead.campaign,
        None if lead.captured_at is None else _utc(lead.captured_at),
        msgspec.json.encode(lead.fields).decode(),
        accepted.partition,
        accepted.offset,
        written_at,
    )


def _contact_row(contact: Contact) -> _Row:
    first = _utc_ms(contact.first_seen_ms)
    last = first if contact.last_seen_ms == contact.first_seen_ms else _utc_ms(contact.last_seen_ms)
    return contact.tenant, contact.address, first, last, contact.submissions, contact.name, contact.company


def _utc_ms(time_ms: int) -> str:
    # Not as a float, which rounds.
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}000Z"


@lru_cache(maxsize=256)
def _second(time_s: int) -> str:
    # The leads of a batch share it, and making the text of a time is a third of what a contact costs.
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds")[: -len("+00:00")]


def _utc(time: datetime) -> str:
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return time.isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"
