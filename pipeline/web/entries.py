"""What the entries of the tables say, for people and programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pipeline.dead_letters import unpack
from pipeline.dedupe import Seen

__all__ = ["letters_entry", "seen_entry"]


def seen_entry(value: bytes) -> dict[str, Any]:
    """An entry of `seen`: the first event of an id, and how often it has come."""
    entry = Seen.unpack(value)
    return {
        "offset": entry.offset,
        "time": _time(entry.time_ms),
        "times_received": entry.times,
        "conflicts": entry.conflicts,
        "content_hash": entry.digest.hex(),
    }


def letters_entry(value: bytes) -> dict[str, Any]:
    """An entry of `dead-letters`: the last letter of each topic."""
    letters = [
        {
            "reason": letter.reason,
            "group": letter.group,
            "topic": letter.topic,
            "offset": letter.offset,
            "letter": {"partition": letter.letter_partition, "offset": letter.letter_offset},
            "time": _time(letter.time_ms),
        }
        for letter in unpack(value).values()
    ]
    return {"letters": letters}


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
