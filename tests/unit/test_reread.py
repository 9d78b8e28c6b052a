"""Too much is not read again beside the work."""

from __future__ import annotations

from faust.types import TP

from pipeline.batches.reread import REREAD_MAX, reread


async def test_too_much_is_left_to_the_next_recovery() -> None:
    assert await reread(None, TP("changelog", 0), 5, 5 + REREAD_MAX + 1) is None
