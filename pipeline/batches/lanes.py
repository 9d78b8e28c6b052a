"""Partitions are lanes: each works through its own batches in order, beside the others.

The round trips to broker and database of different partitions overlap, while the order within a partition stays. How
much waits in a lane is bounded where it is fetched (`BatchConsumer`), so a full lane holds back only its own partition.
What waits is worked on as one batch: an idle lane begins with a single record, a busy one has fewer and larger batches.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any

from faust.types import TP, EventT
from mode import get_logger

from pipeline.batches.batch import Batch, Fatal, LetGo, Refused
from pipeline.batches.bugs import BugCount
from pipeline.batches.passing import is_being_cancelled

__all__ = ["Lanes", "OnBug", "Work"]

logger = get_logger(__name__)

#: Does all the work for a batch. It returns when every record is safe, and raises when not: `LetGo`, `Fatal`,
#: `Refused`, or anything else for a record that it cannot digest.
Work = Callable[[Batch], Awaitable[None]]
#: Puts the only record of a batch, which made the work raise by itself, where it is safe.
OnBug = Callable[[Batch, Exception], Awaitable[None]]

_NO_RECORDS_FAULT = (LetGo, Fatal, Refused)


class Lanes:
    """The lanes of one agent, by partition. A lane without a batch has no task.

    Arguments:
        work: What the agent does with a batch.
        on_bug: What to do with a record that makes `work` raise by itself.
        on_fatal: Ends the worker; called with any error that is not a record's.
    """

    def __init__(self, work: Work, *, on_bug: OnBug, on_fatal: Callable[[BaseException], None]) -> None:
        self._work = work
        self._on_bug = on_bug
        self._on_fatal = on_fatal
        self._waiting: defaultdict[TP, deque[EventT[Any]]] = defaultdict(deque)
        self._running: dict[TP, asyncio.Task[None]] = {}
        self._bugs = BugCount()

    def put(self, event: EventT[Any]) -> None:
        """Queue the batch of `event`. One of an epoch that ends is dropped: it will be delivered again."""
        batch: Batch = event.value
        if batch.epoch.leaving.is_set():
            return
        self._waiting[batch.tp].append(event)
        running = self._running.get(batch.tp)
        if running is None or running.done():
            task = asyncio.create_task(self._run(batch.tp), name=f"lane {batch.tp}")
            self._running[batch.tp] = task
            # Not at the end of `_run`: a task that is cancelled before its first step never gets there.
            task.add_done_callback(lambda ended: self._forget(batch.tp, ended))

    def _forget(self, tp: TP, ended: asyncio.Task[None]) -> None:
        if self._running.get(tp) is ended:
            del self._running[tp]

    async def let_go(self, grace_s: float) -> None:
        """Give the batches in work `grace_s` seconds to end, cancel them, and wait until all lanes are gone.

        The epoch must be leaving, so that `put` takes no further batch.
        """
        self._waiting.clear()
        tasks = set(self._running.values())
        if tasks and grace_s > 0:
            await asyncio.wait(tasks, timeout=grace_s)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _run(self, tp: TP) -> None:
        waiting = self._waiting[tp]
        try:
            while waiting:
                events = list(waiting)
                waiting.clear()
                batch = Batch.joined([event.value for event in events])
                await self._finish(batch)
                for event in events:
                    event.ack()
                if batch.epoch.leaving.is_set():
                    waiting.clear()
        except LetGo:
            waiting.clear()
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            # In silence this lane would be over.
            self._on_fatal(Fatal(f"The work on {tp.topic}/{tp.partition} was cancelled, and not by this worker"))
        except Exception as error:  # handed on: it ends the worker
            self._on_fatal(error)

    async def _finish(self, batch: Batch) -> None:
        """Work on `batch`; when that fails, on its records one by one, so that one record stops no other."""
        try:
            await self._work(batch)
            self._bugs.note(0, len(batch), None)
        except _NO_RECORDS_FAULT:
            raise
        except Exception as error:
            logger.error("%r raised %s; its records are run again one by one", batch, type(error).__name__)
            await self._one_by_one(batch)
        batch.epoch.check()

    async def _one_by_one(self, batch: Batch) -> None:
        bugs = [(one, bug) for one in map(batch.one, range(len(batch))) if (bug := await self._try(one)) is not None]
        self._bugs.note(len(bugs), len(batch), bugs[0][1] if bugs else None)
        for one, bug in bugs:
            await self._on_bug(one, bug)

    async def _try(self, batch: Batch) -> Exception | None:
        batch.epoch.check()
        try:
            await self._work(batch)
        except _NO_RECORDS_FAULT:
            raise
        except Exception as error:
            return error
        return None
