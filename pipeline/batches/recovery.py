"""Recovery: brings the tables of a new assignment up to their changelogs, then lets the source topics flow, and goes
on following the changelogs of the partitions for which this worker is the standby.

Replaces Faust's recovery, which only warns of an error and tries for ever, takes a time-out for success, and can leave
its loop without a word. This one ends in a recovered worker, in another rebalance, or in a crash; never in a worker
that idles.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from pipeline.batches.batch import Batch, Fatal
from pipeline.batches.consumer import BatchConsumer
from pipeline.batches.fetch import Log
from pipeline.batches.passing import is_passing
from pipeline.batches.table import BatchTable
from pipeline.batches.watched import Watched

__all__ = ["BatchRecovery", "BatchTables"]

RETRY_S = 0.5
#: How long to wait for a record before looking again at how far the checkpoints are.
IDLE_S = 0.5


class BatchRecovery(Watched, Recovery):
    """One recovery at a time, then the standbys; a revocation cancels both, the next assignment starts another."""

    #: Changelog records still to be read of each partition, for the web view; None while it reads none.
    to_go: Mapping[TP, int] | None = None

    _running: asyncio.Future[None] | None = None

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            await self.signal_recovery_start.wait()
            self.signal_recovery_start.clear()
            running = self._running = asyncio.ensure_future(self._recover_until_done(self._generation_id))
            try:
                await asyncio.wait({running})
            finally:
                running.cancel()
            if not running.cancelled():
                running.result()

    def interrupt(self) -> None:
        """Cancel what is under way: its partitions are being revoked. The next assignment starts another recovery."""
        self.to_go = None
        if self._running is not None:
            self._running.cancel()

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Replaces the stock task of this name, which logs an error and goes on: `_recover` reads the changelogs."""
        await self._stopped.wait()

    @Service.task
    async def _publish_stats(self) -> None:
        """Replaces the stock task of this name, which counts events as records."""
        await self._stopped.wait()

    async def _recover_until_done(self, generation_id: int) -> None:
        warned = False
        while True:
            try:
                await self._recover(generation_id)
                break
            except KafkaError as error:
                if not is_passing(error):
                    raise
                # The assignment may have changed, then a rebalance cancels this; or the broker is away.
                if not warned:
                    self.log.warning("Recovery waits for the broker: %s", type(error).__name__)
                    warned = True
            await asyncio.sleep(RETRY_S)
        await self._follow()

    async def _recover(self, generation_id: int) -> None:
        app: Any = self.app
        self._set_recovery_started()
        changelogs = frozenset(self.active_tps)
        # A standby has the changelog of a partition without the rest of it.
        self._check_partitions(app.consumer.assignment() - self.standby_tps)
        logs = await self._logs(app.consumer, changelogs | self.standby_tps)
        positions, held = app.consumer.positions({tp: logs[tp] for tp in app.consumer.source_tps()})
        if changelogs:
            await self._read_changelogs(app.consumer, {tp: logs[tp] for tp in changelogs})
        # The consumer goes on from there, to whatever their ends are by then.
        followed = {tp: self._start(tp, logs[tp]) for tp in self.standby_tps}
        await app.on_rebalance_complete.send()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        self._set_recovery_ended()
        app.consumer.pause_partitions(changelogs)
        app.consumer.resume_partitions([*positions, *held, *followed])
        await app.consumer.begin({**positions, **followed}, held)
        self._flow(app)
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.to_go = None
        self.log.info("Worker ready: generation %s, %s partitions", generation_id, len(app.consumer.assignment()))
        await app._fetcher.maybe_start()

    def _check_partitions(self, assigned: Iterable[TP]) -> None:
        """A partition without its changelog would be worked on with an empty table. Faust's assignor leaves out a topic
        that its metadata do not have yet.
        """
        numbers = defaultdict(set)
        for tp in assigned:
            numbers[tp.topic].add(tp.partition)
        if self.tables and len(set(map(frozenset, numbers.values()))) > 1:
            raise Fatal(f"Not the same partitions are assigned of each topic: {dict(numbers)}")

    def _flow(self, app: Any) -> None:
        app.flow_control.resume()  # clears the queues, so it comes before the first delivery
        app.consumer.resume_flow()

    async def _logs(self, consumer: BatchConsumer, changelogs: frozenset[TP]) -> Mapping[TP, Log]:
        """How all partitions stand, asked at once: the sources and `changelogs`."""
        thread, topics = consumer._thread, frozenset(tp.topic for tp in changelogs)
        logs, ids = await asyncio.gather(
            thread.logs(consumer.source_tps() | changelogs), thread.topic_ids(topics) if topics else _no_ids()
        )
        for tp in changelogs:
            self._table(tp).data.log_id = ids[tp.topic]
        return logs

    async def _read_changelogs(self, consumer: BatchConsumer, logs: Mapping[TP, Log]) -> None:
        positions = {tp: self._start(tp, log) for tp, log in logs.items()}
        await consumer.begin(positions)
        consumer.resume_partitions(frozenset(logs))
        self._flow(self.app)
        await cast(Any, self.app)._fetcher.maybe_start()
        await self._apply_until(consumer, {tp: log.end for tp, log in logs.items()})
        consumer.stop_flow()
        for tp in logs:
            self._table(tp).data.flush(tp.partition)
            await asyncio.sleep(0)

    def _start(self, tp: TP, log: Log) -> int:
        """Where to read on, after what the database has. One that does not fit its changelog is rebuilt."""
        store = self._table(tp).data
        known = store.next_offset(tp.partition)
        if known is not None and log.start <= known <= log.end:
            return known
        if log.end > log.start:
            self.log.info("Building %s/%s from its changelog, %s to %s", *tp, log.start, log.end)
        store.wipe(tp.partition)
        store.write(tp.partition, {}, log.start)
        return log.start

    async def _apply_until(self, consumer: BatchConsumer, ends: Mapping[TP, int]) -> None:
        queue = self.tables.changelog_queue
        arrival = asyncio.ensure_future(queue.get())
        try:
            while self._count(consumer, ends) > 0:
                # The log may end in offsets without a record. The consumer steps over them by itself, so look again.
                # Not `wait_for`: when its time is up just as an event arrives, the event would be lost.
                await asyncio.wait({arrival}, timeout=IDLE_S)
                if arrival.done():
                    # Killed, it reads the changelog again from where the database is complete.
                    self._apply(consumer, arrival.result(), is_logged=False)
                    arrival = asyncio.ensure_future(queue.get())
        finally:
            arrival.cancel()

    async def _follow(self) -> None:
        """Apply to the standbys what their owners append, until this is cancelled. They are never said to be ready:
        whoever becomes the owner reads the rest first.
        """
        consumer: Any = self.app.consumer
        while self.standby_tps:
            self._apply(consumer, await self.tables.changelog_queue.get())

    def _apply(self, consumer: BatchConsumer, event: Any, *, is_logged: bool = True) -> None:
        batch: Batch = event.value
        if not batch.epoch.over:
            self._table(batch.tp).apply(batch, is_logged=is_logged)
            consumer.ack(event.message)

    def _count(self, consumer: BatchConsumer, ends: Mapping[TP, int]) -> int:
        self.to_go = {tp: max(0, end - (consumer.checkpoints.reached(tp) or 0)) for tp, end in ends.items()}
        return sum(self.to_go.values())

    def _table(self, tp: TP) -> BatchTable:
        return cast(BatchTable, self.tables._changelogs[tp.topic])

    def flush_buffers(self) -> None:
        """Nothing: there are no buffers."""


async def _no_ids() -> dict[str, bytes]:
    return {}


class BatchTables(TableManager):
    """The table manager, with our recovery."""

    _recovery: BatchRecovery | None

    @property
    def recovery(self) -> BatchRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_start(self) -> None:
        """Register the changelogs and start the recovery; the stock one sleeps for a second first."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
