"""A form that was sent, as the members of a lead: what its `FormSpec` asks for is there, and what the server adds is
the server's. And whether a program seems to have filled it in. Pure: no I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.lead import InvalidLead
from pipeline.web.form_body import Form
from pipeline.web.forms import HONEYPOT, FieldSpec, FormSpec
from pipeline.web.problems import invalid

__all__ = ["FILL_TIME", "HONEYPOT_FILLED", "Submission", "submission"]

#: Why a lead seems to be spam.
HONEYPOT_FILLED = b"honeypot"
FILL_TIME = b"fill-time"

REQUIRED = "is required"
NO_OPTION = "is none of the options"

#: A UUIDv7 begins with the milliseconds since 1970.
_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE)

Value = str | list[str]


@dataclass(frozen=True, slots=True)
class Submission:
    """The members of a lead, and why it is suspected to be spam; None: it is not."""

    members: dict[str, Value]
    suspect: bytes | None


def submission(spec: FormSpec, form: Form, now_ms: int) -> Submission:
    """What was sent to the form `spec`.

    Raises:
        Problem: 400 when a field is not as the form wants it, and as `Form.members` does.
    """
    members: dict[str, Value] = dict(form.members())
    trap = members.pop(HONEYPOT, "")
    for name in ("tenant", "campaign", "source"):
        members.pop(name, None)
    for field in spec.fields:
        _check(field, members.get(field.name, ""))
    suspect = HONEYPOT_FILLED if trap else FILL_TIME if _is_too_fast(spec, members.get("message_id"), now_ms) else None
    return Submission({**members, **spec.fixed}, suspect)


def _check(field: FieldSpec, value: Value) -> None:
    if isinstance(value, list):
        return  # a checkbox of another site that comes more than once
    if field.required and not value.strip():
        raise invalid(InvalidLead(field.name, REQUIRED))
    if len(value) > field.length_max_chars:
        raise invalid(InvalidLead(field.name, f"has more than {field.length_max_chars} characters"))
    if value and field.options and value not in field.options:
        raise invalid(InvalidLead(field.name, NO_OPTION))


def _is_too_fast(spec: FormSpec, message_id: Value | None, now_ms: int) -> bool:
    """Whether it came sooner after its page was made than people type. An id without a time in it is not timed, nor is
    one of a clock that goes ahead of ours.
    """
    made = _UUID7.fullmatch(message_id) if isinstance(message_id, str) else None
    return made is not None and 0 <= now_ms - int(made[1] + made[2], 16) < spec.fill_time_min_s * 1000
