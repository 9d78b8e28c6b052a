"""`GET /openapi.json`: what the workers answer over HTTP, for programs (OpenAPI 3.1). Its limits are those of the code;
a test sends what it allows, and what it does not, to a real worker.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from pipeline.lead import ARRAY_MAX_LEADS, LEAD_SIZE_MAX_BYTES, NESTING_MAX_LEVELS
from pipeline.web.bounds import BODY_SIZE_MAX_BYTES
from pipeline.web.openapi_schemas import RESPONSES, SCHEMAS, response, schema, shown

__all__ = ["document", "openapi_routes"]

_KIB, _MIB = 1024, 1024 * 1024
_OPERATORS: list[dict[str, list[str]]] = [{}, {"token": []}, {"password": []}]
_CAPTURE_ERRORS = {
    "400": response("Invalid"),
    "408": response("Slow"),
    "413": response("TooLarge"),
    "415": response("Unsupported"),
    "429": response("TooMany"),
    "503": response("Later"),
}
_OPERATOR_ERRORS = {
    "401": response("NoToken"),
    "403": response("NotHere"),
    "421": response("AnotherWorker"),
    "503": response("CannotSay"),
}
_PAGE = {"text/html": {"schema": {"type": "string"}}}
_ASSET_TYPES = ("image/avif", "image/webp", "image/jpeg", "image/png", "text/javascript")
_SENT_ON = {
    "description": "For a browser that sent a form: to a page about it.",
    "headers": {"Location": {"schema": {"type": "string"}}},
}


def openapi_routes() -> list[web.RouteDef]:
    """`GET /openapi.json`."""
    content = msgspec.json.encode(document())

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type="application/json")

    return [web.get("/openapi.json", answer)]


def document() -> dict[str, Any]:
    """The description, as a JSON object."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lead capture",
            "version": "1",
            "description": "Leads come in over HTTP and reach the CRM once. 202 means that every in-sync replica of "
            "the broker has the lead, or the disk of the worker (`spooled`). After any other answer it may be sent "
            "again with the same message id.",
        },
        "paths": {**_CAPTURE, **_FORMS, **_STATUS, **_TABLES, **_PROBES, **_PAGES},
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "LEADS_OPS_TOKEN. While it is unset, operators are answered on the machine of the "
                    "workers, without a token.",
                },
                "password": {"type": "http", "scheme": "basic", "description": "The token as anybody's password."},
            },
            "responses": RESPONSES,
            "schemas": SCHEMAS,
        },
    }


def _shown_page(about: str) -> dict[str, Any]:
    return {"description": about, "content": _PAGE}


def _parameter(name: str, place: str, about: str = "", **limits: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "in": place, "schema": limits or {"type": "string"}}
    return found | ({"required": True} if place == "path" else {}) | ({"description": about} if about else {})


def _number(name: str, about: str = "", **limits: Any) -> dict[str, Any]:
    return _parameter(name, "query", about, type="integer", minimum=0, **limits)


def _get(name: str, summary: str, responses: dict[str, Any], *parameters: Any, **more: Any) -> dict[str, Any]:
    found = {"operationId": name, "summary": summary, "parameters": list(parameters), "responses": responses, **more}
    return {"get": found}


_CAPTURE = {
    "/leads": {
        "post": {
            "operationId": "captureLeads",
            "summary": f"Capture a lead, or an array of up to {ARRAY_MAX_LEADS}",
            "description": f"A lead has at most {LEAD_SIZE_MAX_BYTES // _KIB} KiB of JSON, a body "
            f"{BODY_SIZE_MAX_BYTES // _MIB} MiB, `fields` {NESTING_MAX_LEVELS} levels. Bodies are UTF-8, uncompressed.",
            "parameters": [
                _parameter(
                    "Idempotency-Key",
                    "header",
                    "The message id of one lead; not with an array.",
                    type="string",
                    pattern="^[A-Za-z0-9_-]{1,128}$",
                )
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"oneOf": [schema("Lead"), schema("Leads")]}},
                    "application/x-www-form-urlencoded": {"schema": schema("Form")},
                    "multipart/form-data": {"schema": schema("Form")},
                },
            },
            "responses": {
                "202": shown("A receipt, or for an array one result per item.", schema("Captured")),
                "303": _SENT_ON,
                **_CAPTURE_ERRORS,
            },
        }
    }
}

_OF_FORM = _parameter("name", "path", "Of a form in forms.toml, such as contact.")
_FORMS = {
    "/forms/{name}": {
        "get": {
            "operationId": "showForm",
            "summary": "A form",
            "parameters": [_OF_FORM],
            "responses": {"200": _shown_page("The form."), "404": response("Missing")},
        },
        "post": {
            "operationId": "sendForm",
            "summary": "A form, sent: a lead with tenant, campaign and source of forms.toml",
            "parameters": [_OF_FORM],
            "requestBody": {
                "required": True,
                "content": {
                    "application/x-www-form-urlencoded": {"schema": schema("Form")},
                    "multipart/form-data": {"schema": schema("Form")},
                },
            },
            "responses": {
                "202": shown("A receipt.", schema("Receipt")),
                "303": _SENT_ON,
                "404": response("Missing"),
                **_CAPTURE_ERRORS,
            },
        },
        "options": {
            "operationId": "askForm",
            "summary": "Whether a script of an origin may send it (CORS)",
            "parameters": [_OF_FORM],
            "responses": {
                "204": {"description": "The headers say so, or there are none."},
                "404": response("Missing"),
            },
        },
    },
    "/forms/{name}/received": _get(
        "received",
        "Thanks for a form that was sent",
        {"200": _shown_page("A page."), "404": response("Missing")},
        _OF_FORM,
        _parameter("reference", "query", "The message id; shown where it is a UUID."),
    ),
    "/assets/{name}": _get(
        "asset",
        "A picture or the script of the page",
        {
            "200": {
                "description": "It is.",
                "content": {name: {"schema": {"type": "string"}} for name in _ASSET_TYPES},
            },
            "404": response("Missing"),
        },
        _parameter("name", "path"),
    ),
}

_STATUS = {
    "/leads/{tenant}/{message_id}": _get(
        "leadStatus",
        "What became of a lead, for operators",
        {
            "200": shown("Its state.", schema("Status")),
            "400": response("Invalid"),
            "404": response("Missing"),
            "501": response("NoCrm"),
            **_OPERATOR_ERRORS,
        },
        _parameter("tenant", "path"),
        _parameter("message_id", "path"),
        _number("partition", "Of the receipt: a lead that nobody has come to yet is then pending, not unknown."),
        _number("offset", "The same."),
        security=_OPERATORS,
    )
}

_NAME = _parameter("name", "path")
_ENTRY_ERRORS = {"400": response("Invalid"), "404": response("Missing"), **_OPERATOR_ERRORS}
_TABLES = {
    "/tables": _get(
        "tables",
        "The tables, and who owns their partitions, for operators",
        {"200": shown("All of them.", schema("Tables")), **_OPERATOR_ERRORS},
        security=_OPERATORS,
    ),
    "/tables/{name}": _get(
        "entries",
        "Entries of a table, for operators",
        {"200": shown("A page of them.", schema("Entries")), **_ENTRY_ERRORS},
        _NAME,
        _parameter("limit", "query", type="integer", minimum=1, maximum=1000, default=100),
        _number("partition"),
        _parameter("from", "query", "Where a page begins, as the one before says in `next`."),
        security=_OPERATORS,
    ),
    "/tables/{name}/{key}": _get(
        "entry",
        "An entry of a table, for operators",
        {"200": shown("The entry.", schema("Entry")), **_ENTRY_ERRORS},
        _NAME,
        _parameter("key", "path", "Such as acme/m-1; its slash may stand as it is."),
        security=_OPERATORS,
    ),
}

_READY = {"application/json": {"schema": schema("Ready")}}
_PROBES = {
    "/healthz": _get(
        "healthz",
        "Whether a worker is alive",
        {"200": {"description": "It is.", "content": {"application/json": {"schema": schema("Alive")}}}},
    ),
    "/readyz": _get(
        "readyz",
        "Whether a worker is ready",
        {
            "200": {"description": "It is.", "content": _READY},
            "503": {"description": "Not yet, or not now.", "content": _READY},
        },
    ),
}

_PAGES = {
    "/": _get("form", "The first form", {"200": _shown_page("A page.")}),
    "/openapi.json": _get(
        "openapi",
        "This description",
        {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object"}}}}},
    ),
}
