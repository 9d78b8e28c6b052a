"""RocksDB refuses the first entries that a recovery applies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.app import app
from pipeline.batches import Fatal
from pipeline.batches.store import BatchStore

__all__ = ["app"]


def apply(self: BatchStore, partition: int, records: Sequence[Any], next_offset: int, *, is_logged: bool) -> None:
    """Write nothing."""
    raise Fatal("IO error: no space left on device")


# Of the class: the store of the table is made when it is first used, in the directory that is known by then.
BatchStore.apply = apply  # type: ignore[method-assign]
