"""How far a consumer group has come in a topic: lag, losses, and how both are told (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["GroupPosition", "PartitionPosition"]


@dataclass(frozen=True)
class PartitionPosition:
    """Where a group stands in one partition. Every offset is the next one: to read, or to be appended.

    Attributes:
        partition: its number.
        log_start: the oldest offset that is still there; None when no broker leads the partition now.
        log_end: the next offset to be appended; None likewise.
        committed: the next offset to read; None when nothing was committed.
        owner: who reads it now; None when nobody does.
        oldest_pending_age_s: seconds since the oldest record to read was appended; None when there is none, or when it
            could not be fetched in time.
    """

    partition: int
    log_start: int | None
    log_end: int | None
    committed: int | None
    owner: str | None = None
    oldest_pending_age_s: float | None = None

    @property
    def next_offset(self) -> int | None:
        """The first offset that is still there to be read; None without a leader."""
        if self.log_start is None:
            return None
        return self.log_start if self.committed is None else max(self.log_start, self.committed)

    @property
    def lag(self) -> int | None:
        """Offsets from the next one to the end of the log; None without a leader."""
        if self.log_end is None or self.next_offset is None:
            return None
        return max(0, self.log_end - self.next_offset)

    @property
    def lost(self) -> int:
        """Offsets that were not read and are no longer there."""
        if self.committed is None or self.log_start is None:
            return 0
        return max(0, self.log_start - self.committed)

    @property
    def is_beyond_end(self) -> bool:
        """Whether the committed offset is behind the end of the log, so that it belongs to another log."""
        return self.committed is not None and self.log_end is not None and self.committed > self.log_end

    def as_json(self) -> dict[str, Any]:
        """The members of the JSON object; ages are rounded to milliseconds."""
        return {
            "partition": self.partition,
            "log_start": self.log_start,
            "log_end": self.log_end,
            "committed": self.committed,
            "lag": self.lag,
            "oldest_pending_age_s": _rounded(self.oldest_pending_age_s),
            "owner": self.owner,
            "lost": self.lost,
        }


@dataclass(frozen=True)
class GroupPosition:
    """Where a group stands in one topic.

    Attributes:
        topic: its name.
        group: the consumer group.
        state: of the group, in Kafka's words, such as Stable, PreparingRebalance, Empty (no members) or Dead (unknown).
        members: how many it has.
        partitions: all partitions of the topic, by number.
    """

    topic: str
    group: str
    state: str
    members: int
    partitions: Sequence[PartitionPosition]

    @property
    def lag(self) -> int:
        """The sum over the partitions that have a leader."""
        return sum(one.lag or 0 for one in self.partitions)

    @property
    def oldest_pending_age_s(self) -> float | None:
        """Of all partitions the oldest, in seconds."""
        return max((a for one in self.partitions if (a := one.oldest_pending_age_s) is not None), default=None)

    def warnings(self, app_id: str) -> list[str]:
        """What does not go away by waiting, each a sentence with what to do.

        Args:
            app_id: the group for which `leads skip` works as it is.
        """
        return [text for one in self.partitions if (text := self._warning(one, app_id))]

    def as_json(self, app_id: str) -> dict[str, Any]:
        """The members of the JSON object."""
        return {
            "topic": self.topic,
            "group": self.group,
            "state": self.state,
            "members": self.members,
            "lag": self.lag,
            "oldest_pending_age_s": _rounded(self.oldest_pending_age_s),
            "partitions": [one.as_json() for one in self.partitions],
            "warnings": self.warnings(app_id),
        }

    def _warning(self, one: PartitionPosition, app_id: str) -> str | None:
        where = f"{self.topic}/{one.partition}"
        if one.log_end is None or one.next_offset is None:
            return f"{where} has no leader: the brokers that hold it are down."
        environ = "" if self.group == app_id else f"LEADS_APP_ID={self.group} "
        skip = f"{environ}leads skip {self.topic} {one.partition} {one.log_start}"
        if one.lost:
            return (
                f"{where}: offsets {one.committed} to {one.next_offset - 1} are lost, retention deleted them before "
                f"{self.group} read them. Its workers refuse to go on; accept the loss with `{skip}`."
            )
        if one.is_beyond_end:
            return (
                f"{where}: {self.group} committed {one.committed} and the log ends at {one.log_end}, so it is another "
                f"log. Its workers refuse to go on; read this one from its start with `{skip}`."
            )
        return None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
