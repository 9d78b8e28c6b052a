"""Which dead letters are meant (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.letters.found import DeadLetter
from pipeline.values import duration_s

__all__ = ["Filters", "moment_ms"]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a dead letter must be; None, or no reasons, is any.

    Attributes:
        reasons: one of these.
        tenant: of this tenant.
        key: of the lead with this record key.
        since_ms, until_ms: appended at this time of the broker or later, and before that one.
        group: written by this consumer group.
    """

    reasons: frozenset[str] = frozenset()
    tenant: str | None = None
    key: bytes | None = None
    since_ms: float | None = None
    until_ms: float | None = None
    group: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether every letter matches."""
        return self == Filters()

    def match(self, one: DeadLetter) -> bool:
        """Whether the letter is meant."""
        at_ms = one.letter.time_ms
        return (
            (not self.reasons or one.letter.reason in self.reasons)
            and (self.group is None or one.letter.group == self.group)
            and (self.since_ms is None or at_ms >= self.since_ms)
            and (self.until_ms is None or at_ms < self.until_ms)
            and (self.key is None or one.key == self.key)
            and (self.tenant is None or (one.name is not None and one.name[0] == self.tenant))
        )


def moment_ms(text: str, now_s: float) -> float:
    """Milliseconds since the epoch of a time in ISO 8601, in UTC unless it says otherwise, or of a duration ago.

    Raises:
        ValueError: it is neither; the text says what to write.
    """
    try:
        return (now_s - duration_s(text)) * 1000
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, OverflowError):
        raise ValueError(
            "write a time in ISO 8601, such as 2026-01-31T12:00:00Z, or how long ago, such as 2h"
        ) from None
