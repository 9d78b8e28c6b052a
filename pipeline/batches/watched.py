"""A service whose tasks may not end while it runs."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from faust.transport.conductor import Conductor
from faust.transport.consumer import Fetcher
from mode import Service

from pipeline.batches.batch import Refused

__all__ = ["TaskEnded", "Watched", "WatchedConductor", "WatchedFetcher"]


class TaskEnded(RuntimeError):
    """A background task ended while its service runs: what it was there for does not happen any more."""


class Watched(Service):
    """Crashes when one of its tasks ends, however quietly. Stock services only notice tasks that raise."""

    app: Any

    async def _execute_task(self, task: Awaitable[Any]) -> None:
        await super()._execute_task(self._refusable(task))
        if not (self.should_stop or self.app.should_stop):
            await self.crash(TaskEnded(f"{task!r} ended while the worker runs"))

    async def _refusable(self, task: Awaitable[Any]) -> None:
        try:
            await task
        except Refused as refusal:
            self.app.refuse(refusal)


class WatchedConductor(Watched, Conductor):
    """Faust's conductor, watched."""


class WatchedFetcher(Watched, Fetcher):
    """Faust's fetcher, watched."""
