"""The body of a form post, URL-encoded or multipart: names and values in their order, as text. Pure: no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartParser, MultipartPart, ParserLimitReached

from pipeline.lead import LEAD_SIZE_MAX_BYTES, InvalidLead, Lead, shown_name
from pipeline.web.problems import Problem, bad_body, invalid, too_large, unsupported

__all__ = ["FIELDS_MAX", "FORM_SIZE_MAX_BYTES", "FORM_TYPES", "Form", "parse_form"]

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
FORM_TYPES = (URLENCODED, MULTIPART)
FORM_SIZE_MAX_BYTES = LEAD_SIZE_MAX_BYTES
FIELDS_MAX = 256

_CHARSETS = frozenset(("utf8", "utf-8", "us-ascii", "ascii"))

#: Lines end with CR LF on the wire, whatever was typed: a lead holds what was typed.
_LINE_END = re.compile(r"\r\n?")
#: No form sends such a body, but `curl -d` without a Content-Type does.
_JSON = re.compile(rb'\s*(\{\s*"|\[\s*\{)')
#: One that is not closed runs to the end: no character is read twice.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)')
_ENCODED_FILENAME = re.compile(r";\s*filename\*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, in order, and the names of those that hold a file. Line ends are those of Python."""

    pairs: tuple[tuple[str, str], ...]
    files: tuple[str, ...] = ()

    def members(self) -> dict[str, str | list[str]]:
        """The form as the members of one lead; a name that comes again, as checkboxes do, holds a list.

        Raises:
            Problem: there is a file, a field without a name, or a member of a lead more than once.
        """
        for name in self.files:
            detail = "Files cannot be sent with a lead: send the form without them."
            raise unsupported(detail, field=shown_name(name))
        found: dict[str, list[str]] = {}
        for name, value in self.pairs:
            found.setdefault(name, []).append(value)
        for name, values in found.items():
            _check(name, values)
        return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _check(name: str, values: list[str]) -> None:
    if not name:
        raise invalid(InvalidLead(None, "a field of the form has no name"))
    if len(values) > 1 and name in Lead.__struct_fields__:
        raise invalid(InvalidLead(name, "is given more than once"))


def parse_form(body: bytes, content_type: str) -> Form:
    """Take a form apart. Its bytes, at most `FORM_SIZE_MAX_BYTES`, are UTF-8.

    Arguments:
        content_type: The whole header of one of the `FORM_TYPES`.

    Raises:
        Problem: 400 when it is malformed, 413 when it has more than `FIELDS_MAX` fields, 415 when it is something else.
    """
    if content_type.lstrip().lower().startswith(MULTIPART):
        return _multipart(body, content_type)
    return _urlencoded(body)


def _urlencoded(body: bytes) -> Form:
    if _JSON.match(body):
        raise unsupported("The body looks like JSON: send it with Content-Type: application/json.")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except UnicodeDecodeError:
        raise _not_utf8() from None
    except ValueError:  # the only other thing that it finds wrong
        raise too_large(f"A form has at most {FIELDS_MAX} fields.") from None
    return Form(tuple((_lines(name), _lines(value)) for name, value in pairs))


def _multipart(body: bytes, content_type: str) -> Form:
    try:
        parts = MultipartParser(
            BytesIO(body),
            _boundary(content_type),
            strict=True,
            buffer_size=FORM_SIZE_MAX_BYTES,
            spool_limit=FORM_SIZE_MAX_BYTES,  # never to the disk
            part_limit=FIELDS_MAX,
            partsize_limit=FORM_SIZE_MAX_BYTES,
        ).parts()
    except ParserLimitReached:
        raise too_large(f"A form has at most {FIELDS_MAX} fields, each with at most 4 KiB of headers.") from None
    except MultipartError:
        raise bad_body("It is malformed multipart/form-data.") from None
    texts = [(_lines(part.name), _text(part)) for part in parts if not _is_file_input(part)]
    return Form(tuple(texts), tuple(part.name for part in parts if _is_file(part)))


def _boundary(content_type: str) -> str:
    # The parser of the standard library also takes a boundary with characters that should have been quoted.
    header = Message()
    header["Content-Type"] = content_type if content_type.isascii() else ""
    boundary = header.get_boundary()
    if not boundary:
        raise bad_body("The Content-Type of multipart/form-data must name its boundary.")
    return boundary


def _is_file_input(part: MultipartPart) -> bool:
    return part.filename is not None or bool(_ENCODED_FILENAME.search(_QUOTED.sub("", part.disposition)))


def _is_file(part: MultipartPart) -> bool:
    """Not what browsers send for a file input that was left empty."""
    return _is_file_input(part) and (part.filename != "" or part.size > 0)


def _text(part: MultipartPart) -> str:
    if part.charset.lower() not in _CHARSETS:
        raise unsupported("The charset of every part must be utf-8.")
    try:
        return _lines(part.raw.decode())
    except UnicodeDecodeError:
        raise _not_utf8() from None


def _lines(text: str) -> str:
    return _LINE_END.sub("\n", text)


def _not_utf8() -> Problem:
    return bad_body("It is not UTF-8.")
