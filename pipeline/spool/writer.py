"""Leads into the spool. One thread writes; all that wait when it begins go into one transaction."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import msgspec

from pipeline.spool.file import Connection, Headers, Identity, SpoolError, connect, identity, transaction, translated

__all__ = ["SpoolWriter", "Tell"]

logger = logging.getLogger(__name__)

#: Called with None once the lead is on the disk, else with why it is not.
Tell = Callable[[Exception | None], None]

#: What may wait for the thread: with more, the disk is slower than what comes.
WAITING_MAX_BYTES = 32 * 1024 * 1024
#: One transaction: those behind it are not to wait for too long, and the log is to stay small.
GROUP_MAX_LEADS = 2000
GROUP_MAX_BYTES = 4 * 1024 * 1024
#: Rows of one statement: sqlite3 gives the interpreter away for each statement, and has to get it back.
ROWS_AT_ONCE = (500, 50, 5, 1)
CLOSE_MAX_S = 2.0

_INSERTS = {
    count: f"INSERT INTO lead (key, value, headers, spooled_at_ms) VALUES {', '.join(['(?, ?, ?, ?)'] * count)}"
    for count in ROWS_AT_ONCE
}
_NO_HEADERS = msgspec.msgpack.encode([])


class _Entry(NamedTuple):
    key: bytes
    value: bytes
    headers: bytes
    tell: Tell

    @property
    def size_bytes(self) -> int:
        return len(self.key) + len(self.value) + len(self.headers)


class SpoolWriter:
    """Writes to the spool at `path`, which is made when the first lead comes. Of one event loop.

    Arguments:
        path: the file.
        max_bytes: how large it may become.
        waiting_max_bytes: how much may wait to be written.
    """

    def __init__(self, path: Path, *, max_bytes: int, waiting_max_bytes: int = WAITING_MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._waiting_max_bytes = waiting_max_bytes
        self._waiting_bytes = 0
        #: Why the last transaction failed; None: it did not.
        self.flaw: str | None = None
        self._queue: SimpleQueue[_Entry | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # From here on: only touched by the thread.
        self._connection: Connection | None = None
        self._opened: Identity | None = None

    def put(self, key: bytes, value: bytes, headers: Headers, tell: Tell) -> None:
        """Write a lead. `tell` is called once and later: with None when it is on the disk, or with the reason why not,
        a `SpoolError`, or a bug.
        """
        entry = _Entry(key, value, msgspec.msgpack.encode([*headers]) if headers else _NO_HEADERS, tell)
        if self._loop is None:
            try:
                self._loop = self._started()
            except RuntimeError:
                asyncio.get_running_loop().call_soon(tell, SpoolError("no thread can be started"))
                return
        if self._waiting_bytes + entry.size_bytes > self._waiting_max_bytes:
            self._loop.call_soon(tell, SpoolError("too much waits to be written"))
            return
        self._waiting_bytes += entry.size_bytes
        self._queue.put(entry)

    async def close(self) -> None:
        """Write what waits, then end the thread; a disk that hangs is not waited for."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join, CLOSE_MAX_S)
            self._thread = self._loop = None

    def _started(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, args=(loop,), name="spool-writer", daemon=True)
        thread.start()
        self._thread = thread
        return loop

    def _told(self, group: Sequence[_Entry], error: Exception | None) -> None:
        if error is not None and self.flaw is None:
            logger.error(
                "The spool takes no leads: %s", error if isinstance(error, SpoolError) else type(error).__name__
            )
        self.flaw = None if error is None else str(error)
        for entry in group:
            self._waiting_bytes -= entry.size_bytes
            entry.tell(error)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        group: list[_Entry] = []
        while self._collect(group):
            error = self._written(group)
            loop.call_soon_threadsafe(self._told, group, error)
            group = []
        self._disconnect()

    def _collect(self, group: list[_Entry]) -> bool:
        """Wait for an entry, and take what waits behind it; False when it is over."""
        entry = self._queue.get()
        size_bytes = 0
        while entry is not None:
            group.append(entry)
            size_bytes += entry.size_bytes
            if len(group) >= GROUP_MAX_LEADS or size_bytes >= GROUP_MAX_BYTES:
                return True
            try:
                entry = self._queue.get_nowait()
            except Empty:
                return True
        if group:
            self._queue.put(None)  # for the next time
        return bool(group)

    def _written(self, group: Sequence[_Entry]) -> Exception | None:
        try:
            with translated():
                self._write(group)
        except Exception as error:  # told to those who wait, who raise what they do not know
            self._disconnect()
            return error
        return None

    def _write(self, group: Sequence[_Entry]) -> None:
        now_ms = int(time.time() * 1000)
        with transaction(self._connected()) as connection:
            for part in _parts(group):
                values = [value for one in part for value in (one.key, one.value, one.headers, now_ms)]
                connection.execute(_INSERTS[len(part)], values)
            connection.execute("UPDATE tally SET depth = depth + ?", (len(group),))

    def _connected(self) -> Connection:
        # What is written to a file that somebody has removed is lost.
        if self._connection is None or identity(self._path) != self._opened:
            self._disconnect()
            self._connection = connect(self._path, max_bytes=self._max_bytes)
            self._opened = identity(self._path)
        return self._connection

    def _disconnect(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _parts(group: Sequence[_Entry]) -> Iterator[Sequence[_Entry]]:
    start = 0
    for count in ROWS_AT_ONCE:
        while len(group) - start >= count:
            yield group[start : start + count]
            start += count
