"""What every worker does about the spool: look at it, and send what is in it, whoever has the turn.

What is sent and not deleted yet is sent again after a crash. That is harmless: a message id that comes twice is
written once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mode import Service, get_logger

from pipeline.batches import Watched
from pipeline.spool import SpoolError, SpoolWriter, Turn, Waiting, holds, look, translated
from pipeline.web.publisher import TopicPublisher
from pipeline.web.spool_sending import SpoolSending

__all__ = ["SpoolService"]

logger = get_logger(__name__)

#: Between two looks at the spool, and after a failure.
LOOK_S = 1.0


class SpoolService(Watched):
    """The spool of a worker: what is to be known of it, and that it is sent.

    Arguments:
        app: The app of this worker.
        path: The file; there need be none.
        writer: What writes to it in this worker, None where nothing is spooled.
        publisher: To be told when the broker acknowledges.
        sending: How what is in it is sent.
    """

    def __init__(
        self, app: Any, path: Path, writer: SpoolWriter | None, publisher: TopicPublisher, sending: SpoolSending
    ) -> None:
        self.app = app
        self._path = path
        self._writer = writer
        self._publisher = publisher
        self._sending = sending
        self._turn = Turn(path)
        #: As of the last look, and what it found if the broker was away then.
        self._waiting = Waiting()
        self._while_away: Waiting | None = None
        #: Why it cannot be read, and why it cannot be sent.
        self._flaws: dict[str, str] = {}
        super().__init__(beacon=app.beacon)

    def shown(self) -> dict[str, Any]:
        """For `/readyz`: as of the last look, so that nobody asks the disk for each probe."""
        found: dict[str, Any] = {"depth": self._waiting.depth, "age_s": round(self._waiting.age_s, 1)}
        flaws = [*self._flaws.values()]
        if self._writer is not None and self._writer.flaw and self._publisher.is_away:
            flaws.append(self._writer.flaw)
        return {"spool": {**found, "problem": flaws[0]} if flaws else found}

    async def holds(self, key: bytes) -> bool:
        """Whether a lead with this record key waits in the spool. Raises `SpoolError`."""
        return await asyncio.to_thread(holds, self._path, key)

    async def on_stop(self) -> None:
        """Let what waits for the writer be written: whoever sent it may still be there."""
        if self._writer is not None:
            await self._writer.close()

    @Service.task
    async def _look_on(self) -> None:
        while not self.should_stop:
            async with self._usable_for("looking"):
                self._waiting = await asyncio.to_thread(look, self._path)
                self._see_progress(self._waiting)
            await self.sleep(LOOK_S)

    def _see_progress(self, now: Waiting) -> None:
        """When the oldest lead has left since the last look, a worker has had an acknowledgement, whichever it was. A
        spool that stays empty says as much as one: there is nothing by which to find out but the next lead.
        """
        before = self._while_away
        if before is not None and (now.head is None or (before.head is not None and now.head != before.head)):
            self._publisher.returned()
        self._while_away = now if self._publisher.is_away else None

    @Service.task
    async def _send_on(self) -> None:
        while not self.should_stop:
            async with self._usable_for("sending"):
                await self._send_in_turn()
            await self.sleep(LOOK_S)

    async def _send_in_turn(self) -> None:
        with translated():
            is_there = self._path.exists()
        if not (is_there and self._turn.take()):
            return
        try:
            await self._sending.send_all()
        finally:
            self._turn.pass_on()

    @asynccontextmanager
    async def _usable_for(self, what: str) -> AsyncIterator[None]:
        """For something that may find that the spool cannot be used: said once, and shown until it can again."""
        try:
            yield
        except SpoolError as error:
            if what not in self._flaws:
                logger.error("The spool cannot be used for %s: %s", what, error)
            self._flaws[what] = str(error)
            if what == "looking" and self._publisher.is_away:
                # By nothing else than the next lead can be found out whether the broker is back.
                self._publisher.returned()
        else:
            self._flaws.pop(what, None)
