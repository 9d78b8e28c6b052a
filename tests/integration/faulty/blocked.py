"""The sink of partition 3 does not answer until the file `FAULT_FILE` is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from agents.crm_sink import sink
from pipeline.app import app
from pipeline.sinks import AcceptedLead, Checkpoint

__all__ = ["app"]

PARTITION = 3

_file = Path(os.environ["FAULT_FILE"])
_write = sink.write


async def write(leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
    """Write, in this partition only when it may."""
    if any(lead.partition == PARTITION for lead in leads):
        print(f"blocked at {leads[0].offset}", flush=True)
        while not _file.exists():  # noqa: ASYNC110  # the file comes from another process
            await asyncio.sleep(0.02)
    return await _write(leads, checkpoint)


sink.write = write  # type: ignore[method-assign]
