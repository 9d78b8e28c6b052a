"""Agent `dead_letters`: lead-dead-letter in; the table of this name learns which leads are there."""

from __future__ import annotations

from pipeline.app import app, settings
from pipeline.batches import Batch
from pipeline.dead_letters import remember
from pipeline.topics import CAPTURED, DEAD_LETTER
from tables.dead_letters import dead_letters as table

__all__ = ["dead_letters"]


@app.batch_agent(app.batch_topic(DEAD_LETTER), name="dead_letters")
async def dead_letters(batch: Batch) -> None:
    """Remember the letters of the batch."""
    known = table.known(batch.tp.partition, (record.key for record in batch.records))
    learned = remember(batch.records, known, group=settings.app_id, common_topic=CAPTURED)
    table.put_acknowledged(batch, await table.log_many(batch, learned))
