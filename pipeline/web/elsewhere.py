"""What a worker without agents answers where only one with agents knows: it has no partitions, and no tables."""

from __future__ import annotations

from aiohttp import web

from pipeline.web.peers import cannot_say

__all__ = ["elsewhere_routes"]

PATHS = ("/leads/{tenant}/{message_id}", "/tables", "/tables/{name}", "/tables/{name}/{key:.+}")


def elsewhere_routes() -> list[web.RouteDef]:
    """A GET of any of `PATHS` is answered 503, never 404: that would say that a lead was not captured."""
    return [web.get(path, _elsewhere) for path in PATHS]


async def _elsewhere(request: web.Request) -> web.Response:
    raise cannot_say("This worker only captures leads. Ask one that runs agents.")
