"""The consumer: fetches slices of partitions, delivers them as batches, commits what was acknowledged.

Replaces what Faust 0.15.3 does between the fetch and the commit. The rules that it keeps, and what the stock consumer
does instead, are in the README's "Decisions"; each has a test in tests/integration/test_rules.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError, OffsetOutOfRangeError
from faust.transport.drivers.aiokafka import Consumer as StockConsumer
from faust.transport.drivers.aiokafka import Transport as StockTransport
from faust.types import TP, ConsumerMessage
from mode import Service

from pipeline.batches.batch import Batch, Epoch, Fatal, LetGo, Refused
from pipeline.batches.checkpoints import Checkpoints
from pipeline.batches.fetch import FETCH_TIMEOUT_S, BatchConsumerThread, Log, Slice
from pipeline.batches.passing import is_being_cancelled, is_passing
from pipeline.batches.watched import Watched

__all__ = ["BatchConsumer", "BatchTransport", "PositionLost", "Positions"]

#: Batches of one partition that may be unacknowledged: one in work and one waiting, so that no lane waits for a fetch.
LANE_DEPTH_BATCHES = 2
#: Of small ones so many bytes. aiokafka, when it still holds records of one partition, fetches none of any for a while.
LANE_DEPTH_BYTES = 256 * 1024

RETRY_S = 0.5

_Answer = TypeVar("_Answer")
#: Says where to begin with partitions of one topic whose positions are not kept by Kafka, given the topic's id, the
#: logs and the epoch. Takes as long as it needs, the partitions deliver nothing until then; it is cancelled, or raises
#: `LetGo`, when the epoch ends.
Positions = Callable[[bytes, Mapping[TP, Log], Epoch], Awaitable[Mapping[TP, int]]]


class PositionLost(Refused):
    """The stored offset of a partition lies outside its log: records are gone, or it is another log."""


class BatchConsumer(Watched, StockConsumer):
    """Delivers contiguous batches and commits only what was acknowledged."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epoch = Epoch()
        self.checkpoints = Checkpoints()
        self._positions: dict[TP, int] = {}
        self._gaps: dict[TP, tuple[int, int]] = {}
        self._acknowledged = asyncio.Event()
        self._is_revoked = False
        self._commit_lock = asyncio.Lock()
        self._committing: asyncio.Task[bool] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- delivery

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._deliver_next()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not (self.app.should_stop or fetcher.should_stop):
                raise

    async def _deliver_next(self) -> None:
        if not self.flow_active:
            await self.wait_first(self.can_resume_flow.wait(), timeout=FETCH_TIMEOUT_S)
            return
        epoch = self.epoch
        try:
            slices = await self._thread.fetch(self._wanted())
        except OffsetOutOfRangeError as error:
            await self._out_of_range(error)
            return
        batches: list[Batch] = []
        for tp, fetched in slices.items():
            if not (self.flow_active and self.epoch is epoch and tp in self._positions):
                # What comes next is not contiguous with this, and not because of a gap: it will be sought back to.
                self._gaps.pop(tp, None)
            elif await self._is_contiguous(tp, fetched) and self.epoch is epoch:
                batches += self._begun(tp, fetched)
        if batches:
            # All at once: each wait costs tasks and turns of the loop.
            delivering = asyncio.gather(*(self.callback(self._message(batch)) for batch in batches))
            await self.wait_first(delivering, self.suspend_flow.wait())

    def _wanted(self) -> dict[TP, int]:
        return {
            tp: self._positions[tp]
            for tp in self._get_active_partitions() & self._positions.keys()
            if self._has_room(tp)
        }

    def _has_room(self, tp: TP) -> bool:
        checkpoints = self.checkpoints
        return checkpoints.outstanding(tp) < LANE_DEPTH_BATCHES or checkpoints.outstanding_bytes(tp) < LANE_DEPTH_BYTES

    def _begun(self, tp: TP, fetched: Slice) -> list[Batch]:
        """The batch to deliver; none when the log has only gone on."""
        batch = Batch(tp, fetched.records, fetched.next_offset, self.epoch)
        self._positions[tp] = batch.next_offset
        self.checkpoints.deliver(batch)
        if batch.records:
            return [batch]
        self._acknowledge(batch)
        return []

    async def _is_contiguous(self, tp: TP, fetched: Slice) -> bool:
        expected = self._positions[tp]
        first = fetched.records[0].offset if fetched.records else fetched.next_offset
        before = self._gaps.pop(tp, None)
        if first == expected and fetched.records:
            return True
        if first > expected and before == (expected, first):
            self.log.info("%s/%s has no records from %s to %s", tp.topic, tp.partition, expected, first - 1)
            return True
        # Records were fetched and not delivered, or the log has a gap. The broker's second answer tells which.
        self._gaps[tp] = expected, first
        with suppress(IllegalStateError):  # not assigned any more
            await self._thread.seek_all({tp: expected})
        return False

    def _message(self, batch: Batch) -> ConsumerMessage:
        tp = batch.tp
        return ConsumerMessage(
            tp.topic, tp.partition, batch.next_offset - 1, batch.records[-1].timestamp / 1000.0, 1, [], None, batch,
            None, tp=tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:
        """Not used: `_drain_messages` delivers batches."""
        raise NotImplementedError("batches are delivered by _drain_messages")
        yield

    # -- acknowledgement and commit

    def ack(self, message: Any) -> bool:
        """Take the acknowledgement of a whole batch. Called by Faust when the last reader of the batch has acked it."""
        message.acked = True
        self._unacked_messages.discard(message)
        return self._acknowledge(message.value)

    def _acknowledge(self, batch: Batch) -> bool:
        was_full = not self._has_room(batch.tp)
        moved = self.checkpoints.ack(batch)
        if moved:
            self._acknowledged.set()
        if moved and was_full:
            self._thread.wake()
        return moved

    @Service.task
    async def _commit_handler(self) -> None:
        """Commit whenever something was acknowledged: one commit in flight, the next when it is confirmed. No timer."""
        while not self.should_stop:
            await self._acknowledged.wait()
            self._acknowledged.clear()
            await self.commit()

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the checkpoints that moved. Returns whether the broker confirmed; raises nothing that is retriable."""
        async with self._commit_lock:
            acking = self.app.topics.acks_enabled_for
            offsets = {tp: offset for tp, offset in self.checkpoints.pending().items() if acking(tp.topic)}
            if not offsets:
                return False
            self._committing = asyncio.ensure_future(self._commit(offsets))
            try:
                if await self._committing:
                    self.checkpoints.committed(offsets)
                    return True
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
            return False  # cancelled by `let_go`

    # -- assignment

    def resume_flow(self) -> None:
        """Deliver what the positions of the epoch allow, at once."""
        super().resume_flow()
        self._thread.wake()

    async def let_go(self, grace_s: float) -> None:
        """Let go of all partitions, and take none until the next assignment.

        Delivery stops, the lanes may finish for `grace_s` seconds, and what they finished is committed. A broker that
        does not confirm within `grace_s` is not waited for: what it missed is read again.
        """
        self._is_revoked = True
        self.app.tables.recovery.interrupt()
        await self._end_epoch(grace_s)

    async def _end_epoch(self, grace_s: float) -> None:
        self.stop_flow()
        self.epoch.leaving.set()
        for task in self._asking:
            task.cancel()  # not awaited: whoever is asked may be a database that does not answer
        await asyncio.gather(*(lanes.let_go(grace_s) for lanes in self.app.lanes))
        if grace_s > 0 and self.checkpoints.pending():
            await asyncio.wait({asyncio.ensure_future(self.commit())}, timeout=grace_s)
        self.epoch.over = True
        if self._committing is not None:
            # It would go on trying under the next generation and could set the group back.
            self._committing.cancel()
        self.checkpoints.forget()
        self._positions.clear()
        self._gaps.clear()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let go of everything: a rebalance takes all partitions before it gives some back."""
        await self.let_go(self.app.grace_s)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take the new assignment; the recovery begins with it."""
        self._is_revoked = False
        self._thread.note_member()
        await super().on_partitions_assigned(assigned, generation_id)

    async def begin(self, positions: Mapping[TP, int], held: Mapping[TP, Log] | None = None) -> None:
        """Begin a new epoch, in which `positions` are delivered from their offsets once the flow is resumed.

        The partitions `held` deliver nothing until whoever keeps their positions has said where they begin.

        Raises:
            IllegalStateError: a partition is not assigned any more.
        """
        await self._end_epoch(0)
        held = held or {}
        # aiokafka needs a position of every partition. Kafka's copy of one that is kept elsewhere is mostly right.
        await self._thread.seek_all({**{tp: log.nearest() for tp, log in held.items()}, **positions})
        if self._is_revoked:
            # aiokafka keeps the old assignment while a rebalance is under way, and has sought in it.
            raise IllegalStateError("the partitions were revoked meanwhile")
        self.epoch = Epoch()
        self._start(positions)
        for topic in {tp.topic for tp in held}:
            self._ask(topic, {tp: log for tp, log in held.items() if tp.topic == topic}, self.epoch)

    def _start(self, positions: Mapping[TP, int]) -> None:
        for tp, offset in positions.items():
            self.checkpoints.start(tp, offset)
        self._positions.update(positions)

    def _ask(self, topic: str, held: Mapping[TP, Log], epoch: Epoch) -> None:
        task = asyncio.ensure_future(self._release(topic, held, epoch))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _release(self, topic: str, held: Mapping[TP, Log], epoch: Epoch) -> None:
        """Ask where partitions begin whose positions are kept elsewhere, however long that takes; then let them flow.

        Nobody waits for this: a rebalance takes as long as without the database that is asked.
        """
        thread, topics, tps = self._thread, frozenset([topic]), frozenset(held)
        try:
            log_id = (await _patiently(lambda: thread.topic_ids(topics), epoch))[topic]
            positions = await self.app.positions[topic](log_id, held, epoch)
            # Asked anew: a position that another worker has written meanwhile may be behind the end of before.
            logs = await _patiently(lambda: thread.logs(tps), epoch)
            if any(positions[tp] < log.start for tp, log in logs.items()):
                # Retention has gone on while the answer was waited for. What it took may have been worked on long ago.
                positions = await self.app.positions[topic](log_id, logs, epoch)
            for tp, log in logs.items():
                self._position(tp, log._replace(stored=positions[tp]))
            await thread.seek_all(positions)
            epoch.check()
            self._start(positions)
            thread.wake()
        except (LetGo, IllegalStateError):
            return  # a rebalance has begun, and the next assignment asks again
        except Exception as error:  # handed on: it ends the worker
            self.app.fail(error)

    async def perform_seek(self) -> None:
        """Begin an epoch with every source partition at its stored offset, else at the start of its log.

        Raises:
            PositionLost: a stored offset lies outside the log.
            IllegalStateError: the assignment has changed meanwhile.
        """
        await self._end_epoch(0)
        await self.begin(*await self.source_positions())

    async def source_positions(self) -> tuple[dict[TP, int], dict[TP, Log]]:
        """`positions` of what the broker says of the assigned source partitions."""
        return self.positions(await self._thread.logs(self.source_tps()))

    def source_tps(self) -> frozenset[TP]:
        """The assigned partitions that are of no changelog."""
        return frozenset(tp for tp in self.assignment() if not self._is_changelog_tp(tp))

    def positions(self, logs: Mapping[TP, Log]) -> tuple[dict[TP, int], dict[TP, Log]]:
        """Where to begin with each source partition, given how it stands; raises `PositionLost`.

        Then the logs of those whose positions are kept elsewhere.
        """
        held = {tp: log for tp, log in logs.items() if tp.topic in self.app.positions}
        return {tp: self._position(tp, log) for tp, log in logs.items() if tp not in held}, held

    def _position(self, tp: TP, log: Log) -> int:
        if log.stored is None:
            return log.start
        if log.start <= log.stored <= log.end:
            return log.stored
        raise PositionLost(_lost(self.app.conf.id, tp, log))

    async def _out_of_range(self, error: OffsetOutOfRangeError) -> None:
        """The broker has no such position: records were deleted before we read them, or the epoch has changed."""
        ((aiokafka_tp, position), *_) = error.args[0].items()
        tp = TP(*aiokafka_tp)
        log = (await self._thread.logs(frozenset({tp})))[tp]
        if self._positions.get(tp) != position or log.start <= position <= log.end:
            return
        if self._is_changelog_tp(tp):
            raise Fatal(f"{tp.topic}/{tp.partition} was shortened while it was read; a restart rebuilds the table")
        raise PositionLost(_lost(self.app.conf.id, tp, log._replace(stored=position)))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: the stock check takes an idle partition for a hanging one."""


async def _patiently(ask: Callable[[], Awaitable[_Answer]], epoch: Epoch) -> _Answer:
    """The broker's answer, however long it is away; raises `LetGo`."""
    while True:
        try:
            return await ask()
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
        except KafkaError as error:
            if not is_passing(error):
                raise
        await epoch.pause(RETRY_S)


def _lost(group: str, tp: TP, log: Log) -> str:
    where = f"{tp.topic}/{tp.partition}"
    if log.stored is not None and log.stored < log.start:
        what = (
            f"Records {log.stored} to {log.start - 1} of {where} were deleted before group {group} had processed them."
        )
    else:
        what = f"Group {group} stands at {log.stored} of {where}, but that log ends at {log.end}: it is another log."
    skip = f"leads skip {tp.topic} {tp.partition} {log.start}"
    return f"{what} To accept that and go on, stop all workers and run: {skip}"


class BatchTransport(StockTransport):
    """aiokafka, a batch at a time."""

    Consumer = BatchConsumer
