"""The sink of partition 3 raises what is no record's fault."""

from __future__ import annotations

from collections.abc import Sequence

from agents.crm_sink import sink
from pipeline.app import app
from pipeline.batches import Fatal
from pipeline.sinks import AcceptedLead, Checkpoint

__all__ = ["app"]

PARTITION = 3

_write = sink.write


async def write(leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
    """Write, but never in this partition."""
    if any(lead.partition == PARTITION for lead in leads):
        raise Fatal("the disk of the CRM is on fire")
    return await _write(leads, checkpoint)


sink.write = write  # type: ignore[method-assign]
