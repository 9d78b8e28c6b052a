"""What lies in the spool, for whoever sends it: the oldest first, and out when it is sent. Of one thread."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.spool.file import (
    Connection,
    Headers,
    Identity,
    SpoolError,
    connect,
    identity,
    queued,
    transaction,
    translated,
)

__all__ = ["Backlog", "Spooled"]

#: What is read at once, and fits into one record batch.
CHUNK_MAX_LEADS = 500
CHUNK_SIZE_MAX_BYTES = 256 * 1024

# In one row: for each that it hands over, sqlite3 gives the interpreter away and waits until the event loop, which may
# be busy, lets go of it again. The last lead may exceed the bound, which is far below that of a record batch. The sizes
# are added up without the leads, which SQLite would put into a temporary file for it.
_READ = """
SELECT json_group_array(json_array(id, hex(key), hex(value), hex(headers))) FROM lead
WHERE id > ?1 AND id <= (SELECT max(id) FROM (
    SELECT id, size_bytes, sum(size_bytes) OVER (ORDER BY id) AS until_bytes
    FROM (SELECT id, length(value) AS size_bytes FROM lead WHERE id > ?1 ORDER BY id LIMIT ?2)
) WHERE until_bytes - size_bytes < ?3)
"""
_LAST = "SELECT coalesce(max(id), 0) FROM lead"
#: Freed by one statement: others write in between.
VACUUM_PAGES = 2000
_DELETE = "DELETE FROM lead WHERE id IN (SELECT value FROM json_each(?))"

_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


class Spooled(NamedTuple):
    """A lead in the spool."""

    id: int
    key: bytes
    value: bytes
    headers: Headers


class Backlog:
    """The leads in the spool at `path`. All methods raise `SpoolError`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = path.with_name(f"{path.name}-wal")
        self._connection: Connection | None = None
        self._opened: Identity | None = None

    def last(self) -> int:
        """The id of the newest lead, 0 where there is none. From here on it is this file that is read."""
        with translated():
            if not self._path.exists():
                return 0
            [last] = self._connected().execute(_LAST).fetchone()
        return int(last)

    def read(self, after: int) -> list[Spooled]:
        """The next leads behind the id `after`, in their order; none when there is none, or no spool, or when another
        file is there now, where ids mean other leads.
        """
        with translated():
            if not self._path.exists() or (after and not self._is_open):
                return []
            [text] = self._connected().execute(_READ, (after, CHUNK_MAX_LEADS, CHUNK_SIZE_MAX_BYTES)).fetchone()
        try:
            return [
                Spooled(number, bytes.fromhex(key), bytes.fromhex(value), _headers.decode(bytes.fromhex(headers)))
                for number, key, value, headers in sorted(json.loads(text))
            ]
        except (msgspec.MsgspecError, ValueError, TypeError):
            raise SpoolError("a row of it is damaged") from None

    def delete(self, ids: Collection[int]) -> None:
        """Take these out of the file that they were read from, in one transaction; what is not there any more is no
        error.
        """
        with translated():
            if not self._is_open:
                return
            self._delete(ids)

    @property
    def _is_open(self) -> bool:
        return self._connection is not None and identity(self._path) == self._opened

    def _delete(self, ids: Collection[int]) -> None:
        with transaction(self._connected()) as connection:
            deleted = connection.execute(_DELETE, (json.dumps([*ids]),)).rowcount
            connection.execute("UPDATE tally SET depth = depth - ?", (deleted,))

    def tidy(self) -> None:
        """Empty the log, in which there may be leads that are deleted, and give their room back to the disk. While
        others use it that is not possible, and is done the next time.
        """
        with translated():
            if not self._log.exists() or self._log.stat().st_size == 0:
                return
            connection = self._connected()
            while connection.execute("PRAGMA freelist_count").fetchone()[0]:
                # A step of it frees one page, and `execute` takes only one where a statement has no columns.
                with queued(connection):
                    connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None or identity(self._path) != self._opened:
            self.close()
            self._opened = identity(self._path)
            self._connection = connect(self._path)
        return self._connection
