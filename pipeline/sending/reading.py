"""Entries of a file read ahead in a thread, and taken as they come: nobody waits for a chunk to be full."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress

from pipeline.sending.entry import Numbered, Refused

__all__ = ["AHEAD_MAX_ENTRIES", "Reading"]

AHEAD_MAX_ENTRIES = 200


class Reading:
    """The entries of one file. Its thread may block for ever, such as at a terminal where nobody types.

    Not `asyncio.to_thread`: the end of the program would wait for it.
    """

    def __init__(self, entries: Iterator[Numbered | Refused]) -> None:
        self._entries = entries
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._room = threading.Condition()
        # From here on: under the lock of `_room`.
        self._ahead: list[Numbered | Refused] = []
        self._end: Exception | None = None
        self._is_over = False
        threading.Thread(target=self._run, daemon=True).start()

    async def chunk(self) -> list[Numbered | Refused]:
        """What has been read since the last call, one entry or more; none at the end.

        May be cancelled; nothing is lost then.

        Raises:
            FileError: the file cannot be read further; what came before has been returned.
        """
        await self._arrived.wait()
        with self._room:
            chunk, self._ahead = self._ahead, []
            if not self._is_over:
                self._arrived.clear()
            self._room.notify()
            if not chunk and self._end is not None:
                raise self._end
        return chunk

    def close(self) -> None:
        """Read no more."""
        with self._room:
            self._is_over = True
            self._room.notify()

    def _run(self) -> None:
        end = None
        try:
            for entry in self._entries:
                if not self._put(entry):
                    return
        except Exception as error:  # raised again by `chunk`, whether it is the file's or a bug
            end = error
        with self._room:
            self._end, self._is_over = end, True
        self._tell()

    def _put(self, entry: Numbered | Refused) -> bool:
        """Whether more is to be read."""
        with self._room:
            self._room.wait_for(lambda: len(self._ahead) < AHEAD_MAX_ENTRIES or self._is_over)
            self._ahead.append(entry)
            is_over, is_first = self._is_over, len(self._ahead) == 1
        if is_first:
            self._tell()
        return not is_over

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._arrived.set)
