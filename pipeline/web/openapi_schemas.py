"""The objects that `/openapi.json` describes: what is sent, what is answered, and the errors."""

from __future__ import annotations

from typing import Any

from pipeline.lead import ARRAY_MAX_LEADS

__all__ = ["RESPONSES", "SCHEMAS", "response", "schema", "shown"]

#: Characters of the texts of a lead.
_TEXTS = {"email": 320, "phone": 64, "name": 512, "company": 512, "source": 512, "campaign": 512}


def schema(name: str) -> dict[str, Any]:
    """A reference to one of `SCHEMAS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def response(name: str) -> dict[str, Any]:
    """A reference to one of `RESPONSES`."""
    return {"$ref": f"#/components/responses/{name}"}


def shown(about: str, content: dict[str, Any]) -> dict[str, Any]:
    """An answer in JSON, and as a page for browsers."""
    pages = {"text/html": {"schema": {"type": "string"}}}
    return {"description": about, "content": {"application/json": {"schema": content}, **pages}}


def _problem(about: str) -> dict[str, Any]:
    pages = {"text/html": {"schema": {"type": "string"}}}
    return {"description": about, "content": {"application/problem+json": {"schema": schema("Problem")}, **pages}}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties}


_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}

RESPONSES = {
    "Invalid": _problem("What was sent is no lead, or cannot be read; `field` and `reason` say more."),
    "Slow": _problem("The request did not arrive in time."),
    "TooLarge": _problem("It is too large."),
    "Unsupported": _problem("Another media type, charset or encoding than is taken."),
    "TooMany": _problem("Too many leads of this address; Retry-After says when to send it again."),
    "Later": _problem(
        "Not acknowledged, or too much in work: send it again, with the same message id, after Retry-After."
    ),
    "CannotSay": _problem("Nobody can say right now: ask again after Retry-After."),
    "Missing": _problem("There is none."),
    "NoToken": _problem("It needs LEADS_OPS_TOKEN."),
    "NotHere": _problem("While LEADS_OPS_TOKEN is unset, only the machine of the workers is answered."),
    "AnotherWorker": _problem("A worker asked, and took this one for another."),
    "NoCrm": _problem("The workers of this app write no CRM."),
}

SCHEMAS: dict[str, Any] = {
    "Lead": {
        "type": "object",
        "description": "An email address, a phone number or both. A member that a lead does not have goes into "
        "`fields`; an empty text, and null, is a member that is not there.",
        "properties": {
            "message_id": {
                "type": ["string", "null"],
                "pattern": "^[A-Za-z0-9._~-]{1,128}$",
                "not": {"enum": [".", ".."]},
                "description": "Names the lead within its tenant: what comes again under it counts once. Without it "
                "the lead gets a new one, and is another lead when it is sent again. (Other printable characters but "
                "the slash are taken, too.)",
            },
            "tenant": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "default": "default"},
            **{name: {"type": ["string", "null"], "maxLength": most} for name, most in _TEXTS.items()},
            "captured_at": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "When the form was sent: RFC 3339, with a zone. Without it: now.",
            },
            "fields": {"type": "object", "description": "Whatever else was asked."},
        },
        "example": {
            "message_id": "018f6b1e-4d2a-7c3b-9e10-2f6a5b7c8d90",
            "tenant": "acme",
            "email": "ada@example.com",
            "name": "Ada Lovelace",
            "fields": {"plan": "team"},
        },
    },
    "Leads": {"type": "array", "items": schema("Lead"), "minItems": 1, "maxItems": ARRAY_MAX_LEADS},
    "Form": {
        "type": "object",
        "description": "A lead as a form sends it; a name that comes again, as checkboxes do, holds a list.",
        "properties": {name: {"type": "string", "maxLength": most} for name, most in _TEXTS.items()},
        "additionalProperties": _TEXT,
    },
    "Receipt": _object(
        ("message_id", "tenant", "status_url"),
        message_id=_TEXT,
        tenant=_TEXT,
        partition=_COUNT,
        offset=_COUNT,
        spooled={
            "const": True,
            "description": "The broker did not answer in time: it is on the worker's disk, and has no offset yet.",
        },
        status_url=_TEXT,
    ),
    "Captured": {
        "oneOf": [
            schema("Receipt"),
            _object(("results",), results={"type": "array", "minItems": 1, "items": schema("Result")}),
        ]
    },
    "Result": {"anyOf": [schema("Receipt"), schema("Problem")]},
    "Status": _object(
        ("tenant", "message_id", "state"),
        tenant=_TEXT,
        message_id=_TEXT,
        state={"enum": ["pending", "written", "dead-lettered"]},
        written_at={"type": "string", "format": "date-time"},
        reason=_TEXT,
    ),
    "Tables": _object(
        ("tables",),
        tables={
            "type": "array",
            "items": _object(
                ("name", "entries_url", "partitions"),
                name=_TEXT,
                entries_url=_TEXT,
                partitions={"type": "array", "items": {"type": "object"}},
            ),
        },
    ),
    "Entries": _object(
        ("name", "entries", "next"),
        name=_TEXT,
        entries={"type": "array", "items": schema("Entry")},
        next={"type": ["string", "null"]},
    ),
    "Entry": _object(("key", "partition", "owner"), key=_TEXT, partition=_COUNT, owner=_TEXT),
    "Alive": _object(("status", "workers_of"), status={"const": "alive"}, workers_of=_TEXT),
    "Ready": _object(
        ("status",),
        status={"enum": ["ready", "not ready"]},
        checks={"type": "object", "description": "What is not, for operators."},
    ),
    "Problem": _object(
        ("type", "title", "status", "detail"),
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        field=_TEXT,
        reason=_TEXT,
        message_id=_TEXT,
        tenant=_TEXT,
    ),
}
