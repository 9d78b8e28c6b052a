"""Nothing is forwarded to lead-accepted until the file `FAULT_FILE` is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from pipeline.app import app
from pipeline.batches import Batch, Entry
from pipeline.topics import ACCEPTED

__all__ = ["app"]

_file = Path(os.environ["FAULT_FILE"])
_append = app.appender.append


async def append(batch: Batch, topic: str, entries: Iterable[Entry]) -> tuple[int, int]:
    """Append, to lead-accepted only when it may."""
    while topic == ACCEPTED and not _file.exists():  # noqa: ASYNC110  # the file comes from another process
        await asyncio.sleep(0.02)
    return await _append(batch, topic, entries)


app.appender.append = append  # type: ignore[method-assign]
