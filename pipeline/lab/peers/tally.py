"""What a peer has done so far, where the benchmark can see it without asking anybody: a file of eight bytes.

To count the rows of a table that has no number would walk through it, and a table that is being altered would keep
whoever counts waiting.
"""

from __future__ import annotations

import os
from pathlib import Path
from struct import Struct

__all__ = ["Tally", "tallied"]

_COUNT = Struct("<q")


class Tally:
    """Counts, from `begin` on, in the file at `path`, which must not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0
        self._file = -1

    def begin(self) -> None:
        """The first record has come."""
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self.add(0)

    def add(self, count: int) -> None:
        """So many more results are there."""
        self._count += count
        os.pwrite(self._file, _COUNT.pack(self._count), 0)


def tallied(path: Path) -> int | None:
    """How many results are there; None before the first record has come."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    # Between its creation and its first count it is empty.
    return int(_COUNT.unpack(content)[0]) if content else 0
