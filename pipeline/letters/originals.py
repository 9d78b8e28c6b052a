"""Records that were captured once, as they are sent to `lead-accepted` again (pure)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

__all__ = ["BATCH_MAX_LEADS", "BATCH_SIZE_MAX_BYTES", "Append", "Original"]

#: On the way at any time: at most so many, or one more than so many bytes.
BATCH_MAX_LEADS = 500
BATCH_SIZE_MAX_BYTES = 1024 * 1024


class Original(NamedTuple):
    """A record as it was captured, and the number of its partition."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


#: Appends records; returns when all are acknowledged.
Append = Callable[[Sequence[Original]], Awaitable[None]]
