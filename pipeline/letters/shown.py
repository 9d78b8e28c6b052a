"""Dead letters for people and programs (pure). What anybody may have sent cannot drive a terminal."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from pipeline.dead_letters import BUG
from pipeline.letters.found import DeadLetter
from pipeline.showing import printable
from pipeline.topic_names import DEAD_LETTER

__all__ = ["as_json", "header", "in_full", "in_full_as_json", "line"]

DETAIL_MAX_CHARS = 80

_WIDTHS = (19, 11, 9, 23, 12, 24)
_FRAME = re.compile(r'^  File "(?:[^"\n]*[/\\])?([\w.<>-]{1,60})", line (\d+), in ([\w.<>]{1,60})$', re.MULTILINE)


def header() -> str:
    """What stands in the columns of `line`."""
    return _columns("TIME (UTC)", "REASON", "LETTER", "ORIGIN", "GROUP", "LEAD", "DETAIL")


def line(one: DeadLetter) -> str:
    """One line: when, why, where it stands, where from, whose, and what about it. Nothing of the lead but its name."""
    letter = one.letter
    name = "/".join(one.name) if one.name else "–"
    return _columns(
        _time(letter.time_ms, "seconds").removesuffix("Z").replace("T", " "),
        letter.reason,
        f"{letter.letter_partition} {letter.letter_offset}",
        f"{letter.topic} {letter.partition} {letter.offset}",
        letter.group,
        name,
        _short(one),
    )


def as_json(one: DeadLetter) -> dict[str, Any]:
    """The members of a JSON object that says the same."""
    letter, (tenant, message_id) = one.letter, one.name or (None, None)
    return {
        "time": _time(letter.time_ms, "milliseconds"),
        "reason": letter.reason,
        "tenant": tenant,
        "message_id": message_id,
        "group": letter.group,
        "origin": {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset},
        "letter": {"partition": letter.letter_partition, "offset": letter.letter_offset},
        "detail": _short(one),
    }


def in_full(one: DeadLetter) -> str:
    """Everything that the letter has, in lines: JSON is laid out, other bytes are escaped."""
    letter = one.letter
    lines = [
        f"{DEAD_LETTER} {letter.letter_partition} {letter.letter_offset}, {_time(letter.time_ms, 'milliseconds')}",
        f"reason   {letter.reason}",
        f"origin   {letter.topic} {letter.partition} {letter.offset}, read by the group {letter.group}",
        f"key      {_text(one.key)}",
        *(f"header   {name}: {_text(value)}" for name, value in one.headers),
    ]
    detail = one.detail.splitlines() or [""]
    return "\n".join([*map(printable, lines), *_details(detail), "value", _laid_out(one.value)])


def in_full_as_json(one: DeadLetter) -> dict[str, Any]:
    """The members of a JSON object with everything; what is not UTF-8 is an object with its base64."""
    return {
        **as_json(one),
        "detail": one.detail,
        "key": _as_json(one.key),
        "value": _as_json(one.value),
        "headers": [[name, _as_json(value)] for name, value in one.headers],
    }


def _columns(*cells: str) -> str:
    padded = [f"{printable(cell):<{width}}" for cell, width in zip(cells, _WIDTHS, strict=False)]
    return "  ".join([*padded, *map(printable, cells[len(_WIDTHS) :])]).rstrip()


def _short(one: DeadLetter) -> str:
    if one.letter.reason != BUG:
        return (one.detail.splitlines() or [""])[0][:DETAIL_MAX_CHARS]
    # Where, and not what: the text of an exception may hold the value that it is about.
    frames = _FRAME.findall(one.detail)
    return "{} line {}, in {}".format(*frames[-1]) if frames else ""


def _details(detail: list[str]) -> list[str]:
    if len(detail) == 1:
        return [printable(f"detail   {detail[0]}")]
    return ["detail", *(printable(f"  {one}") for one in detail)]


def _time(at_ms: int, timespec: str) -> str:
    try:
        at = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{at_ms} ms"  # a time that no calendar has: it is a client's
    return at.isoformat(timespec=timespec).replace("+00:00", "Z")


def _laid_out(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        # The text itself, not what a parser makes of it: no member given twice is dropped, no number rounded.
        text = msgspec.json.format(value, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _escaped(value)
    return "\n".join(map(printable, text.split("\n")))


def _text(value: bytes | None) -> str:
    if value is None:
        return "(none)"
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _escaped(value)


def _escaped(value: bytes) -> str:
    return value.decode("latin-1").encode("unicode_escape").decode()


def _as_json(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
