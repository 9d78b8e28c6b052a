"""Captured leads into the topic, over the worker's own producer: those that arrive together share a record batch.

Of each partition one record batch is on its way, and what arrives meanwhile goes with the next one. So nobody waits
for company: an idle worker sends a lead at once, and a busy one fills its batches by itself.

What the broker does not acknowledge in time goes to the spool, and with it all that waits for the same partition, or
for any if no other has been acknowledged meanwhile. These are away from then on: what comes for them is spooled at
once, and nothing of it is sent from here, until `returned`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from pipeline.batches import fill
from pipeline.partitioner import partition, partitions
from pipeline.spool import Headers, SpoolError
from pipeline.web.capture import Outcome, Position, Result, Spooled, Unacknowledged

__all__ = ["Spool", "TopicPublisher"]

#: How long the disk may take.
SPOOL_MAX_S = 5.0

logger = logging.getLogger(__name__)


class Spool(Protocol):
    """Keeps what the broker does not acknowledge; a `pipeline.spool.SpoolWriter`."""

    def put(self, key: bytes, value: bytes, headers: Headers, tell: Callable[[Exception | None], None]) -> None:
        """Keep a record; `tell` is called once and later: with None when it is on the disk."""


class _Entry:
    """A record, and whom to tell what became of it; None: told, or somebody else will."""

    __slots__ = ("deadline_s", "headers", "key", "tell", "value")

    def __init__(
        self, key: bytes, value: bytes, headers: Headers, deadline_s: float, tell: Callable[[Outcome], None]
    ) -> None:
        self.key = key
        self.value = value
        self.headers = headers
        self.deadline_s = deadline_s
        self.tell: Callable[[Outcome], None] | None = tell

    def told(self, outcome: Outcome) -> None:
        if self.tell is not None:
            tell, self.tell = self.tell, None
            _tell(tell, outcome)


class _Lane:
    """A partition: what waits for it, and what is on its way there. It is busy until the broker or the producer has
    answered for the latter, whoever has told it meanwhile.
    """

    __slots__ = ("away", "busy", "number", "sent", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        self.away = False
        self.busy = False
        self.waiting: deque[_Entry] = deque()
        self.sent: list[_Entry] = []

    def fill(self, builder: Any) -> None:
        """Move from what waits what has room in the record batch `builder`."""
        count = fill(builder, ((entry.key, entry.value, entry.headers) for entry in self.waiting))
        self.sent.extend(self.waiting.popleft() for _ in range(count))

    def expire(self, now_s: float, late: Outcome) -> None:
        """Tell those that have waited for too long, and do not send those that are still here."""
        while self.waiting and self.waiting[0].deadline_s <= now_s:
            self.waiting.popleft().told(late)
        for entry in self.sent:
            if entry.deadline_s > now_s:
                break
            entry.told(late)  # the broker may still get it, which is why the client keeps its message id

    def is_late(self, now_s: float) -> bool:
        """Whether one has waited for too long: they do so in their order."""
        untold = (entry for entries in (self.sent, self.waiting) for entry in entries if entry.tell)
        first = next(untold, None)
        return first is not None and first.deadline_s <= now_s

    def take_waiting(self) -> list[_Entry]:
        """What is not sent yet, and will not be from here."""
        waiting, self.waiting = [*self.waiting], deque()
        return waiting


class TopicPublisher:
    """Publishes to one topic and waits until all in-sync replicas have it (`acks=all`), or the spool has.

    Arguments:
        producer: Returns the started aiokafka producer, None while it is not.
        topic: Where to.
        partitions: How many it has.
        timeout_s: How long the broker may take to acknowledge.
        spool: Where to with what it does not; None: nowhere.
    """

    def __init__(
        self,
        producer: Callable[[], Any],
        topic: str,
        *,
        partitions: int,
        timeout_s: float,
        spool: Spool | None = None,
    ) -> None:
        self._producer = producer
        self._topic = topic
        self._timeout_s = timeout_s
        self._spool = spool
        self._lanes = [_Lane(number) for number in range(partitions)]
        self._due: list[_Lane] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        #: When the broker has acknowledged something for the last time.
        self._acknowledged_s = -math.inf

    @property
    def is_away(self) -> bool:
        """Whether leads go to the spool at once, those of some partitions at least."""
        return any(lane.away for lane in self._lanes)

    def returned(self, number: int | None = None) -> None:
        """The broker has acknowledged something for the partition `number` (None: for any): leads go there again."""
        was_away = self.is_away
        for lane in self._lanes if number is None else [self._lanes[number]]:
            lane.away = False
        if was_away and not self.is_away:
            logger.info("The broker acknowledges again: leads go there")

    async def publish(self, records: Sequence[tuple[bytes, bytes]], headers: Headers = ()) -> list[Result]:
        """Publish (key, value) pairs in order, each with these headers; each result is where it is safe, or why it is
        not.
        """
        outcomes, loop = _Outcomes(len(records)), asyncio.get_running_loop()
        deadline_s = loop.time() + self._timeout_s
        found = partitions([key for key, _ in records], len(self._lanes))
        for number, ((key, value), lane) in enumerate(zip(records, found, strict=True)):
            entry = _Entry(key, value, headers, deadline_s, partial(outcomes.take, number))
            self._put(loop, self._lanes[lane], entry)
        return await outcomes.all

    def put(self, key: bytes, value: bytes, tell: Callable[[Outcome], None], headers: Headers = ()) -> None:
        """Publish one; `tell` is called once, in bounded time and never at once, with what became of it."""
        loop = asyncio.get_running_loop()
        lane = self._lanes[partition(key, len(self._lanes))]
        self._put(loop, lane, _Entry(key, value, headers, loop.time() + self._timeout_s, tell))

    def _put(self, loop: asyncio.AbstractEventLoop, lane: _Lane, entry: _Entry) -> None:
        if lane.away and self._spool is not None:
            _keep(self._spool, entry)
            return
        if not lane.busy:
            self._flush_soon(loop, lane)
        lane.waiting.append(entry)
        if self._alarm is None:
            self._alarm = loop.call_at(entry.deadline_s, self._expire)

    def _flush_soon(self, loop: asyncio.AbstractEventLoop, lane: _Lane) -> None:
        lane.busy = True
        if not self._due:
            # Not at once: what else this turn of the loop has read goes along.
            loop.call_soon(self._flush)
        self._due.append(lane)

    def _flush(self) -> None:
        lanes, self._due = self._due, []
        task = asyncio.ensure_future(self._send(lanes))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, lanes: Sequence[_Lane]) -> None:
        for lane in lanes:
            try:
                acknowledged = await self._send_batch(lane)
            except Exception as error:  # told to those who wait, who raise what they do not know
                self._fail(lane, error)
            else:
                acknowledged.add_done_callback(partial(self._acknowledged, lane))

    async def _send_batch(self, lane: _Lane) -> asyncio.Future[Any]:
        producer = self._producer()
        if producer is None:
            lane.sent.extend(lane.waiting)
            lane.waiting.clear()
            raise Unacknowledged("the worker is starting")
        builder = producer.create_batch()
        lane.fill(builder)
        if not lane.sent:
            raise Unacknowledged("all of them were late")
        future: asyncio.Future[Any] = await producer.send_batch(builder, self._topic, partition=lane.number)
        return future

    def _acknowledged(self, lane: _Lane, future: asyncio.Future[Any]) -> None:
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            self._fail(lane, error)
            return
        self._acknowledged_s = asyncio.get_running_loop().time()
        sent, first = self._take_sent(lane), future.result().offset
        for number, entry in enumerate(sent):
            entry.told(Position(lane.number, first + number))

    def _fail(self, lane: _Lane, error: BaseException) -> None:
        outcome = _outcome(error)
        if self._spool is not None and isinstance(outcome, Unacknowledged) and lane.sent:
            self._leave(lane, self._spool, outcome)
        for entry in self._take_sent(lane):
            entry.told(outcome)

    def _leave(self, lane: _Lane, spool: Spool, why: Unacknowledged) -> None:
        """From now on the partition is away, and all that is in its lane is spooled. So are all others, unless one of
        them was acknowledged lately: not each of them is to keep somebody waiting to find out.
        """
        if not self.is_away:
            logger.warning("Leads go to the spool: %s", why)
        silent_s = asyncio.get_running_loop().time() - self._acknowledged_s
        for left in self._lanes if silent_s > self._timeout_s else [lane]:
            left.away = True
            for entry in [*left.sent, *left.take_waiting()]:
                _keep(spool, entry)

    def _take_sent(self, lane: _Lane) -> list[_Entry]:
        sent, lane.sent = lane.sent, []
        lane.busy = False
        if lane.waiting:
            self._flush_soon(asyncio.get_running_loop(), lane)
        return sent

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now_s, self._alarm = loop.time(), None
        late = Unacknowledged("the broker does not acknowledge in time")
        for lane in self._lanes:
            if self._spool is None:
                lane.expire(now_s, late)
            elif lane.is_late(now_s):
                self._leave(lane, self._spool, late)
        rest = [entry.deadline_s for lane in self._lanes for entry in [*lane.sent, *lane.waiting] if entry.tell]
        if rest:
            if self._alarm is not None:
                self._alarm.cancel()  # set by what was told
            self._alarm = loop.call_at(min(rest), self._expire)


def _keep(spool: Spool, entry: _Entry) -> None:
    """Hand the entry to the spool, unless it is told already or handed there."""
    if entry.tell is not None:
        tell, entry.tell = entry.tell, None
        kept = _Kept(tell)
        spool.put(entry.key, entry.value, entry.headers, kept.told)


class _Kept:
    """Whom to tell what became of a lead in the spool: in bounded time, whatever the disk does. One that is written
    after all is a repeat.
    """

    __slots__ = ("_alarm", "_tell")

    def __init__(self, tell: Callable[[Outcome], None]) -> None:
        self._tell: Callable[[Outcome], None] | None = tell
        self._alarm = asyncio.get_running_loop().call_later(
            SPOOL_MAX_S, self.told, SpoolError("the disk does not answer")
        )

    def told(self, error: Exception | None) -> None:
        self._alarm.cancel()
        if self._tell is not None:
            tell, self._tell = self._tell, None
            _tell_kept(tell, error)


def _tell_kept(tell: Callable[[Outcome], None], error: Exception | None) -> None:
    if isinstance(error, SpoolError):
        _tell(tell, Unacknowledged(f"neither broker nor spool have it: {error}"))
    else:
        _tell(tell, Spooled() if error is None else error)


def _tell(tell: Callable[[Outcome], None], outcome: Outcome) -> None:
    try:
        tell(outcome)
    except Exception as error:  # as the loop does with what it calls: nobody else waits in vain
        context = {"message": "An answer could not be given", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)


class _Outcomes:
    """Those of some records, in their order, once all are there."""

    def __init__(self, count: int) -> None:
        self._found: list[Any] = [None] * count
        self._left = count
        self.all: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def take(self, number: int, outcome: Outcome) -> None:
        self._found[number] = outcome
        self._left -= 1
        if self._left or self.all.done():
            return
        bugs = [one for one in self._found if not isinstance(one, Result)]
        if bugs:
            self.all.set_exception(bugs[0])
        else:
            self.all.set_result(self._found)


def _outcome(error: BaseException) -> Outcome:
    if isinstance(error, Unacknowledged):
        return error
    if isinstance(error, KafkaError):
        return Unacknowledged(f"the broker does not acknowledge: {type(error).__name__}")
    return error if isinstance(error, Exception) else Unacknowledged("the worker is stopping")
