"""Pages for people: plain HTML that needs no script, no cookie and nothing from anywhere else.

A page is rendered from a template of `pages/`. Whatever it is given is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiohttp import hdrs, web
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.web.look import PLAIN, Look
from pipeline.web.problems import Problem

__all__ = ["Link", "page", "problem_page", "wants_html"]

#: What `POST /leads` leads to may stand in a frame of another site, because forms are embedded there: no page has a
#: session that a hidden click could use. The others show what a worker knows, and have no business in anybody's frame;
#: which sites may show a form says its look.
_EMBEDDABLE = frozenset(("form", "problem", "receipt", "received"))

_HEADERS = {
    hdrs.CACHE_CONTROL: "no-store",
    "X-Content-Type-Options": "nosniff",
    # The address of a receipt names a lead.
    "Referrer-Policy": "same-origin",
}

#: A weight above zero, as RFC 9110 writes it.
_WEIGHT = re.compile(r"1(\.0{0,3})?|0\.(?!0{1,3}$)\d{1,3}")

_templates = Environment(
    loader=PackageLoader("pipeline.web", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Link(NamedTuple):
    """The text of a cell that leads somewhere."""

    text: str
    url: str


def _shown(value: Any) -> Any:
    return "–" if value is None else value


def _moment(value: datetime | str) -> str:
    """A time for people, in UTC; what is no time with a zone is left as it is."""
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except ValueError:
        return str(value)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment.tzinfo else str(value)


_templates.filters |= {"shown": _shown, "moment": _moment}


def page(
    name: str,
    /,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    look: Look | None = None,
    **values: Any,
) -> web.Response:
    """The page of the template `name`, which is not stored anywhere on its way.

    Raises:
        jinja2.UndefinedError: the template has a value that is not among `values`.
    """
    look = look or PLAIN
    text = _templates.get_template(f"{name}.html").render(values, style=look.style)
    policy = look.policy if name in _EMBEDDABLE else f"{look.policy}; frame-ancestors 'none'"
    return web.Response(
        # What a path holds need not be text that UTF-8 can express.
        body=text.encode("utf-8", "replace"),
        status=status,
        headers={**_HEADERS, "Content-Security-Policy": policy, **(headers or {})},
        content_type="text/html",
        charset="utf-8",
    )


def problem_page(problem: Problem, *, heading: str | None = None, text: str | None = None) -> web.Response:
    """Any problem as a page, with its status and headers.

    Arguments:
        heading: Words for people; the problem's title when there are none.
        text: The same for its detail.
    """
    return page(
        "problem",
        status=problem.status,
        headers=problem.headers,
        heading=heading or problem.title,
        text=text or problem.detail,
    )


def wants_html(request: web.Request) -> bool:
    """Whether the client asks for pages: a browser does, by name; `*/*` alone is what every program sends."""
    ranges = ",".join(request.headers.getall(hdrs.ACCEPT, [])).split(",")
    return any(_is_html(one) for one in ranges)


def _is_html(media_range: str) -> bool:
    media_type, *parameters = (part.strip().lower() for part in media_range.split(";"))
    weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
    return media_type == "text/html" and all(_WEIGHT.fullmatch(weight) for weight in weights)
