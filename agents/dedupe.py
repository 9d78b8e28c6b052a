"""Agent `dedupe`: lead-captured in, each new lead once to lead-accepted."""

from __future__ import annotations

from pipeline.app import app, settings
from pipeline.batches import Batch, together
from pipeline.dead_letters import dead_letter
from pipeline.dedupe import decide
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER
from tables.seen import seen

__all__ = ["dedupe"]


@app.batch_agent(app.batch_topic(CAPTURED), name="dedupe")
async def dedupe(batch: Batch) -> None:
    """Forward what is new, dead-letter what is no lead. The table learns last: it never runs ahead of the log."""
    entries = seen.known(batch.tp.partition, (record.key for record in batch.records))
    decision = decide(batch.records, entries, window_ms=settings.dedupe_window * 1000)
    accepted = [(record.key, record.value, record.headers) for record in decision.forward]
    rejected = [dead_letter(r, group=settings.app_id, reason=why, detail=what) for r, why, what in decision.rejected]
    logged, *_ = await together(
        seen.log_many(batch, decision.learned),
        app.appender.append(batch, ACCEPTED, accepted),
        app.appender.append(batch, DEAD_LETTER, rejected),
    )
    seen.put_acknowledged(batch, logged)
