"""The state of a lead: which URL asks for it, and what an answer says in words (pure)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from pipeline.dead_letters import REASONS
from pipeline.lead import TENANT_DEFAULT
from pipeline.showing import printable

__all__ = ["BadName", "LeadState", "ProblemAnswer", "in_words", "lead_name", "problem", "state", "status_url"]

_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MESSAGE_ID_MAX_CHARS = 128


class BadName(ValueError):
    """This names no lead; the text says how one is named."""


class DeadLetterPlace(msgspec.Struct, frozen=True):
    """Where a dead letter stands in lead-dead-letter."""

    partition: int
    offset: int


class LeadState(msgspec.Struct, frozen=True):
    """What a worker answers with status 200; times are RFC 3339."""

    tenant: str
    message_id: str
    state: Literal["pending", "written", "dead-lettered"]
    #: What the record of the receipt is, if one was given: first, repeat, later, or the reason of its dead letter.
    this_record: str | None = None
    record_id: str | None = None
    written_at: str | None = None
    reason: str | None = None
    dead_letter: DeadLetterPlace | None = None
    times_received: int | None = None
    first_received_at: str | None = None
    conflicts: int | None = None


class ProblemAnswer(msgspec.Struct, frozen=True):
    """What a worker answers with any other status (RFC 9457)."""

    title: str
    detail: str = ""

    def __str__(self) -> str:
        return printable(": ".join(filter(None, (self.title, self.detail))))


def lead_name(name: str) -> tuple[str, str]:
    """Tenant and message id of what names a lead: as for `status_url`.

    Raises:
        BadName: it names none.
    """
    if not _is_url(name):
        return _split(name)
    path = _status_path(name)
    tenant, message_id = path.split("/")[2:]
    return unquote(tenant), unquote(message_id)


def status_url(base: str, name: str) -> str:
    """The URL that tells the state of a lead, percent-encoded.

    Args:
        base: of a worker, such as `http://127.0.0.1:6066`.
        name: `tenant/message_id`, a message id alone (of the tenant `default`), or the `status_url` of a receipt, with
            or without a host.

    Raises:
        BadName: it is none of these.
    """
    if _is_url(name):
        _status_path(name)
        return base.rstrip("/") + name if name.startswith("/") else name
    tenant, message_id = _split(name)
    return f"{base.rstrip('/')}/leads/{tenant}/{quote(message_id, safe='')}"


def state(body: bytes) -> LeadState | None:
    """The state in the body of an answer, or None when it is none."""
    return _decoded(body, LeadState)


def problem(body: bytes) -> ProblemAnswer | None:
    """The problem in the body of an answer, or None when it is none."""
    return _decoded(body, ProblemAnswer)


def in_words(of: LeadState) -> str:
    """What is known of the lead, in a few lines. What answers may be no worker: nothing of it drives a terminal."""
    lines = [_first_line(of)]
    if of.times_received:
        since = f", first at {_time(of.first_received_at)}" if of.first_received_at else ""
        lines.append(f"Received {_times(of.times_received)}{since}.")
    if of.conflicts:
        lines.append(
            f"{_times(of.conflicts).capitalize()} this id came with other content; that went to the dead letters as "
            "id-conflict, and the first content stays."
        )
    if of.this_record in REASONS and of.state != "dead-lettered":
        lines.append(f"The record of this receipt is not that lead: it is in the dead letters as {of.this_record}.")
    return "\n".join(map(printable, lines))


def _first_line(of: LeadState) -> str:
    name = f"{of.tenant}/{of.message_id}"
    if of.state == "pending":
        return f"{name} is pending: it is safe in Kafka and not in the CRM yet."
    if of.state == "written":
        record = "" if of.record_id is None else f" as record {of.record_id}"
        since = f", since {_time(of.written_at)}" if of.written_at else ""
        return f"{name} is written: it is in the CRM{record}{since}."
    why = f" ({of.reason})" if of.reason else ""
    place = f"show {of.dead_letter.partition} {of.dead_letter.offset}" if of.dead_letter else f"list --id {name}"
    return f"{name} is dead-lettered{why}: it is kept, and not in the CRM. See: leads dead-letters {place}"


def _time(text: str | None) -> str:
    """RFC 3339 to the second, as people read it; what is none stays as it is."""
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:
        return text or ""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _is_url(name: str) -> bool:
    return name.startswith(("http://", "https://", "/"))


def _split(name: str) -> tuple[str, str]:
    if name.count("/") > 1:
        raise BadName("a message id has no '/'; write TENANT/ID")
    tenant, slash, message_id = name.rpartition("/")
    tenant = tenant if slash else TENANT_DEFAULT
    if not _TENANT.fullmatch(tenant):
        raise BadName("a tenant is 1 to 64 letters, digits, '.', '_' or '-'; write TENANT/ID")
    # What is not printable includes the half characters that stand for bytes that are no UTF-8.
    if not 1 <= len(message_id) <= _MESSAGE_ID_MAX_CHARS or not message_id.isprintable():
        raise BadName(f"a message id has 1 to {_MESSAGE_ID_MAX_CHARS} printable characters; write TENANT/ID")
    return tenant, message_id


def _status_path(url: str) -> str:
    try:
        path = urlsplit(url).path
    except ValueError:  # a bracket that is not closed
        path = ""
    if not re.fullmatch(r"/leads/[^/]+/[^/]+", path) or not url.isprintable():
        raise BadName("such a URL is /leads/TENANT/ID, as the status_url of a receipt")
    return path


_Shape = TypeVar("_Shape")


def _decoded(body: bytes, shape: type[_Shape]) -> _Shape | None:
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.MsgspecError:
        return None
