"""Which sites may send a form from a script: exactly the `origins` of the form, never any."""

from __future__ import annotations

from aiohttp import hdrs, web

from pipeline.web.forms import FormSpec

__all__ = ["allow_origin", "preflight"]

METHODS = "GET, HEAD, POST"
HEADERS = "Accept, Content-Type, Idempotency-Key"
#: For so long a browser need not ask again.
PREFLIGHT_MAX_AGE_S = 600


def allow_origin(request: web.Request, response: web.Response, spec: FormSpec) -> web.Response:
    """Let a script of an allowed origin read the answer."""
    origin = request.headers.get(hdrs.ORIGIN)
    if origin in spec.origins:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = hdrs.RETRY_AFTER
    # Whoever keeps an answer must not give it to another site.
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    return response


def preflight(request: web.Request, spec: FormSpec) -> web.Response:
    """The answer to a browser that asks before a script may send."""
    response = allow_origin(request, web.Response(status=204), spec)
    if hdrs.ACCESS_CONTROL_ALLOW_ORIGIN in response.headers:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = METHODS
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = str(PREFLIGHT_MAX_AGE_S)
    return response
