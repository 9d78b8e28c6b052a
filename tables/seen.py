"""Table `seen`: the first event of every message id, for as long as the dedupe window.

Key: `tenant/message_id`, the bytes of the record key, so that a key's owner is found as its record's partition is.
Value: `pipeline.dedupe.Seen`.
"""

from __future__ import annotations

import time

from pipeline.app import app, settings
from pipeline.batches import BatchTable
from pipeline.dedupe import Seen

__all__ = ["seen"]

#: Entries are kept that much longer than the window, because the clock here need not be the broker's.
CLOCK_SLACK_S = 3600.0

seen = BatchTable(app, name="seen", partitions=settings.partitions)
app.tables.add(seen)


@app.timer(interval=max(60.0, settings.dedupe_window / 24))
async def sweep() -> None:
    """Forget, on the local disk, what is older than the window."""
    oldest_ms = (time.time() - settings.dedupe_window - CLOCK_SLACK_S) * 1000
    await seen.sweep(lambda value: Seen.unpack(value).time_ms < oldest_ms)
