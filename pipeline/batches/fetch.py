"""aiokafka's consumer in its own thread: fetches slices of partitions, and asks where logs and group stand."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from aiokafka.errors import (
    ConsumerStoppedError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    NoOffsetForPartitionError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode import Service

from pipeline.batches.batch import STATUS_HUNG, Refused
from pipeline.batches.former import leave_as_former, note_member
from pipeline.batches.identity import log_ids

__all__ = ["FETCH_TIMEOUT_S", "BatchConsumerThread", "Log", "Slice"]

#: How long a fetch waits for records before it looks again at what it should fetch.
FETCH_TIMEOUT_S = 1.0
#: aiokafka has one fetch in flight, and asks for no partition whose records it still holds. So a fetch that leaves out
#: a partition keeps it waiting until the broker answers (Faust: up to 1.5 s). Hence a short fetch, which first waits a
#: little for what is held to be taken.
PREFETCH_BACKOFF_S = 0.02
FETCH_MAX_WAIT_MS = 100

WATCH_INTERVAL_S = 1.0
CLOSE_TIMEOUT_S = 1.0
#: How long leaving the group may take.
LEAVE_TIMEOUT_S = 2.0
#: Nothing holds the event loop for nearly so many seconds; a batch takes tens of milliseconds.
STUCK_MAX_TICKS = 60

REFUSALS = {
    InvalidSessionTimeoutError: "the broker does not allow such a session timeout; it allows from "
    "group.min.session.timeout.ms (6 s unless set) to group.max.session.timeout.ms.",
    InconsistentGroupProtocolError: "another kind of worker is in this consumer group. All workers of one app id run "
    "the same agents; another set of agents needs another app id.",
}


class Slice(NamedTuple):
    """What one fetch brought of one partition, and where the next one begins.

    Without records it says that the broker has none before `next_offset`, such as a transaction marker at the end.
    """

    records: list[Any]
    next_offset: int


class Log(NamedTuple):
    """Where a partition stands: the group's stored offset, if any, and both ends of the log."""

    stored: int | None
    start: int
    end: int

    def nearest(self) -> int:
        """The stored offset, or what of the log is nearest to it."""
        return self.start if self.stored is None else min(max(self.stored, self.start), self.end)


class BatchConsumerThread(AIOKafkaConsumerThread):
    """aiokafka's consumer in its own thread, so that heartbeats go on whatever the worker does."""

    _wake: asyncio.Event

    async def on_start(self) -> None:
        """Start aiokafka's consumer."""
        self._wake = asyncio.Event()
        await super().on_start()
        consumer = self._ensure_consumer()
        consumer._fetcher._prefetch_backoff = PREFETCH_BACKOFF_S
        consumer._fetcher._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        if self.app.member_note is not None:
            await leave_as_former(consumer._coordinator, self.app.member_note)

    def note_member(self) -> None:
        """Keep the member id of this process for the next one, which may have to let it leave the group."""
        if self.app.member_note is not None:
            note_member(self._ensure_consumer()._coordinator, self.app.member_note)

    async def call_thread(self, fun: Any, *args: Any, **kwargs: Any) -> Any:
        """Run `fun` in the thread. The stock method has two places only: a fetch and a commit would block a seek."""

        async def call() -> Any:
            result = fun(*args, **kwargs)
            return await result if asyncio.iscoroutine(result) else result

        calling = call()
        try:
            future = asyncio.run_coroutine_threadsafe(calling, self.thread_loop)
        except RuntimeError:
            calling.close()
            if self.thread_loop.is_closed():  # the worker stops, and whoever asks over HTTP may not know yet
                raise ConsumerStoppedError from None
            raise
        return await asyncio.wrap_future(future)

    def wake(self) -> None:
        """Let a waiting fetch return at once. From any thread."""
        self.thread_loop.call_soon_threadsafe(self._wake.set)

    async def fetch(self, wanted: Mapping[TP, int]) -> dict[TP, Slice]:
        """What has arrived of `wanted` (partition -> next offset to deliver), one slice for each partition.

        Returns nothing after a second without records, or after a `wake`.
        """
        result: dict[TP, Slice] = await self.call_thread(self._fetch, wanted)
        return result

    async def _fetch(self, wanted: Mapping[TP, int]) -> dict[TP, Slice]:
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        consumer._coordinator.check_errors()
        # The context tells the coordinator that the worker is alive, also while it only waits for its database.
        with fetcher._subscriptions.fetch_context():
            slices = await self._take(consumer, wanted)
            if not slices:
                await self._wait_for_records(fetcher)
                slices = await self._take(consumer, wanted)
        return slices

    async def _wait_for_records(self, fetcher: Any) -> None:
        woken = asyncio.ensure_future(self._wake.wait())
        arrived = fetcher._create_fetch_waiter()
        try:
            await asyncio.wait({woken, arrived}, timeout=FETCH_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if arrived.done():
                arrived.result()  # raises what the coordinator found, such as a refused authorization
        finally:
            woken.cancel()
            arrived.cancel()
            self._wake.clear()

    async def _take(self, consumer: Any, wanted: Mapping[TP, int]) -> dict[TP, Slice]:
        if not wanted:  # aiokafka takes "no partitions" as "all partitions"
            return {}
        try:
            fetched = await consumer._fetcher.fetched_records(wanted.keys(), timeout=0)
        except NoOffsetForPartitionError:
            return {}  # assigned anew and not sought yet: `wanted` is of the epoch before
        assignment = consumer._subscription.subscription.assignment
        slices = {}
        for tp, expected in wanted.items():
            state = assignment.state_value(tp) if assignment is not None else None
            if state is None or not state.has_valid_position:
                continue
            records = fetched.get(tp, [])
            if records or state.position > expected:
                slices[tp] = Slice(records, state.position)
        return slices

    async def on_thread_stop(self) -> None:
        """Stop aiokafka's consumer, and do not wait for a broker that is away.

        Its fetcher, closed while a request waits to be tried again, lets the cancellation of that request out, which
        would end this thread without a word; and leaving the group waits for the broker without a limit.
        """
        if self._consumer is not None:
            fetcher = self._consumer._fetcher
            # Its routine can swallow the cancellation when an assignment ends just then, and would be waited for.
            await asyncio.wait({asyncio.ensure_future(fetcher.close())}, timeout=CLOSE_TIMEOUT_S)
            fetcher._pending_tasks.clear()  # the consumer closes it again
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await super().on_thread_stop()

    @Service.task
    async def _watch_coordinator(self) -> None:
        """Find out what the coordinator refuses also while nothing is fetched: aiokafka tells only whoever fetches."""
        while not self.should_stop:
            await self.sleep(WATCH_INTERVAL_S)
            if not self.should_stop:
                try:
                    self._ensure_consumer()._coordinator.check_errors()
                except (InconsistentGroupProtocolError, InvalidSessionTimeoutError) as error:
                    self.app.refuse(Refused(REFUSALS[type(error)]))

    @Service.task
    async def _watch_worker(self) -> None:
        """End a worker whose event loop is stuck: this thread would keep its partitions alive for ever."""
        while not self.should_stop:
            answered = asyncio.Event()
            self.parent_loop.call_soon_threadsafe(self.thread_loop.call_soon_threadsafe, answered.set)
            # Counted, not timed: while the whole process is stopped (SIGSTOP) the clock goes on.
            for _ in range(STUCK_MAX_TICKS):
                await self.sleep(WATCH_INTERVAL_S)
                if answered.is_set() or self.should_stop:
                    break
            else:
                self.app.refuse(Refused("its event loop is stuck"), status=STATUS_HUNG)

    async def topic_ids(self, topics: frozenset[str]) -> dict[str, bytes]:
        """The id of each topic; for a broker older than 2.8 the id of its cluster."""
        result: dict[str, bytes] = await self.call_thread(self._topic_ids, topics)
        return result

    async def _topic_ids(self, topics: frozenset[str]) -> dict[str, bytes]:
        return await log_ids(self._ensure_consumer()._client, topics)

    async def logs(self, tps: frozenset[TP]) -> dict[TP, Log]:
        """Where the logs and the group stand, asked of the broker."""
        result: dict[TP, Log] = await self.call_thread(self._logs, tps)
        return result

    async def _logs(self, tps: frozenset[TP]) -> dict[TP, Log]:
        consumer = self._ensure_consumer()
        asked = [TopicPartition(tp.topic, tp.partition) for tp in tps]
        stored: Mapping[TopicPartition, OffsetAndMetadata] = await consumer._coordinator.fetch_committed_offsets(asked)
        # Afterwards: what a stored offset stands for lies before the ends then.
        starts, ends = await asyncio.gather(consumer.beginning_offsets(asked), consumer.end_offsets(asked))
        return {tp: Log(stored[tp].offset if tp in stored else None, starts[tp], ends[tp]) for tp in tps}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        """Set the positions of assigned partitions; raises `IllegalStateError` when one is not assigned any more."""
        await self.call_thread(self._seek_all, positions)

    def _seek_all(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(TopicPartition(tp.topic, tp.partition), offset)
