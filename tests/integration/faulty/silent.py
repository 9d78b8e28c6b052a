"""The background work `FAULT_TASK` returns when the file `FAULT_FILE` is there, without an error."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from faust.streams import Stream
from mode import Service

from pipeline.app import app
from pipeline.batches.consumer import BatchConsumer
from pipeline.batches.recovery import BatchRecovery
from pipeline.batches.watched import WatchedConductor

__all__ = ["app"]

TASKS: dict[str, tuple[Any, str]] = {
    "recovery": (BatchRecovery, "_restart_recovery"),
    "commit": (BatchConsumer, "_commit_handler"),
    "conductor": (WatchedConductor, "_subscriber"),
}

_task = os.environ["FAULT_TASK"]
_file = Path(os.environ["FAULT_FILE"])


async def _told_to_end() -> None:
    while not _file.exists():  # noqa: ASYNC110  # the file comes from another process
        await asyncio.sleep(0.02)


def ending(work: Any) -> Any:
    """`work`, which ends when the file is there."""

    async def until_told(self: Any, *args: Any) -> None:
        working = asyncio.ensure_future(work(self, *args))
        await _told_to_end()
        working.cancel()

    return until_told


def cancelled(work: Any) -> Any:
    """`work`, in which something is cancelled when the file is there: Faust's fetcher then ends without a word."""

    async def until_told(self: Any) -> None:
        if _file.exists():
            raise asyncio.CancelledError
        await work(self)

    return until_told


async def no_events(self: Any) -> AsyncIterator[Any]:
    """A stream that ends when the file is there."""
    await _told_to_end()
    return
    yield


if _task == "fetcher":
    BatchConsumer._deliver_next = cancelled(BatchConsumer._deliver_next)  # type: ignore[method-assign]
elif _task == "agent":
    Stream.events = no_events
else:
    _class, _name = TASKS[_task]
    setattr(_class, _name, Service.task(ending(getattr(_class, _name).fun)))
