"""What the entries of the tables say, for people and programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from pipeline.dead_letters import unpack
from pipeline.dedupe import Seen
from pipeline.lead import name_flaw
from pipeline.topics import DEAD_LETTER
from pipeline.web.pages import Link

__all__ = ["entry_row", "letters_entry", "letters_rows", "seen_entry"]


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
    """An entry of `dead-letters`: the last letter of each topic that a record of this key was in."""
    letters = [
        {
            "reason": letter.reason,
            "group": letter.group,
            "topic": letter.topic,
            "partition": letter.partition,
            "offset": letter.offset,
            "letter": {"partition": letter.letter_partition, "offset": letter.letter_offset},
            "time": _time(letter.time_ms),
        }
        for letter in unpack(value).values()
    ]
    return {"letters": letters}


def entry_row(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of any table for people: its key leads to the status of the lead."""
    return {**entry, "key": _status_link(entry["key"]), "time": _short(entry["time"])}


def letters_rows(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """An entry of `dead-letters` for people: a row for each letter, why, of which record, and where it stands."""
    return [
        {
            "key": _status_link(entry["key"]),
            "reason": letter["reason"],
            "group": letter["group"],
            "record": f"{letter['topic']}/{letter['partition']} at {letter['offset']}",
            "letter": f"{DEAD_LETTER}/{letter['letter']['partition']} at {letter['letter']['offset']}",
            "time": _short(letter["time"]),
            "owner": entry["owner"],
        }
        for letter in entry["letters"]
    ]


def _status_link(key: str) -> Link | str:
    tenant, _, message_id = key.partition("/")
    if name_flaw(tenant, message_id):
        return key
    return Link(key, f"/leads/{tenant}/{quote(message_id, safe='')}")


def _short(time: str) -> str:
    """RFC 3339 in UTC, as people read it."""
    return f"{time[:10]} {time[11:19]} UTC"


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
