"""Sends leads until the worker has every one of them, or has accepted nothing for too long.

Leads are dealt out to lanes by their message id, and a lane has one request on its way. So the leads of one id arrive
in the order of the file, and of two that differ the first one stays, also when whole requests must be sent again.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar
from zlib import crc32

from pipeline.lead import key
from pipeline.sending.client import Client, Item, Unavailable, Verdict
from pipeline.sending.entry import FileError, Numbered, Refused
from pipeline.sending.tally import Tally

__all__ = ["GaveUp", "Sender"]

LANES = 4
#: Far below what a worker takes (1,000 leads, 8 MiB): its other clients wait meanwhile.
BATCH_MAX_LEADS = 200
BATCH_SIZE_MAX_BYTES = 1024 * 1024
READ_AT_ONCE_LINES = 200

BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 10.0
#: Lanes that were turned away together come back one after the other, and never before they may.
JITTER = 0.25

_T = TypeVar("_T")


class GaveUp(Exception):
    """The worker has accepted nothing for as long as one was ready to wait; the text says why."""


@dataclass
class _Lane:
    """What is to be sent next, and what is being collected behind it: two batches at most, and one on its way."""

    batches: asyncio.Queue[list[Item] | None] = field(default_factory=lambda: asyncio.Queue(1))
    batch: list[Item] = field(default_factory=list)
    size_bytes: int = 0
    is_waiting: bool = False

    async def put(self, item: Item) -> None:
        if len(self.batch) == BATCH_MAX_LEADS or self.size_bytes + len(item.body) > BATCH_SIZE_MAX_BYTES:
            await self.flush()
        self.batch.append(item)
        self.size_bytes += len(item.body) + 1

    async def flush(self) -> None:
        if self.batch:
            await self.batches.put(self.batch)
        self.batch, self.size_bytes = [], 0


class Sender:
    """Sends the leads of one file.

    Arguments:
        client: asks the worker.
        tally: counts.
        say: takes a line for the user.
        moved: called when something was read or accepted.
        patience_s: gives up when nothing was accepted for so long.
        sleep, clock: asyncio's and monotonic time, in seconds.
    """

    def __init__(
        self,
        client: Client,
        tally: Tally,
        *,
        say: Callable[[str], None],
        moved: Callable[[], None],
        patience_s: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._tally = tally
        self._say = say
        self._moved = moved
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock
        self._patient_since_s = 0.0
        self._lanes = [_Lane() for _ in range(LANES)]

    async def send(self, entries: Iterator[Numbered | Refused]) -> None:
        """Send all leads, and say what is refused. What was accepted is in the tally, also when this raises.

        Raises:
            GaveUp: the worker has accepted nothing for `patience_s`.
            NotAccepting: it does not take leads.
            FileError: what came before has been sent.
        """
        reading = asyncio.create_task(self._read(entries))
        tasks = [reading, *(asyncio.create_task(self._run(lane)) for lane in self._lanes)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if failure := reading.result():
            raise failure

    async def _read(self, entries: Iterator[Numbered | Refused]) -> FileError | None:
        """Deal out what is read to the lanes; returns what is wrong with the file."""
        failure = None
        while failure is None:
            chunk, failure = await _in_thread(lambda: _chunk(entries))
            if not chunk:
                break
            for entry in chunk:
                await self._deal(entry)
            self._moved()
        for lane in self._lanes:
            await lane.flush()
            await lane.batches.put(None)
        return failure

    async def _deal(self, entry: Numbered | Refused) -> None:
        if isinstance(entry, Refused):
            self._refuse(entry)
        else:
            await self._lanes[crc32(key(entry.lead)) % LANES].put(Item.of(entry.line, entry.lead))

    async def _run(self, lane: _Lane) -> None:
        while batch := await lane.batches.get():
            await self._deliver(lane, batch)

    async def _deliver(self, lane: _Lane, batch: Sequence[Item]) -> None:
        backoff_s = BACKOFF_MIN_S
        while batch:
            left, reason, retry_after_s = await self._try(batch)
            if len(left) < len(batch):
                backoff_s = BACKOFF_MIN_S
                self._succeeded(lane)
            elif not lane.is_waiting:
                self._failed(lane, reason)
            if left:
                await self._wait(reason, backoff_s, retry_after_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            batch = left

    async def _try(self, batch: Sequence[Item]) -> tuple[Sequence[Item], str, float]:
        """Post a batch; returns what is to be sent again, why, and for how long not yet."""
        try:
            answer = await self._client.post(batch)
        except Unavailable as error:
            return batch, str(error), error.retry_after_s
        return self._take(batch, answer.verdicts), "the broker does not acknowledge in time", answer.retry_after_s

    def _take(self, batch: Sequence[Item], verdicts: Sequence[Verdict]) -> list[Item]:
        """Count what is decided; returns what is to be sent again."""
        left = list[Item]()
        for item, verdict in zip(batch, verdicts, strict=True):
            if verdict.status == 202:
                self._tally.accept(item.lead)
            elif verdict.status == 503:
                left.append(item)
            else:
                self._refuse(Refused(item.line, verdict.reason))
        return left

    def _refuse(self, refused: Refused) -> None:
        self._tally.refused += 1
        self._say(str(refused))

    def _failed(self, lane: _Lane, reason: str) -> None:
        if not any(other.is_waiting for other in self._lanes):
            # From now on: before, there may have been nothing to send for hours.
            self._patient_since_s = self._clock()
            self._say(f"{self._client.shown_url}: {reason}. Trying again for up to {self._patience_s:g} s.")
        lane.is_waiting = True

    def _succeeded(self, lane: _Lane) -> None:
        self._patient_since_s = self._clock()
        self._moved()
        if lane.is_waiting:
            lane.is_waiting = False
            if not any(other.is_waiting for other in self._lanes):
                self._say(f"{self._client.shown_url} accepts leads again.")

    async def _wait(self, reason: str, backoff_s: float, retry_after_s: float) -> None:
        remaining_s = self._patient_since_s + self._patience_s - self._clock()
        if remaining_s <= 0 or retry_after_s > remaining_s:
            raise GaveUp(f"{self._client.shown_url}: {reason}. Nothing was accepted for {self._patience_s:g} s")
        wanted_s = max(backoff_s, retry_after_s) * random.uniform(1, 1 + JITTER)
        # The last try is at the end of the patience, not before it.
        await self._sleep(max(retry_after_s, min(wanted_s, remaining_s)))


def _chunk(entries: Iterator[Numbered | Refused]) -> tuple[list[Numbered | Refused], FileError | None]:
    """The next entries, none at the end, and what keeps the file from being read further."""
    chunk = list[Numbered | Refused]()
    try:
        chunk.extend(islice(entries, READ_AT_ONCE_LINES))
    except FileError as error:
        return chunk, error
    return chunk, None


async def _in_thread(function: Callable[[], _T]) -> _T:
    """The result of a function that may block for ever, such as one that reads a terminal.

    Not `asyncio.to_thread`: the end of the program would wait for it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def run() -> None:
        result, error = None, None
        try:
            result = function()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
