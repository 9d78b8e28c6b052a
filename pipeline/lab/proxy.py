"""A TCP proxy that delays what it passes on, cuts connections, passes nothing on, or loses answers."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from pipeline.embedded import free_port

__all__ = ["Proxy"]

PIECE_BYTES = 65536
#: How often a held piece looks whether it may go on.
HELD_POLL_S = 0.02


class Proxy:
    """Passes bytes on between `port` of this machine and `target`, in a thread of its own.

    Args:
        target: a port of this machine.
        port: where to listen; default: a free one.
    """

    def __init__(self, target: int, *, port: int | None = None) -> None:
        self.port = port or free_port()
        #: How long each piece waits before it is passed on, both ways; what follows waits behind it.
        self.delay_s = 0.0
        #: While it is true nothing is passed on, and connections stay open, as in a network that drops packets.
        self.holds = False
        #: Answers that get lost: the bytes are dropped, and the connection is cut. Only those of PostgreSQL's to the
        #: statement of a batch.
        self.answers_to_lose = 0
        self.answers_lost = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def cut(self) -> None:
        """Cut all connections, as a firewall would that forgets them."""
        self._loop.call_soon_threadsafe(self._cut)

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there_writer}
        self._writers |= ends
        try:
            ways = [self._pass_on(reader, there_writer), self._pass_on(there_reader, writer, are_answers=True)]
            await asyncio.wait(map(asyncio.ensure_future, ways), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, are_answers: bool = False
    ) -> None:
        asked = False
        try:
            while piece := await reader.read(PIECE_BYTES):
                # Not the first answers of a connection, which are about who it is.
                if are_answers and asked and self.answers_to_lose > 0 and b"SELECT 1" in piece:
                    self.answers_to_lose -= 1
                    self.answers_lost += 1
                    return
                asked = True
                await self._wait()
                writer.write(piece)
                await writer.drain()
        except OSError:
            return

    async def _wait(self) -> None:
        if self.delay_s > 0:
            await asyncio.sleep(self.delay_s)
        while self.holds:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(HELD_POLL_S)
