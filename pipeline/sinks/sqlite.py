"""The default CRM: one SQLite file, which every worker of a machine may write.

One thread owns the connection that writes, so that the event loop never waits for a disk. A cancelled `write` leaves
its transaction to that thread, which commits it or rolls it back; the next call queues behind it. Another thread reads.
"""

from __future__ import annotations

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from pipeline.sinks.base import AcceptedLead, Checkpoint, Lane, SinkUnavailable, SinkUnusable, StreamOffset, WrittenLead
from pipeline.sinks.sqlite_rows import first_offset, insert, put_offset, transaction
from pipeline.sinks.sqlite_schema import FIND, create

__all__ = ["SQLiteSink"]

#: Long enough for the batches of other workers, which take turns; for the rest the delivery waits: it backs off, and
#: can be told to let go.
BUSY_TIMEOUT_MS = 1000
CACHE_SIZE_KIB = 64 * 1024
#: Pages of 4 KiB in the log before they are copied to the database: 40 MiB.
CHECKPOINT_PAGES = 10_000

#: What passes by itself, or when somebody makes room or repairs a disk. Everything else is a bug, ours or the schema's.
_UNAVAILABLE = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    )
)
#: A file that is no database or a damaged one, and an unknown table or column.
_UNUSABLE = frozenset((sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR))
_CONTENDED = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))

_Result = TypeVar("_Result")
#: Device and inode of a file, or None where there is none.
_Identity = tuple[int, int] | None


class SQLiteSink:
    """Writes leads to the file at `path`, which is created where it is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._log = self._path.with_name(self._path.name + "-wal")
        self._writer: ThreadPoolExecutor | None = None
        self._reader: ThreadPoolExecutor | None = None
        # From here on: only touched by the writer thread.
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[_Identity, _Identity] = (None, None)

    async def open(self) -> None:
        """See `Sink.open`. `write` does it again by itself when the file was replaced."""
        await self._in_writer(self._connected)

    async def offsets(self, starts: Mapping[Lane, StreamOffset]) -> dict[Lane, StreamOffset]:
        """See `Sink.offsets`."""
        return await self._in_writer(lambda: self._offsets(starts))

    async def put_offset(self, lane: Lane, at: StreamOffset) -> None:
        """See `Sink.put_offset`."""
        await self._in_writer(lambda: self._put_offset(lane, at))

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        """See `Sink.write`. One transaction, on the disk when this returns (`synchronous=FULL`)."""
        return await self._in_writer(lambda: self._write(leads, checkpoint))

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """See `Sink.find`."""
        if self._reader is None:
            self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-reader")
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._find, tenant, message_id)

    async def close(self) -> None:
        """See `Sink.close`."""
        if self._writer is not None:
            await self._in_writer(self._leave)
            self._writer.shutdown(wait=False)
            self._writer = None
        if self._reader is not None:
            self._reader.shutdown(wait=False)
            self._reader = None

    async def _in_writer(self, call: Callable[[], _Result]) -> _Result:
        if self._writer is None:
            self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-writer")
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._in_thread, call)

    def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        with _translated(on_broken=self._disconnect):
            return call()

    def _find(self, tenant: str, message_id: str) -> WrittenLead | None:
        # A connection for each question: it costs a tenth of a millisecond, and always sees the file that is there.
        with _translated(), closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as connection:
            try:
                row = connection.execute(FIND, (tenant, message_id)).fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                    raise
                # Another worker makes the tables right now, or brings them up to date. Whoever writes says it if not.
                raise SinkUnavailable("the tables are not there yet") from None
        return None if row is None else WrittenLead(str(row[0]), datetime.fromisoformat(row[1]))

    def _write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None) -> int:
        connection = self._connected()
        with transaction(connection):
            new = insert(connection, leads, checkpoint)
        if self._has_moved():
            # Committed to a file that nobody may find again: write it again, to the one that is there.
            self._leave_moved(connection)
            raise SinkUnavailable("the database file was replaced during a write")
        return new

    def _offsets(self, starts: Mapping[Lane, StreamOffset]) -> dict[Lane, StreamOffset]:
        connection = self._connected()
        with transaction(connection):
            return {lane: first_offset(connection, lane, start) for lane, start in starts.items()}

    def _put_offset(self, lane: Lane, at: StreamOffset) -> None:
        connection = self._connected()
        with transaction(connection):
            put_offset(connection, lane, at)

    def _connected(self) -> sqlite3.Connection:
        """The connection, to the file that is at the path now."""
        if self._connection is not None and self._has_moved():
            self._leave_moved(self._connection)
        if self._connection is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if _identity(self._path) is None:
                if self._log.exists() and self._log.stat().st_size:
                    raise SinkUnavailable(f"{self._path.name} is gone and {self._log.name}, which has rows, is there")
                # Twice, because only a file that was there before and is the same after is surely the one opened.
                self._connect().close()
            before = _identity(self._path)
            self._connection = self._connect()
            self._opened = self._identities()
            if self._opened[0] is None or self._opened[0] != before:
                self._disconnect()
                raise SinkUnavailable("the database file was replaced while it was opened")
        return self._connection

    def _leave_moved(self, connection: sqlite3.Connection) -> None:
        """Leave a file that is no longer at its path, with everything that was committed to it.

        What is committed may still be in the log alone, which stays at the path; SQLite itself does not copy it when it
        closes a moved database, and removes it when it makes a new one there.
        """
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise SinkUnavailable("the database file was moved while others write to it")
        self._disconnect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # Message ids need not come in order. With SQLite's 2 MiB and a checkpoint every 4 MiB, random ones are
            # written several times over.
            connection.execute(f"PRAGMA cache_size = -{CACHE_SIZE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            create(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _leave(self) -> None:
        if self._connection is not None and self._has_moved():
            self._leave_moved(self._connection)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _has_moved(self) -> bool:
        return self._identities() != self._opened

    def _identities(self) -> tuple[_Identity, _Identity]:
        # The log too: what is committed may be nowhere else yet. While a connection is open nobody may replace it.
        return _identity(self._path), _identity(self._log)


@contextmanager
def _translated(on_broken: Callable[[], None] = lambda: None) -> Iterator[None]:
    """What passes by itself becomes SinkUnavailable; what is no database of ours, SinkUnusable."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # SQLITE_BUSY of SQLITE_BUSY_SNAPSHOT
        if code in _UNUSABLE:
            on_broken()
            raise SinkUnusable(str(error)) from None  # names of tables and columns at most
        if code not in _UNAVAILABLE:
            raise
        if code not in _CONTENDED:
            # After an I/O error trust nothing of this connection, its descriptors included.
            on_broken()
        raise SinkUnavailable(error.sqlite_errorname) from None
    except OSError as error:
        raise SinkUnavailable(errno.errorcode.get(error.errno or 0, "OSError")) from None


def _identity(path: Path) -> _Identity:
    # By name and never by opening it: closing a second descriptor would drop the locks that SQLite holds on the file.
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
