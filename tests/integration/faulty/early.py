"""Our code commits what it was handed, not what it has done, as auto-commit does; and an append takes a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from faust.types import TP

from pipeline.app import app
from pipeline.batches import Batch
from pipeline.batches.checkpoints import Checkpoints

__all__ = ["app"]

APPEND_S = 0.3

_append = app.appender.append


async def append(batch: Batch, topic: str, entries: Iterable[Any]) -> tuple[int, int]:
    """Append, but not at once."""
    await asyncio.sleep(APPEND_S)
    return await _append(batch, topic, entries)


def pending(self: Checkpoints) -> dict[TP, int]:
    """What was handed out."""
    handed = {tp: batches[-1].next_offset if batches else self._reached[tp] for tp, batches in self._delivered.items()}
    return {tp: offset for tp, offset in handed.items() if offset > self._committed[tp]}


_patched: Any = app.appender
_patched.append = append
Checkpoints.pending = pending
