"""Which records of `lead-captured` are meant (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Range", "runs"]

#: Between two records that are wanted: fewer are read rather than skipped.
GAP_MAX_OFFSETS = 2_000


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a record must be; None is any.

    Attributes:
        partition: in this one.
        start, end: at this offset or behind it, and before that one.
        since_ms, until_ms: appended at this time of the broker or later, and before that one.
    """

    partition: int | None = None
    start: int | None = None
    end: int | None = None
    since_ms: float | None = None
    until_ms: float | None = None

    @property
    def is_everything(self) -> bool:
        """Whether every record is meant."""
        return self == Range()

    def within(self, start: int, end: int, *, since: int | None, until: int | None) -> tuple[int, int]:
        """The first offset of a log from `start` to `end` that is meant, and the one behind the last.

        Args:
            since, until: the offsets of the first records at `since_ms` and `until_ms` or later; None: there is none.
        """
        first = max(start, self.start or 0)
        if self.since_ms is not None:
            first = max(first, end if since is None else since)
        last = end if self.end is None else min(end, self.end)
        if self.until_ms is not None and until is not None:
            last = min(last, until)
        return min(first, end), max(min(first, end), last)


def runs(offsets: Sequence[int]) -> list[tuple[int, int]]:
    """From where to before where to read in order to meet all of `offsets`, which are in order."""
    found: list[tuple[int, int]] = []
    for offset in offsets:
        if found and offset - found[-1][1] < GAP_MAX_OFFSETS:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found
