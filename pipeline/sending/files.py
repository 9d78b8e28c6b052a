"""A file of leads, JSON lines or CSV, as numbered leads and refusals. Pure but for reading the stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import PurePath
from typing import Any, Literal

import msgspec

from pipeline.lead import InvalidLead, LeadTooLarge, parse
from pipeline.sending.entry import BadFile, Numbered, Refused, named
from pipeline.sending.rows import read_csv
from pipeline.sending.source import Line, Source

__all__ = ["FORMATS", "Format", "format_of_name", "read"]

Format = Literal["jsonl", "csv"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv")

_FORMAT_OF_SUFFIX: dict[str, Format] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv"}


class _Given(msgspec.Struct):
    """Members whose absence cannot be seen in the lead, because it gets them anyhow."""

    message_id: Any = None
    captured_at: Any = None


_given = msgspec.json.Decoder(_Given)


def format_of_name(name: str) -> Format | None:
    """The format that the name of a file tells, whether `.gz` follows or not; None when it does not tell."""
    return _FORMAT_OF_SUFFIX.get(PurePath(name.lower().removesuffix(".gz")).suffix)


def read(source: Source, file_format: Format | None = None) -> Iterator[Numbered | Refused]:
    """The leads of a file in their order, and what is refused of it.

    A lead without a message id gets one that follows from its content.

    Arguments:
        file_format: None: JSON lines when the first character is `{`, else CSV.

    Raises:
        BadFile: the file as a whole is not what it should be; what came before may be used.
        Unreadable: the system does not give it.
    """
    lines = source.lines()
    first = next((line for line in lines if not line.is_blank), None)
    if first is None:
        return
    start = first.text.lstrip()[:1]
    if start == b"[" and file_format != "csv":
        raise BadFile("It holds a JSON array: write one object per line, without brackets and commas around them.")
    if first.text.strip() == b"{" and file_format != "csv":
        raise BadFile("It holds JSON laid out over several lines: write one object per line, as `jq -c .` does.")
    if file_format is None:
        file_format = "jsonl" if start == b"{" else "csv"
    if file_format == "csv":
        yield from read_csv(first, lines)
    else:
        yield from (_json_line(line) for line in chain([first], lines) if not line.is_blank)


def _json_line(line: Line) -> Numbered | Refused:
    try:
        if not line.is_whole:
            raise LeadTooLarge
        text = line.text.strip()
        lead = parse(text)
    except InvalidLead as error:
        return Refused(line.number, str(error))
    given = _given.decode(text)
    if given.message_id is None:
        lead = named(lead, with_time=given.captured_at is not None)
    return Numbered(line.number, lead)
