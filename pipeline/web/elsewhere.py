"""What a worker without agents answers where only one with agents knows: it has no partitions, and no tables."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from pipeline.lead import name_flaw
from pipeline.status import State
from pipeline.web.pages import page, wants_html
from pipeline.web.peers import cannot_say
from pipeline.web.spooled import IsSpooled, waits_in_spool

__all__ = ["elsewhere_routes"]

PATHS = ("/tables", "/tables/{name}", "/tables/{name}/{key:.+}")


def elsewhere_routes(is_spooled: IsSpooled) -> list[web.RouteDef]:
    """A GET of any of `PATHS`, or of a lead that does not wait in the spool, is answered 503, never 404: that would say
    that a lead was not captured.
    """

    async def status(request: web.Request) -> web.Response:
        tenant, message_id = request.match_info["tenant"], request.match_info["message_id"]
        if name_flaw(tenant, message_id) or not await waits_in_spool(is_spooled, tenant, message_id):
            return await _elsewhere(request)
        found: dict[str, Any] = {"tenant": tenant, "message_id": message_id, "state": State.PENDING.value}
        if wants_html(request):
            unknown: dict[str, Any] = dict.fromkeys(("written_at", "reason", "this_record", "retry_after_s"))
            return page("receipt", has_receipt=False, **found, **unknown)
        return web.json_response(found, headers={hdrs.CACHE_CONTROL: "no-store"})

    return [web.get("/leads/{tenant}/{message_id}", status), *(web.get(path, _elsewhere) for path in PATHS)]


async def _elsewhere(request: web.Request) -> web.Response:
    raise cannot_say("This worker only captures leads. Ask one that runs agents.")
