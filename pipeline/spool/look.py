"""What can be asked of a spool from outside, by any process and at any time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from pipeline.spool.file import reading, translated

__all__ = ["Waiting", "holds", "look"]

_LOOK = "SELECT (SELECT depth FROM tally), id, spooled_at_ms FROM lead ORDER BY id LIMIT 1"
_HOLDS = "SELECT EXISTS (SELECT 1 FROM lead WHERE key = ?)"


class Waiting(NamedTuple):
    """What waits in a spool: how many leads, the id of the oldest, and for how many seconds that one waits."""

    depth: int = 0
    head: int | None = None
    age_s: float = 0.0


def look(path: Path) -> Waiting:
    """What waits in the spool at `path`: nothing where there is none. Takes as long for many as for one.

    Raises:
        SpoolError: it cannot be read.
    """
    with translated():
        if not path.exists():
            return Waiting()
        with reading(path) as connection:
            row = connection.execute(_LOOK).fetchone()
    if row is None:
        return Waiting()
    depth, head, since_ms = row
    return Waiting(depth, head, max(0.0, time.time() - since_ms / 1000))


def holds(path: Path, key: bytes) -> bool:
    """Whether a lead with this record key waits in the spool at `path`.

    Raises:
        SpoolError: it cannot be read.
    """
    with translated():
        if not path.exists():
            return False
        with reading(path) as connection:
            [found] = connection.execute(_HOLDS, (key,)).fetchone()
    return bool(found)
