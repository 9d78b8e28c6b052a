"""The leads in the spool to the broker, the oldest first, over the worker's own producer; and out when it has them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiokafka.errors import KafkaError
from mode import get_logger

from pipeline.batches import fill, is_being_cancelled, is_passing
from pipeline.partitioner import partitions
from pipeline.spool import Backlog, Spooled

__all__ = ["SpoolSending"]

logger = get_logger(__name__)

_Result = TypeVar("_Result")


class SpoolSending:
    """Sends what is in a spool to one topic.

    One chunk is on its way at a time, a record batch for each of its partitions: that bounds what a broker that hangs
    is given, and leaves the event loop to the agents.

    Arguments:
        backlog: What is in the spool.
        producer: Returns the started aiokafka producer (`acks=all`), None while it is not.
        topic: Where to.
        partitions: How many it has.
        acknowledged: Called with the number of a partition for which the broker has acknowledged something.
    """

    def __init__(
        self,
        backlog: Backlog,
        producer: Callable[[], Any],
        topic: str,
        *,
        partitions: int,
        acknowledged: Callable[[int], None],
    ) -> None:
        self._backlog = backlog
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._acknowledged = acknowledged
        self._thread = ThreadPoolExecutor(1, "spool-reader")
        #: Sent and not deleted yet, because the disk is full, say. Not to be sent once a second until there is room.
        self._to_delete: set[int] = set()
        self._has_said_refused = False

    async def send_all(self) -> None:
        """Send what is there now. Partitions of which the broker does not acknowledge a batch are left out from then
        on, until the next time.

        Raises:
            SpoolError: the spool cannot be used.
        """
        count, after, away = 0, 0, set[int]()
        try:
            await self._delete(())
            last = await self._in_thread(self._backlog.last)
            while after < last and len(away) < self._partitions:
                chunk = await self._in_thread(self._backlog.read, after)
                if not chunk:
                    break
                after = chunk[-1].id
                sent = await self._send(chunk, away)
                await self._delete(sent)
                count += len(sent)
            if not away:
                await self._in_thread(self._backlog.tidy)
        finally:
            if count:
                logger.info("%d leads of the spool are with the broker", count)

    async def _send(self, chunk: Sequence[Spooled], away: set[int]) -> list[int]:
        """Send a chunk but for what is for `away`, to which partitions are added that do not acknowledge all of theirs;
        returns the ids that are acknowledged.
        """
        lanes = defaultdict[int, list[Spooled]](list)
        for number, lead in zip(partitions([lead.key for lead in chunk], self._partitions), chunk, strict=True):
            if number not in away:
                lanes[number].append(lead)
        found = await asyncio.gather(*(self._send_batch(number, leads) for number, leads in lanes.items()))
        for (number, leads), acknowledged in zip(lanes.items(), found, strict=True):
            if acknowledged:
                self._acknowledged(number)
            if len(acknowledged) < len(leads):
                away.add(number)
        return [id_ for acknowledged in found for id_ in acknowledged]

    async def _send_batch(self, number: int, leads: Sequence[Spooled]) -> list[int]:
        """Send these to the partition `number`; the ids of those that the broker has. Of what it refuses for good only
        the lead that it is about stays.
        """
        error = await self._try(number, leads)
        if error is None:
            return [lead.id for lead in leads]
        if not isinstance(error, KafkaError) or is_passing(error):
            return []
        if len(leads) == 1:
            self._say_refused(error)
            return []
        half = len(leads) // 2
        return [*await self._send_batch(number, leads[:half]), *await self._send_batch(number, leads[half:])]

    async def _try(self, number: int, leads: Sequence[Spooled]) -> BaseException | None:
        producer = self._producer()
        if producer is None:
            return ConnectionError("the producer is starting")
        builder = producer.create_batch()
        if fill(builder, ((lead.key, lead.value, lead.headers) for lead in leads)) < len(leads):
            raise RuntimeError("a chunk of the spool does not fit into a record batch")
        try:
            await (await producer.send_batch(builder, self._topic, partition=number))
        except KafkaError as error:  # the publisher says it in the log, and the next try may do
            return error
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            return error  # the producer is stopping
        return None

    def _say_refused(self, error: BaseException) -> None:
        if not self._has_said_refused:
            self._has_said_refused = True
            logger.error("The broker refuses a lead of the spool, which stays there: %s", type(error).__name__)

    async def _delete(self, ids: Sequence[int]) -> None:
        self._to_delete.update(ids)
        if self._to_delete:
            await self._in_thread(self._backlog.delete, self._to_delete)
            self._to_delete = set()

    async def _in_thread(self, call: Callable[..., _Result], *args: Any) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
