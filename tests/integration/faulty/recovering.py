"""A recovery does not read its changelogs until the file `FAULT_FILE` is there."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from pipeline.app import app
from pipeline.batches.recovery import BatchRecovery

__all__ = ["app"]

_file = Path(os.environ["FAULT_FILE"])
_apply_until = BatchRecovery._apply_until


async def apply_until(self: Any, consumer: Any, ends: Any) -> None:
    """Count what is to be read, and read it when it may."""
    self._count(consumer, ends)
    while not _file.exists():  # noqa: ASYNC110  # the file comes from another process
        await asyncio.sleep(0.02)
    await _apply_until(self, consumer, ends)


BatchRecovery._apply_until = apply_until  # type: ignore[method-assign]
