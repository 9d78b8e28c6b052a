"""What the producer has written down of what the broker acknowledged, see `steady`; read while it is being written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.lab.compare_measures import Accepted

__all__ = ["Journal"]


class Journal:
    """A journal that need not be there yet.

    Args:
        path: where it is.
        name: makes the key of a lead's number.
    """

    def __init__(self, path: Path, name: Callable[[int], str]) -> None:
        self.path = path
        self._name = name
        self._read_bytes = 0
        self._accepted: dict[str, Accepted] = {}

    def accepted(self) -> dict[str, Accepted]:
        """Every lead that it has by now, by key. A line that is being written is left for the next time."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read_bytes)
                lines, _, _ = file.read().rpartition(b"\n")
            for line in lines.splitlines():
                number, partition, offset, time_ms, acknowledged_us = map(int, line.split())
                acknowledged_s = acknowledged_us / 1_000_000
                self._accepted[self._name(number)] = Accepted(partition, offset, time_ms / 1000, acknowledged_s)
            self._read_bytes += len(lines) + 1 if lines else 0
        return self._accepted
