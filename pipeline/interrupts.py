"""Ctrl-C ends a command in order: what it began is closed, and it can say how far it came."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["STATUS_INTERRUPTED", "interruptible"]

#: As a shell reports a program that Ctrl-C ended.
STATUS_INTERRUPTED = 130

_Result = TypeVar("_Result")


async def interruptible(work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`; Ctrl-C cancels it and raises KeyboardInterrupt.

    What `asyncio.run` does by itself does not wake a loop that is just about to wait: the signal then waits, too.
    """
    task, loop = asyncio.ensure_future(work), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
