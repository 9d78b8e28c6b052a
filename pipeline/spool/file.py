"""The file of the spool: where it lies, what is in it, and how it is made and opened."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = [
    "Connection",
    "Headers",
    "Identity",
    "SpoolError",
    "connect",
    "identity",
    "queued",
    "reading",
    "spool_path",
    "transaction",
    "translated",
]

#: Of a record: names and values.
Headers = Sequence[tuple[str, bytes]]
#: Device and inode of a file.
Identity = tuple[int, int]

PAGE_SIZE_BYTES = 4096
#: Other workers take turns; whoever waits longer has a disk that hangs.
BUSY_TIMEOUT_S = 2.0

# An id is never given twice: what is deleted by its id is what was sent.
_SCHEMA = f"""
PRAGMA page_size = {PAGE_SIZE_BYTES};
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE lead (
    id            INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order in which they came
    key           BLOB NOT NULL,                     -- of the record: tenant/message id
    value         BLOB NOT NULL,
    headers       BLOB NOT NULL,                     -- msgpack: an array of [name, value]
    spooled_at_ms INTEGER NOT NULL                   -- by the clock of this machine
);
CREATE INDEX lead_key ON lead (key);
CREATE TABLE tally (depth INTEGER NOT NULL); -- rows of `lead`; to count them would take the longer the more there are
INSERT INTO tally VALUES (0);
COMMIT;
"""
_FULL = "it is full, or its disk is (LEADS_SPOOL_MAX_BYTES)"


class SpoolError(Exception):
    """The spool cannot be used right now: it is full, its disk is, or SQLite says something else. The text holds no
    data of any lead.
    """


def spool_path(data_dir: Path) -> Path:
    """Where the spool of a data directory lies, whether it is there or not."""
    return data_dir.absolute() / "spool.sqlite3"


@contextmanager
def translated() -> Iterator[None]:
    """Raise `SpoolError` for what SQLite or the disk says."""
    try:
        yield
    except sqlite3.Error as error:
        # The name and not the text: that of a constraint could hold what was written.
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        raise SpoolError(_FULL if name == "SQLITE_FULL" else f"SQLite says {name}") from error
    except OSError as error:
        raise SpoolError(os.strerror(error.errno or 0)) from error


def identity(path: Path) -> Identity | None:
    """Which file is there now; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class Connection(sqlite3.Connection):
    """A connection for writing, with the lock before which all who write queue up."""

    queue: int = -1

    def close(self) -> None:
        """Let go of the file, and of the lock."""
        super().close()
        if self.queue >= 0:
            os.close(self.queue)
            self.queue = -1


def connect(path: Path, *, max_bytes: int | None = None) -> Connection:
    """A connection for writing, of the thread that uses it first.

    Args:
        path: the file; with `max_bytes` it is made where it is missing.
        max_bytes: how large it may become; a transaction that does not fit fails as if the disk were full.
    """
    if max_bytes is not None and not path.exists():
        _create(path)
    connection = Connection(f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.queue = os.open(path.with_name("spool.queue"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        connection.execute("PRAGMA temp_store = MEMORY")
        # A commit is on the disk when it returns; and of what is deleted nothing stays in the file.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        if max_bytes is not None:
            connection.execute(f"PRAGMA max_page_count = {max(1, max_bytes // PAGE_SIZE_BYTES)}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def queued(connection: Connection) -> Iterator[None]:
    """Write when it is one's turn. SQLite would try again and again, and whoever commits back to back leaves others no
    gap: in the kernel all queue up.
    """
    fcntl.flock(connection.queue, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(connection.queue, fcntl.LOCK_UN)


@contextmanager
def transaction(connection: Connection) -> Iterator[sqlite3.Connection]:
    """Hold the lock for writing from the start; what is in it is on the disk when it is over, or rolled back."""
    with queued(connection):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # SQLite itself rolls back after some errors.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one question."""
    uri = f"{path.as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        yield connection


def _create(path: Path) -> None:
    """Make an empty spool, all at once: nobody ever opens half of one, and of two that make it, one does."""
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size and not path.exists():
        # SQLite would take the log of the old file for that of the new one.
        raise SpoolError(f"{path.name} is gone, and {log.name}, in which there may be leads, is not")
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # its log gets the same mode
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
        _sync(new)
        try:
            os.link(new, path)
        except FileExistsError:
            return
        _sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
