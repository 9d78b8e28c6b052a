"""Agent `crm_sink`: lead-accepted in, a row in the CRM out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from faust.types import TP

from pipeline.accepting import accept
from pipeline.app import app, settings
from pipeline.batches import Batch, BugCount, Epoch, Fatal, LetGo, Log, Refused
from pipeline.circuit import SinkHealth, patiently
from pipeline.dead_letters import REJECTED, dead_letter
from pipeline.delivery import deliver
from pipeline.positions import SinkPositions
from pipeline.settings import EXACTLY_ONCE
from pipeline.showing import without_secrets
from pipeline.sinks import AcceptedLead, Sink, SinkUnavailable, SinkUnusable, sink_for
from pipeline.topics import ACCEPTED, DEAD_LETTER

__all__ = ["crm_sink", "health", "sink"]


def _sink() -> Sink:
    try:
        return sink_for(
            settings.crm_url,
            password=settings.sink_password,
            # A worker that is stopped must not hold up who takes over from it.
            lock_timeout_s=settings.session_timeout_s / 2,
        )
    except ValueError as error:
        app.refuse(Refused(f"LEADS_SINK_URL cannot be used: {error}."))


sink = _sink()
health = SinkHealth()
bugs = BugCount()
#: None at least once: then Kafka keeps the offsets.
positions = SinkPositions(sink, settings.app_id, health) if settings.guarantee == EXACTLY_ONCE else None


class CRMUnusable(Fatal, Refused):
    """The CRM cannot be written before somebody mends it; a restart then goes on where this worker stopped."""

    def __init__(self, error: SinkUnusable) -> None:
        where = without_secrets(settings.crm_url)
        super().__init__(
            f"The CRM {where} cannot be used: {error}. Mend it, or set LEADS_SINK_URL to another. Nothing is lost: "
            "what was not written was not acknowledged.",
            status=os.EX_DATAERR,
        )


@contextmanager
def _no_records_fault() -> Iterator[None]:
    """The sink names the records that it cannot write; any other error ends the worker."""
    try:
        yield
    except (LetGo, Fatal, Refused, SinkUnavailable):
        raise
    except SinkUnusable as error:
        raise CRMUnusable(error) from None
    except Exception as error:
        raise Fatal(f"The sink {type(sink).__name__} raised {type(error).__name__}") from error


async def _begin(log_id: bytes, logs: Mapping[TP, Log], epoch: Epoch) -> Mapping[TP, int]:
    assert positions is not None
    with _no_records_fault():
        return await positions.begin(log_id, logs, epoch)


@app.batch_agent(app.batch_topic(ACCEPTED), name="crm_sink", positions=_begin if positions else None)
async def crm_sink(batch: Batch) -> None:
    """Write every lead of the batch, or dead-letter it. Dead letters first: they may be repeated, never lost."""
    records = positions.unwritten(batch) if positions else batch.records
    checkpoint = positions.checkpoint(batch) if positions else None
    leads, unfit = accept(records, bugs)
    letters = [dead_letter(r, group=settings.app_id, reason=why, detail=what) for r, why, what in unfit]
    await app.appender.append(batch, DEAD_LETTER, letters)
    by_offset = {record.offset: record for record in records}

    async def rejected(lead: AcceptedLead, reason: str) -> None:
        letter = dead_letter(by_offset[lead.offset], group=settings.app_id, reason=REJECTED, detail=reason)
        await app.appender.append(batch, DEAD_LETTER, [letter])

    with _no_records_fault():
        at = await deliver(
            sink, leads, checkpoint=checkpoint, dead_letter=rejected, pause=batch.epoch.pause, health=health
        )
    if positions and at:
        positions.stands(batch.tp, at)


@app.task
async def open_sink() -> None:
    """Create the database at start, so that a missing one shows before the first lead, and nobody is told that this
    worker is ready before its tables are there.
    """
    try:
        with _no_records_fault():
            await patiently(sink.open, pause=asyncio.sleep, health=health)
    except CRMUnusable as error:
        app.refuse(error)


@app.on_before_shutdown.connect
async def close_sink(sender: object, **kwargs: object) -> None:
    """Close the database after the last batch."""
    await sink.close()
