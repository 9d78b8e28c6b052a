"""Table `seen`: the first event of every message id, for as long as the dedupe window.

Key: `tenant/message_id`, the bytes of the record key, so that a key's owner is found as its record's partition is.
Value: `pipeline.dedupe.Seen`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.app import app, settings
from pipeline.batches import BatchTable

__all__ = ["known", "seen"]

seen = BatchTable(app, name="seen", partitions=settings.partitions)
app.tables.add(seen)


def known(partition: int, keys: Iterable[bytes | None]) -> dict[bytes, bytes]:
    """The entries of those of `keys` that are in the table."""
    asked = list({key for key in keys if key is not None})
    return {key: value for key, value in zip(asked, seen.get_many(partition, asked), strict=True) if value is not None}
