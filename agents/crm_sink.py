"""Agent `crm_sink`: lead-accepted in, a row in the CRM out."""

from __future__ import annotations

from pipeline.app import app, settings
from pipeline.batches import Batch, Fatal, LetGo, Refused
from pipeline.dead_letters import INVALID, REJECTED, dead_letter
from pipeline.delivery import SinkHealth, deliver
from pipeline.lead import InvalidLead, decode
from pipeline.sinks import AcceptedLead, Sink, SinkUnavailable, sink_for
from pipeline.topics import ACCEPTED, DEAD_LETTER

__all__ = ["crm_sink", "health", "sink"]


def _sink() -> Sink:
    try:
        return sink_for(settings.crm_url)
    except ValueError as error:
        app.refuse(Refused(f"LEADS_SINK_URL cannot be used: {error}."))


sink = _sink()
health = SinkHealth()


@app.batch_agent(app.batch_topic(ACCEPTED), name="crm_sink")
async def crm_sink(batch: Batch) -> None:
    """Write every lead of the batch, or dead-letter it. Dead letters first: they may be repeated, never lost."""
    leads = []
    for record in batch.records:
        try:
            leads.append(AcceptedLead(decode(record.value), record.partition, record.offset, record.timestamp))
        except InvalidLead as error:
            await _to_dead_letters(batch, record, INVALID, str(error))
    by_offset = {record.offset: record for record in batch.records}

    async def rejected(lead: AcceptedLead, reason: str) -> None:
        await _to_dead_letters(batch, by_offset[lead.offset], REJECTED, reason)

    try:
        await deliver(sink, leads, dead_letter=rejected, pause=batch.epoch.pause, health=health)
    except (LetGo, Fatal):
        raise
    except Exception as error:
        # The sink names the records that it cannot write; anything else is no record's fault.
        raise Fatal(f"The sink {type(sink).__name__} raised {type(error).__name__}") from error


async def _to_dead_letters(batch: Batch, record: object, reason: str, detail: str) -> None:
    letter = dead_letter(record, group=settings.app_id, reason=reason, detail=detail)
    await app.appender.append(batch, DEAD_LETTER, [letter])


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
