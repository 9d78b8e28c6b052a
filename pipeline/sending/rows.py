"""CSV: a header that names the members of a lead in any usual spelling, and a lead in each row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from pipeline.lead import InvalidLead, Lead, parse
from pipeline.sending.entry import BadFile, Numbered, Refused, named
from pipeline.sending.source import LINE_SIZE_MAX_BYTES, Line

__all__ = ["read_csv"]

_DELIMITERS = ",;\t|"

#: "Message ID", "message-id" and "messageId" are the same name, and "E-Mail" is `email`.
_MEMBERS = {name.replace("_", ""): name for name in Lead.__struct_fields__}


def read_csv(first: Line, lines: Iterator[Line]) -> Iterator[Numbered | Refused]:
    """The leads of a CSV file whose first line with content is `first`; `lines` are the others.

    Raises:
        BadFile: the header cannot be used, or a row does not end within `LINE_SIZE_MAX_BYTES`.
    """
    feed = _Feed(first, lines)
    delimiter = _delimiter(_text(first))
    # Strict: a stray quote makes a refused row, not a cell that has swallowed the next ones.
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    columns = _header(rows)
    while True:
        feed.begin()
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield Refused(feed.first, "is not CSV; look at its quotes and line ends", feed.last)
            continue
        if any(cell and not cell.isspace() for cell in cells):
            yield _row(feed.first, columns, cells)


class _Feed:
    """The lines for csv, with the numbers of those that the current row is made of, and a bound for a row.

    A row is not gone on after where it is too large: if a cell is what is too large, its next line would be read as
    a row, and half a sentence become somebody's email address.
    """

    def __init__(self, first: Line, lines: Iterator[Line]) -> None:
        self._ahead: Line | None = first
        self._lines = lines
        self._size_bytes = 0
        self.first = self.last = first.number

    def begin(self) -> None:
        """The next line begins a row."""
        self._size_bytes = 0
        self.first = self.last + 1

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line, self._ahead = self._ahead or next(self._lines), None
        self.last = line.number
        self._size_bytes += len(line.text)
        if not line.is_whole or self._size_bytes > LINE_SIZE_MAX_BYTES + len("\r\n"):
            raise BadFile(
                f"The row that begins in line {self.first} has more than {LINE_SIZE_MAX_BYTES // 1024} KiB. "
                "Is there a quote that is not closed? What follows was not read."
            )
        return _text(line)


def _text(line: Line) -> str:
    # What is not UTF-8 is kept apart for the row that it is in; quotes and delimiters are ASCII and stand as they are.
    return line.text.decode("utf-8", "surrogateescape")


def _delimiter(header: str) -> str:
    """Under which of the delimiters the header has the most members of a lead, then the most columns."""

    def columns(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([header], delimiter=delimiter), [])
        return sum(_member(name) is not None for name in names), len(names)

    try:
        return max(_DELIMITERS, key=columns)
    except csv.Error:
        return ","


def _header(rows: Iterator[list[str]]) -> list[str]:
    try:
        names = next(rows)
    except (csv.Error, StopIteration):
        raise BadFile("Its header is not CSV; look at its quotes and line ends.") from None
    if any(_is_broken(name) for name in names):
        raise BadFile("Its header is not UTF-8. Save the file as UTF-8.")
    columns = [_member(name) or name.strip() for name in names]
    _check(columns)
    return columns


def _check(columns: Sequence[str]) -> None:
    # By their numbers: a file without a header has somebody's address where the names should be.
    seen: dict[str, int] = {}
    for number, name in enumerate(columns, 1):
        if name and name in seen:
            raise BadFile(f"Columns {seen[name]} and {number} have the same name. Rename or remove one.")
        seen[name] = number
    if "email" not in seen and "phone" not in seen:
        raise BadFile(
            "Its first line names neither a column email nor phone. CSV needs a header; "
            "the cells are separated by comma, semicolon, tab or |. For another format give --format."
        )


def _member(name: str) -> str | None:
    """The member of a lead that a column holds, or None when it holds something else."""
    return _MEMBERS.get(re.sub(r"[\s_-]", "", name).lower())


def _row(line: int, columns: Sequence[str], cells: Sequence[str]) -> Numbered | Refused:
    try:
        members = _members(columns, cells)
        lead = parse(members)
    except InvalidLead as error:
        return Refused(line, str(error))
    if "message_id" not in members:
        lead = named(lead, with_time="captured_at" in members)
    return Numbered(line, lead)


def _members(columns: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    # Fewer are no empty ones: where a file was cut off, the lead that is left would stand in the way of the real one.
    if len(cells) != len(columns):
        raise InvalidLead(None, f"has {len(cells)} cells; the header has {len(columns)}")
    members = dict[str, Any]()
    for number, (name, cell) in enumerate(zip(columns, cells, strict=True), 1):
        if not cell or cell.isspace():
            if name == "tenant":  # a lead whose tenant got lost must not end up with another one
                raise InvalidLead("tenant", "is empty; fill it in, or leave out the column for the tenant `default`")
            continue
        if not name:
            raise InvalidLead(None, f"has something in column {number}, which has no name in the header")
        if _is_broken(cell):
            raise InvalidLead(None, f"is not UTF-8 (column {number})")
        members[name] = _object(cell) if name == "fields" else cell
    return members


def _is_broken(cell: str) -> bool:
    return not cell.isascii() and re.search(r"[\udc80-\udcff]", cell) is not None


def _object(cell: str) -> Any:
    """A column `fields`, as an export of the CRM has it, holds a JSON object; anything else is refused as a string."""
    try:
        return msgspec.json.decode(cell.encode())
    except (msgspec.MsgspecError, RecursionError):
        return cell
