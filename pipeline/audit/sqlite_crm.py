"""A SQLite CRM, read beside its workers: in WAL mode readers and writers do not wait for each other."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

from pipeline.audit.crm import COUNTERS, OFFSETS, ROWS_AT_ONCE, Row, Snapshot, StoredOffset
from pipeline.audit.outcome import WrongCounter
from pipeline.inspection.errors import Unavailable

__all__ = ["SQLiteCRM"]

#: For a lock, which only those hold who bring tables up to date or close the database.
PATIENCE_S = 10.0


class SQLiteCRM:
    """The database at `path`. One that is not there is not made."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def offsets(self, group: str, topic: str) -> dict[int, StoredOffset] | None:
        """See `CRM.offsets`."""
        if not self._is_there():
            return None
        with self._translated(), closing(self._connect()) as connection:
            if not _has_tables(connection):
                return None
            found = connection.execute(OFFSETS.format("?", "?"), (group, topic)).fetchall()
        return {number: StoredOffset(*at) for number, *at in found}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[SQLiteSnapshot]:
        """See `CRM.snapshot`."""
        if not self._is_there():
            yield SQLiteSnapshot(None)
            return
        with self._translated(), closing(self._connect()) as connection:
            # In this mode a transaction sees the database as it is at its first statement, to its end.
            connection.execute("BEGIN")
            yield SQLiteSnapshot(connection if _has_tables(connection) else None)

    def _is_there(self) -> bool:
        try:
            return self._path.exists()
        except OSError:
            return True  # and why it cannot be looked at, the attempt to open it says

    def _connect(self) -> sqlite3.Connection:
        # The sort of all rows runs in a thread of its own.
        return sqlite3.connect(
            f"{self._path.as_uri()}?mode=ro",
            uri=True,
            timeout=PATIENCE_S,
            isolation_level=None,
            check_same_thread=False,
        )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            raise Unavailable(f"The CRM {self._path} cannot be read: {name}. See `leads check-sink`.") from None


class SQLiteSnapshot(Snapshot):
    """See `Snapshot`; with None that of a database without rows."""

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        self._connection = connection

    async def wrong_counters(self) -> AsyncIterator[WrongCounter]:
        """See `Snapshot.wrong_counters`."""
        if self._connection is None:
            return
        cursor = await self._sorted(self._connection)
        for tenant, submissions, rows, message_id in cursor:
            yield WrongCounter(tenant, message_id, submissions, rows)

    async def _sorted(self, connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
        def sort() -> Iterator[tuple[Any, ...]]:
            cursor = connection.execute(COUNTERS)
            first = cursor.fetchone()  # all the work is before it
            return iter([] if first is None else [first, *cursor])

        try:
            return await asyncio.to_thread(sort)
        except asyncio.CancelledError:
            connection.interrupt()
            raise

    async def select(self, sql: str) -> AsyncIterator[Sequence[Row]]:
        """See `Snapshot.select`."""
        if self._connection is None:
            return
        cursor = self._connection.execute(sql)
        while some := cursor.fetchmany(ROWS_AT_ONCE):
            yield some
            await asyncio.sleep(0)  # Ctrl-C


def _has_tables(connection: sqlite3.Connection) -> bool:
    (count,) = connection.execute(
        "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('lead', 'contact', 'stream_offset')"
    ).fetchone()
    return bool(count == 3)
