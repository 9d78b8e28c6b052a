"""What every answer says to browsers and proxies, whatever it is."""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

__all__ = ["HEADERS", "hardened"]

#: Nothing of it is stored, unless the answer says so itself; nothing is taken for another type; no version is named.
HEADERS = {hdrs.CACHE_CONTROL: "no-store", "X-Content-Type-Options": "nosniff", hdrs.SERVER: "leads"}


@web.middleware
async def hardened(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Add to an answer what it does not say itself."""
    response = await handler(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response
