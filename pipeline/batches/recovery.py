"""Recovery: brings the tables of a new assignment up to their changelogs, then lets the source topics flow.

Replaces Faust's recovery, which goes on after an error with a hole in the table, treats a time-out as success, and can
leave its loop without a word. This one ends in a recovered worker, in another rebalance, or in a crash; never in a
worker that idles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.types import TP
from mode import Service

from pipeline.batches.batch import Batch
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
    """One recovery at a time; a rebalance cancels it and starts the next."""

    #: Changelog records still to be read, for the web view; None when recovered.
    remaining: int | None = None

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            await self.signal_recovery_start.wait()
            self.signal_recovery_start.clear()
            running = asyncio.ensure_future(self._recover_until_done(self._generation_id))
            again = asyncio.ensure_future(self.signal_recovery_start.wait())
            try:
                await asyncio.wait({running, again}, return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    running.result()
            finally:
                again.cancel()
                running.cancel()
                await asyncio.wait({running, again})

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
                return await self._recover(generation_id)
            except KafkaError as error:
                if not is_passing(error):
                    raise
                # The assignment may have changed, then a rebalance cancels this; or the broker is away.
                if not warned:
                    self.log.warning("Recovery waits for the broker: %s", type(error).__name__)
                    warned = True
            await asyncio.sleep(RETRY_S)

    async def _recover(self, generation_id: int) -> None:
        app: Any = self.app
        self._set_recovery_started()
        tps = frozenset(self.active_tps)
        if tps:
            await self._read_changelogs(app.consumer, tps)
        await app.on_rebalance_complete.send()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], set())
        self._set_recovery_ended()
        app.consumer.pause_partitions(tps)
        app.consumer.resume_partitions({tp for tp in app.consumer.assignment() if tp not in tps})
        await app.consumer.perform_seek()
        self._flow(app)
        self.completed.set()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.remaining = None
        self.log.info("Worker ready: generation %s, %s partitions", generation_id, len(app.consumer.assignment()))
        await app._fetcher.maybe_start()

    def _flow(self, app: Any) -> None:
        app.flow_control.resume()  # clears the queues, so it comes before the first delivery
        app.consumer.resume_flow()

    async def _read_changelogs(self, consumer: BatchConsumer, tps: frozenset[TP]) -> None:
        logs = await consumer._thread.logs(tps)
        positions = {tp: self._start(tp, logs[tp]) for tp in tps}
        ends = {tp: logs[tp].end for tp in tps}
        await consumer.begin(positions)
        consumer.resume_partitions(tps)
        self._flow(self.app)
        await cast(Any, self.app)._fetcher.maybe_start()
        await self._apply_until(consumer, ends)
        consumer.stop_flow()

    def _start(self, tp: TP, log: Log) -> int:
        """Where to read on, after what the database has. One that does not fit its changelog is rebuilt."""
        store = self._table(tp).data
        known = store.next_offset(tp.partition)
        if known is not None and not log.start <= known <= log.end:
            self.log.warning("Rebuilding %s/%s: it stands at %s of %s..%s", *tp, known, log.start, log.end)
            store.wipe(tp.partition)
            known = None
        if known is None:
            store.write(tp.partition, {}, log.start)
        return log.start if known is None else known

    async def _apply_until(self, consumer: BatchConsumer, ends: Mapping[TP, int]) -> None:
        queue = self.tables.changelog_queue
        arrival = asyncio.ensure_future(queue.get())
        try:
            while self._count(consumer, ends):
                # The log may end in offsets without a record. The consumer steps over them by itself, so look again.
                # Not `wait_for`: when its time is up just as an event arrives, the event would be lost.
                await asyncio.wait({arrival}, timeout=IDLE_S)
                if arrival.done():
                    self._apply(consumer, arrival.result())
                    arrival = asyncio.ensure_future(queue.get())
        finally:
            arrival.cancel()

    def _apply(self, consumer: BatchConsumer, event: Any) -> None:
        batch: Batch = event.value
        if not batch.epoch.over:
            self._table(batch.tp).apply(batch)
            consumer.ack(event.message)

    def _count(self, consumer: BatchConsumer, ends: Mapping[TP, int]) -> int:
        self.remaining = sum(max(0, end - (consumer.checkpoints.reached(tp) or 0)) for tp, end in ends.items())
        return self.remaining

    def _table(self, tp: TP) -> BatchTable:
        return cast(BatchTable, self.tables._changelogs[tp.topic])

    def flush_buffers(self) -> None:
        """Nothing: there are no buffers."""


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
