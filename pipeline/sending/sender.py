"""Sends leads until the worker has every one of them, or has accepted nothing for too long.

Leads are dealt out to lanes by their message id, and a lane has one request on its way. So the leads of one id arrive
in the order of the file, and of two that differ the first one stays, also when whole requests must be sent again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from pipeline.lead import key
from pipeline.sending.client import Client, Item, Unavailable, Verdict
from pipeline.sending.entry import FileError, Numbered, Refused
from pipeline.sending.reading import Reading
from pipeline.sending.tally import Tally

__all__ = ["GaveUp", "Sender"]

LANES = 4
#: Far below what a worker takes (1,000 leads, 8 MiB): its other clients wait meanwhile.
BATCH_MAX_LEADS = 200
BATCH_SIZE_MAX_BYTES = 1024 * 1024
#: So long a lead waits for others to go with it: where nothing more comes, and where something comes again and again.
QUIET_S = 0.2
HOLD_MAX_S = 0.7

BACKOFF_MIN_S = 0.25
BACKOFF_MAX_S = 10.0
#: Lanes that were turned away together come back one after the other, and never before they may.
JITTER = 0.25


class GaveUp(Exception):
    """The worker has accepted nothing for as long as one was ready to wait; the text says why."""


@dataclass
class _Lane:
    """What is to be sent next, and what is being collected behind it: two batches at most, and one on its way."""

    batches: asyncio.Queue[list[Item] | None] = field(default_factory=lambda: asyncio.Queue(1))
    batch: list[Item] = field(default_factory=list)
    size_bytes: int = 0
    is_waiting: bool = False
    is_asking: bool = False

    async def put(self, item: Item) -> None:
        if len(self.batch) == BATCH_MAX_LEADS or self.size_bytes + len(item.body) > BATCH_SIZE_MAX_BYTES:
            await self.flush()
        self.batch.append(item)
        self.size_bytes += len(item.body) + 1

    async def flush(self) -> None:
        if self.batch:
            await self.batches.put(self.batch)
        self.batch, self.size_bytes = [], 0

    def flush_now(self) -> None:
        """Let go what is collected, unless another batch waits already: then it goes on growing."""
        if self.batch and not self.batches.full():
            self.batches.put_nowait(self.batch)
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
        self._flushed_s = 0.0
        self._lanes = [_Lane() for _ in range(LANES)]

    async def send(self, entries: Iterator[Numbered | Refused]) -> None:
        """Send all leads, and say what is refused. What was accepted is in the tally, also when this raises.

        Raises:
            GaveUp: the worker has accepted nothing for `patience_s`.
            NotAccepting: it does not take leads.
            FileError: what came before has been sent.
        """
        source = Reading(entries)
        reading = asyncio.create_task(self._read(source))
        tasks = [reading, *(asyncio.create_task(self._run(lane)) for lane in self._lanes)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            source.close()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if failure := reading.result():
            raise failure

    async def _read(self, source: Reading) -> FileError | None:
        """Deal out what is read to the lanes; returns what is wrong with the file."""
        failure = None
        try:
            while chunk := await self._next(source):
                for entry in chunk:
                    await self._deal(entry)
                self._moved()
        except FileError as error:
            failure = error
        for lane in self._lanes:
            await lane.flush()
            await lane.batches.put(None)
        return failure

    async def _next(self, source: Reading) -> list[Numbered | Refused]:
        """The next entries. While they do not come, what is there is sent: it may be all for hours."""
        loop = asyncio.get_running_loop()
        if loop.time() > self._flushed_s + HOLD_MAX_S:
            self._flush_now()
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    return await source.chunk()
            except TimeoutError:
                self._flush_now()

    def _flush_now(self) -> None:
        self._flushed_s = asyncio.get_running_loop().time()
        for lane in self._lanes:
            lane.flush_now()

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
            left, reason, retry_after_s = await self._try(lane, batch)
            if len(left) < len(batch):
                backoff_s = BACKOFF_MIN_S
                self._succeeded(lane)
            elif not lane.is_waiting:
                self._failed(lane, reason)
            if left:
                await self._wait(reason, backoff_s, retry_after_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            batch = left

    async def _try(self, lane: _Lane, batch: Sequence[Item]) -> tuple[Sequence[Item], str, float]:
        """Post a batch; returns what is to be sent again, why, and for how long not yet."""
        if not any(other.is_asking or other.is_waiting for other in self._lanes):
            # From now on, and not from the first failure: a worker that hangs is not waited for twice. Not from before:
            # there may have been nothing to send for hours.
            self._patient_since_s = self._clock()
        lane.is_asking = True
        try:
            answer = await self._client.post(batch, within_s=self._remaining_s())
        except Unavailable as error:
            return batch, str(error), error.retry_after_s
        finally:
            lane.is_asking = False
        return self._take(batch, answer.verdicts), "the broker does not acknowledge in time", answer.retry_after_s

    def _remaining_s(self) -> float:
        return self._patient_since_s + self._patience_s - self._clock()

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
        remaining_s = self._remaining_s()
        if remaining_s > 0 and not any(other.is_waiting for other in self._lanes):
            self._say(f"{self._client.shown_url}: {reason}. Trying again for up to {remaining_s:.0f} s.")
        lane.is_waiting = True

    def _succeeded(self, lane: _Lane) -> None:
        self._patient_since_s = self._clock()
        self._moved()
        if lane.is_waiting:
            lane.is_waiting = False
            if not any(other.is_waiting for other in self._lanes):
                self._say(f"{self._client.shown_url} accepts leads again.")

    async def _wait(self, reason: str, backoff_s: float, retry_after_s: float) -> None:
        remaining_s = self._remaining_s()
        if remaining_s <= 0 or retry_after_s > remaining_s:
            raise GaveUp(f"{self._client.shown_url}: {reason}. Nothing was accepted for {self._patience_s:g} s")
        wanted_s = max(backoff_s, retry_after_s) * random.uniform(1, 1 + JITTER)
        # The last try is at the end of the patience, not before it.
        await self._sleep(max(retry_after_s, min(wanted_s, remaining_s)))
