"""What a lead is: parse, validate, encode, name and fingerprint it. Pure: no I/O.

    InvalidLead         what was given is not a lead; `field` and `reason` say why
    └── LeadTooLarge    it has more than `LEAD_SIZE_MAX_BYTES`

Nothing that is given is lost in silence: a top-level name that a lead does not have goes into `fields`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from typing import Annotated, Any

import msgspec
import uuid_utils
from msgspec import Meta

__all__ = [
    "ARRAY_MAX_LEADS",
    "HASH_SIZE_BYTES",
    "LEAD_SIZE_MAX_BYTES",
    "NESTING_MAX_LEVELS",
    "InvalidLead",
    "Lead",
    "LeadTooLarge",
    "content_hash",
    "content_hash_of",
    "decode",
    "encode",
    "key",
    "name_flaw",
    "parse",
    "shown_name",
    "take",
]

LEAD_SIZE_MAX_BYTES = 64 * 1024
ARRAY_MAX_LEADS = 1000
#: Levels of arrays and objects in one value. Far below the interpreter's recursion limit, so that what a process
#: accepts does not depend on the depth of its stack, and every other process can encode it.
NESTING_MAX_LEVELS = 64
TENANT_DEFAULT = "default"
HASH_SIZE_BYTES = 8

#: Tenants whose names are remembered as fit.
TENANTS_KNOWN_MAX = 1024

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

_MessageId = Annotated[str, Meta(min_length=1, max_length=128)]
_Email = Annotated[str, Meta(min_length=1, max_length=320)]
_Phone = Annotated[str, Meta(min_length=1, max_length=64)]
_Text = Annotated[str, Meta(min_length=1, max_length=512)]
_Time = Annotated[datetime, Meta(tz=True)]


class InvalidLead(ValueError):
    """What was given is not a lead. Holds names and types, never a value: personal data never reaches an error."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        #: The name of the field or its path, such as `fields[...]`; None if it is the lead as a whole.
        self.field = field
        self.reason = reason


class LeadTooLarge(InvalidLead):
    """The lead has more than `LEAD_SIZE_MAX_BYTES`."""

    def __init__(self) -> None:
        super().__init__(None, f"a lead has at most {LEAD_SIZE_MAX_BYTES} bytes of JSON")


# gc=False: a lead comes from JSON and so cannot be part of a cycle; the collector need not walk thousands of them.
class Lead(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """One lead. Its identity is (`tenant`, `message_id`); it has an email address, a phone number or both."""

    message_id: _MessageId
    # A factory, because `omit_defaults` would leave out a plain default, and a record should name its tenant.
    tenant: str = msgspec.field(default_factory=lambda: TENANT_DEFAULT)
    email: _Email | None = None
    phone: _Phone | None = None
    name: _Text | None = None
    company: _Text | None = None
    source: _Text | None = None
    campaign: _Text | None = None
    #: When the form was sent, by the clock of whoever sent it: data, not used to decide anything.
    captured_at: _Time | None = None
    fields: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # What a decoded string costs here is paid for every lead: no regular expression, no second string.
        name = self.message_id
        # Of what is printable, only the blank is white space.
        if "/" in name or not name.isprintable() or name[0] == " " or name[-1] == " ":
            raise InvalidLead("message_id", "must be printable, without '/' and without white space around it")
        if name in _DOTS:
            raise InvalidLead("message_id", _NO_DOTS)
        _require_tenant(self.tenant)
        if (self.email is None or self.email.isspace()) and (self.phone is None or self.phone.isspace()):
            raise InvalidLead("email", "an email or a phone is needed")
        if self.captured_at is not None and not 1 < self.captured_at.year < 9999:
            # Such a time cannot be converted to UTC in every time zone.
            raise InvalidLead("captured_at", "the year is out of range")


@lru_cache(maxsize=TENANTS_KNOWN_MAX)
def _require_tenant(tenant: str) -> None:
    if not _TENANT.fullmatch(tenant):
        raise InvalidLead("tenant", "expected 1 to 64 letters, digits, '.', '_' or '-'")
    if tenant in _DOTS:
        raise InvalidLead("tenant", _NO_DOTS)


class _Content(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What makes two leads of one name the same lead: everything but the time, which a retry may take anew."""

    message_id: str
    tenant: str
    email: str | None = None
    phone: str | None = None
    name: str | None = None
    company: str | None = None
    source: str | None = None
    campaign: str | None = None
    fields: dict[str, Any] = {}


_DOTS = frozenset((".", ".."))
_NO_DOTS = "'.' and '..' cannot stand in a URL"
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_KNOWN = frozenset(Lead.__struct_fields__)
#: Forms send an empty field as "" or null: both mean that it is not there. A tenant is no such field; a lead whose
#: tenant got lost must not end up with another one.
_NULLABLE = _KNOWN - {"tenant"}
_OPTIONAL_TEXTS = frozenset(("email", "phone", "name", "company", "source", "campaign"))

#: An escaped high surrogate that no low one follows.
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F]|\Z)")

_NESTING = frozenset((dict, list))

_fast = msgspec.json.Decoder(Lead)
_object = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder(order="deterministic")


def parse(body: bytes | Mapping[str, Any], *, message_id: str | None = None) -> Lead:
    """Make a lead of one JSON object, as it comes over HTTP.

    Without a `message_id` in the object it gets the given one, else a new UUIDv7; without `captured_at`, the time now.

    Raises:
        LeadTooLarge: it is, or its encoded form would be, larger than `LEAD_SIZE_MAX_BYTES`.
        InvalidLead: it is no lead, or both message ids are given and differ.
    """
    return take(body if isinstance(body, bytes) else _dumped(body), message_id=message_id)[0]


def take(body: bytes, *, message_id: str | None = None) -> tuple[Lead, bytes]:
    """The lead that `parse` makes of `body`, and what `encode` makes of it. Raises as `parse` does."""
    lead = _complete(body) if message_id is None else None
    if lead is None:
        lead = _completed(body, message_id)
    if _is_suspect(body, lead):
        _check(lead)
    value = encode(lead)
    _bounded(value)  # some numbers take more room when they are written again
    return lead, value


def _complete(body: bytes) -> Lead | None:
    """The lead in a body in which nothing is to be added, renamed or left out, as in most; None in any other."""
    if len(body) > LEAD_SIZE_MAX_BYTES:
        return None
    try:
        lead = _fast.decode(body)
    except (ValueError, RecursionError):
        return None
    return lead if lead.captured_at is not None else None


def _completed(body: bytes, message_id: str | None) -> Lead:
    members = _members(body)
    if message_id is not None and members.get("message_id", message_id) != message_id:
        raise InvalidLead("message_id", "differs from the one that was given beside the lead (Idempotency-Key)")
    members.setdefault("message_id", str(uuid_utils.uuid7()) if message_id is None else message_id)
    members.setdefault("captured_at", datetime.now(UTC))
    return _converted(members)


def decode(value: bytes | None) -> Lead:
    """The lead in the value of a record.

    Raises:
        InvalidLead: the value is no lead. Nothing else is raised, whatever the bytes are.
    """
    if value is None:
        raise InvalidLead(None, "the record has no value")
    _bounded(value)
    try:
        lead = _fast.decode(value)
    except (ValueError, RecursionError):
        lead = _converted(_members(value))
    if _is_suspect(value, lead):
        _check(lead)
    return lead


def encode(lead: Lead) -> bytes:
    """The lead as JSON, the value of its records; what is not there is left out."""
    return _encoder.encode(lead)


def key(lead: Lead) -> bytes:
    """`tenant/message_id`: the key of its records and its key in tables."""
    return f"{lead.tenant}/{lead.message_id}".encode()


def name_flaw(tenant: str, message_id: str) -> str | None:
    """Why no lead has this name, or None if one can have it."""
    try:
        _converted({"tenant": tenant, "message_id": message_id, "phone": "1"})
    except InvalidLead as error:
        return str(error)
    return None


def content_hash(lead: Lead) -> bytes:
    """`HASH_SIZE_BYTES` bytes that differ when the content does, whatever the order of keys and `captured_at`."""
    return _hash(
        _Content(
            lead.message_id, lead.tenant, lead.email, lead.phone, lead.name, lead.company, lead.source, lead.campaign,
            lead.fields,
        )
    )  # fmt: skip


def content_hash_of(message_id: str, tenant: str, *others: Any) -> bytes:
    """The same of a lead whose parts are known, and not whether it is one: email, phone, name, company, source,
    campaign and fields.
    """
    return _hash(_Content(message_id, tenant, *others))


def _hash(content: _Content) -> bytes:
    return blake2b(_encoder.encode(content), digest_size=HASH_SIZE_BYTES).digest()


def _is_suspect(value: bytes, lead: Lead) -> bool:
    """Whether the lead in valid JSON must be walked; costs nanoseconds, and is False for almost every lead."""
    if b"\\" in value and b"\\u0000" in value:
        return True
    if _NESTING.isdisjoint(map(type, lead.fields.values())):
        return False
    return value.count(b"{") + value.count(b"[") > NESTING_MAX_LEVELS


def _bounded(value: bytes) -> None:
    if len(value) > LEAD_SIZE_MAX_BYTES:
        raise LeadTooLarge


def _dumped(members: Mapping[str, Any]) -> bytes:
    # Before encoding, because msgspec writes NaN as null.
    if flaw := _flaw(dict(members)):
        raise InvalidLead(None, flaw)
    try:
        return _encoder.encode(dict(members))
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidLead(None, "holds something that JSON cannot express") from None


def _members(body: bytes) -> dict[str, Any]:
    """The members of a JSON object, those that a lead does not have under `fields`, those left empty left out."""
    _bounded(body)
    try:
        given = _object.decode(body)
    except (ValueError, RecursionError) as error:
        raise InvalidLead(None, _incomplete(body)) if "truncated" in str(error) else _explained(error) from None
    known = {name: value for name, value in given.items() if name in _KNOWN and not _is_absent(name, value)}
    unknown = {name: value for name, value in given.items() if name not in _KNOWN}
    if unknown:
        known["fields"] = _merged(known.get("fields", {}), unknown)
    return known


def _incomplete(body: bytes) -> str:
    """What msgspec calls truncated, which is more than what is."""
    if not body.strip():
        return "is empty; a lead is a JSON object"
    if _HALF_PAIR.search(body):
        return "holds half of a surrogate pair (such as \\ud800 alone), which is no character"
    return "is not complete: the JSON ends too early"


def _is_absent(name: str, value: Any) -> bool:
    return (value is None and name in _NULLABLE) or (value == "" and name in _OPTIONAL_TEXTS)


def _merged(fields: Any, unknown: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(fields, dict):
        raise InvalidLead("fields", "expected an object")
    for name in unknown.keys() & fields.keys():
        raise InvalidLead(f"fields.{shown_name(name)}", "is given twice, at the top and in `fields`; keep one of them")
    return {**fields, **unknown}


def shown_name(name: str) -> str:
    """The name of a member as an error may show it. Somebody may have put data where a name belongs: what does not look
    like a name is not shown.
    """
    return name if _NAME.fullmatch(name) else "…"


def _converted(members: dict[str, Any]) -> Lead:
    try:
        return msgspec.convert(members, Lead)
    except (ValueError, RecursionError) as error:
        raise _explained(error) from None


def _check(lead: Lead) -> None:
    for name in Lead.__struct_fields__:
        if flaw := _flaw(getattr(lead, name)):
            raise InvalidLead(name, flaw)


def _flaw(value: Any) -> str | None:
    """Why a value cannot be kept by everything downstream, or None if it can."""
    pending = [(value, 0)]
    while pending:
        item, level = pending.pop()
        if isinstance(item, str) and "\0" in item:
            return "holds a NUL character (\\u0000), which no text can have"
        if isinstance(item, float) and not isfinite(item):
            return "holds a number that JSON cannot express"
        if isinstance(item, dict | list | tuple):
            if level == NESTING_MAX_LEVELS:
                return f"is nested more than {NESTING_MAX_LEVELS} levels deep"
            parts = [*item.keys(), *item.values()] if isinstance(item, dict) else item
            pending.extend((part, level + 1) for part in parts)
    return None


_TYPES = {
    "str": "a string",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "datetime": "an RFC 3339 timestamp",
}


def _explained(error: Exception) -> InvalidLead:
    """Our words for what msgspec found. Its texts hold paths and types, never values."""
    if isinstance(error.__cause__, InvalidLead):
        return error.__cause__
    if isinstance(error, RecursionError):
        return InvalidLead(None, f"is nested more than {NESTING_MAX_LEVELS} levels deep")
    if isinstance(error, UnicodeDecodeError):
        return InvalidLead(None, "is not UTF-8")
    text, _, path = str(error).partition(" - at ")
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", text):
        return InvalidLead(missing[1], "is missing")
    if "RFC3339" in text:
        text = "expected an RFC 3339 timestamp, such as 2026-01-31T12:00:00Z"
    else:
        text = re.sub(r"`(\w+)(?: \| null)?`", lambda match: _TYPES.get(match[1], match[1]), text)
    return InvalidLead(_field(path), text[:1].lower() + text[1:] if not text.startswith("JSON") else text)


def _field(path: str) -> str | None:
    named = re.search(r"\$\.(\w+(?:\[\.\.\.\])*)", path)
    return named[1] if named else None
