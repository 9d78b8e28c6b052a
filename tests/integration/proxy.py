"""A TCP proxy that cuts connections: all of them, or one just before an answer would come back."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType

from pipeline.embedded import free_port


class Proxy:
    """Passes bytes on between `port` of this machine and `target`, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        #: Answers that get lost: the bytes are dropped, and the connection is cut.
        self.answers_to_lose = 0
        self.answers_lost = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._writers: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Proxy:
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
            while piece := await reader.read(65536):
                # Not the first answers of a connection, which are about who it is.
                if are_answers and asked and self.answers_to_lose > 0 and b"SELECT 1" in piece:
                    self.answers_to_lose -= 1
                    self.answers_lost += 1
                    return
                asked = True
                writer.write(piece)
                await writer.drain()
        except OSError:
            return
