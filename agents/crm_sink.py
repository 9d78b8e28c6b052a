"""Agent `crm_sink`: lead-accepted in, a row in the CRM out."""

from __future__ import annotations

from pipeline.accepting import accept
from pipeline.app import app, settings
from pipeline.batches import Batch, BugCount, Fatal, LetGo, Refused
from pipeline.circuit import SinkHealth
from pipeline.dead_letters import REJECTED, dead_letter
from pipeline.delivery import deliver
from pipeline.positions import SinkPositions
from pipeline.settings import EXACTLY_ONCE
from pipeline.sinks import AcceptedLead, Sink, SinkUnavailable, sink_for
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


@app.batch_agent(app.batch_topic(ACCEPTED), name="crm_sink", positions=positions.begin if positions else None)
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

    try:
        at = await deliver(
            sink, leads, checkpoint=checkpoint, dead_letter=rejected, pause=batch.epoch.pause, health=health
        )
    except (LetGo, Fatal):
        raise
    except Exception as error:
        # The sink names the records that it cannot write; anything else is no record's fault.
        raise Fatal(f"The sink {type(sink).__name__} raised {type(error).__name__}") from error
    if positions and at:
        positions.stands(batch.tp, at)


@app.task
async def open_sink() -> None:
    """Create the database at start, so that a missing one shows before the first lead."""
    try:
        await sink.open()
    except SinkUnavailable as error:
        health.unavailable(str(error))


@app.on_before_shutdown.connect
async def close_sink(sender: object, **kwargs: object) -> None:
    """Close the database after the last batch."""
    await sink.close()
