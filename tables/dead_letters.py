"""Table `dead-letters`: which leads are in `lead-dead-letter`, and why; for whoever asks what became of one.

Key: `tenant/message_id`, as in `seen`. Value: `pipeline.dead_letters.pack`.
"""

from __future__ import annotations

import time

from pipeline.app import app, settings
from pipeline.batches import BatchTable
from pipeline.dead_letters import unpack

__all__ = ["dead_letters"]

dead_letters = BatchTable(app, name="dead-letters", partitions=settings.partitions)
app.tables.add(dead_letters)


@app.timer(interval=max(60.0, settings.retention / 24))
async def sweep() -> None:
    """Forget, on the local disk, letters that the topic does not have any more."""
    oldest_ms = (time.time() - settings.retention) * 1000
    await dead_letters.sweep(lambda value: max(letter.time_ms for letter in unpack(value).values()) < oldest_ms)
