"""Sends what is missing to `lead-accepted` again, as it was captured.

Not to `lead-captured`, where `seen` would drop a repeat. The key of the CRM drops what is there already, so that it is
harmless to mend twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.lead import InvalidLead, decode, key
from pipeline.letters.originals import BATCH_MAX_LEADS, BATCH_SIZE_MAX_BYTES, Append, Original

__all__ = ["Mended", "mend", "why_not"]


@dataclass
class Mended:
    """What was sent."""

    #: Records that are acknowledged, or would be sent.
    sent: int = 0
    #: Records that sending does not help, by the reason why.
    skipped: Counter[str] = field(default_factory=Counter)

    def count(self) -> None:
        """One more is sent."""
        self.sent += 1


def why_not(record: Any) -> str | None:
    """Why it does not help to send this record of `lead-captured`; None when it does.

    What is no lead is sent: whoever writes the CRM dead-letters it.
    """
    if record.key is None and record.value is None:
        return "it has neither key nor value"
    try:
        return None if key(decode(record.value)) == record.key else "its key is not tenant/message_id"
    except InvalidLead:
        return None


async def mend(records: AsyncIterator[Sequence[Any]], append: Append, mended: Mended) -> None:
    """Append these records of `lead-captured`; `append` counts what is acknowledged.

    Raises:
        KafkaError: a broker does not answer, or takes none.
    """
    batch: list[Original] = []
    size_bytes = 0
    async for some in records:
        for one in some:
            if (why := why_not(one)) is not None:
                mended.skipped[why] += 1
                continue
            batch.append(Original(one.partition, one.key, one.value, one.headers))
            size_bytes += len(one.value or b"")
            if len(batch) >= BATCH_MAX_LEADS or size_bytes >= BATCH_SIZE_MAX_BYTES:
                await append(batch)
                batch, size_bytes = [], 0
    if batch:
        await append(batch)
