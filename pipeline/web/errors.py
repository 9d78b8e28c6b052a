"""Errors that no endpoint answers by itself, and those of the web server: problem JSON, or a page for a browser."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from pipeline.web.pages import problem_page, wants_html
from pipeline.web.problems import Problem

__all__ = ["explained"]


@web.middleware
async def explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer a `Problem` that is raised, and what aiohttp would answer in plain text: no such path, another method."""
    try:
        return await handler(request)
    except Problem as error:
        problem = error
    except web.HTTPError as error:
        problem = _problem(error)
    return problem_page(problem) if wants_html(request) else problem.response()


def _problem(error: web.HTTPError) -> Problem:
    if isinstance(error, web.HTTPNotFound):
        return Problem(404, "No such page", "There is nothing at this address.")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, "Method not allowed", f"This address takes {allowed}.", headers={hdrs.ALLOW: allowed})
    return Problem(error.status, error.reason, "The web server refuses the request.")
