"""Errors as RFC 9457 problem JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from pipeline.lead import InvalidLead

__all__ = ["Problem", "bad_body", "invalid", "problem", "too_large", "unsupported"]

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """Why a request, or one item of it, is answered with an error. No text of it holds personal data.

    Arguments:
        kind: Tells programs what `title` tells people; becomes the URN in `type`. None: the status says it all.
        members: More members of the object, such as `field`; those that are None are left out.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        kind: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.type = f"urn:problem-type:leads:{kind}" if kind else "about:blank"
        self.headers = dict(headers or {})
        self.members = {name: value for name, value in members.items() if value is not None}

    def body(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        own = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return own | self.members

    def response(self) -> web.Response:
        """The problem as an answer."""
        content = msgspec.json.encode(self.body())
        return web.Response(body=content, status=self.status, headers=self.headers, content_type=CONTENT_TYPE)


def problem(
    status: int, title: str, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any
) -> web.Response:
    """An answer with `status` and a problem object."""
    return Problem(status, title, detail, headers=headers, **members).response()


def invalid(error: InvalidLead) -> Problem:
    """400: what was sent is no lead."""
    return Problem(400, "Invalid lead", str(error), kind="invalid-lead", field=error.field, reason=error.reason)


def bad_body(detail: str) -> Problem:
    """400: what was sent cannot even be taken apart."""
    return Problem(400, "The body cannot be read", detail, kind="bad-body")


def too_large(detail: str) -> Problem:
    """413."""
    return Problem(413, "Too large", detail, kind="too-large")


def unsupported(detail: str, **members: Any) -> Problem:
    """415."""
    return Problem(415, "Unsupported media type", detail, kind="unsupported-media-type", **members)
