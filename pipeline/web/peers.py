"""The workers among themselves: who owns a partition, and what it answers."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from pipeline.web.access import FORWARDED, peer_headers
from pipeline.web.problems import Problem

__all__ = ["Peers", "cannot_say"]

#: The app id of who asks, and of who answers: on the port of a worker that died may be one of another app by now, which
#: would answer for its own CRM.
APP = "X-Leads-App"
OWNER_TIMEOUT_S = 3.0


class Peers:
    """Finds and asks the owner of a partition. Topics and changelogs of an app are assigned together: whoever owns a
    partition of one has the partition with this number of all.

    Arguments:
        app: The app of this worker.
        changelog: A changelog topic of it: whoever has a partition of it owns that number.
        partitions: How many there are.
        token: What all workers know, if they have one.
    """

    def __init__(self, app: Any, changelog: str, partitions: int, token: str = "") -> None:
        self._app = app
        self._token = token
        self._changelog = changelog
        self._partition = DefaultPartitioner()
        self.partitions = list(range(partitions))

    def partition(self, key: bytes) -> int:
        """The partition of a key, as every producer chooses it."""
        number: int = self._partition(key, self.partitions, self.partitions)
        return number

    def is_ours(self, partition: int) -> bool:
        """Whether this worker owns `partition`, and has its tables."""
        is_ready = self._app.tables.actives_ready and not self._app.rebalancing and not self._app.should_stop
        return is_ready and partition in self.ours()

    def ours(self) -> set[int]:
        """The partitions that are assigned to this worker, whether it has recovered their tables or not."""
        return {tp.partition for tp in self._app.assignor.assigned_actives() if tp.topic == self._changelog}

    def owner(self, partition: int) -> str | None:
        """The URL of the worker that owns `partition`, as of the last assignment."""
        owner: str | None = self._app.assignor._tps_url.get(TP(self._changelog, partition))
        return owner

    async def ask(self, owner: str | None, path: str) -> tuple[int, Any]:
        """Status and JSON that `owner` answers to a GET of `path`.

        Raises:
            Problem: 503, nobody can say right now.
        """
        if owner is None:
            raise cannot_say("No worker owns this partition right now.")
        headers = {FORWARDED: owner, APP: self._app.conf.id, hdrs.ACCEPT: "application/json"}
        headers |= peer_headers(self._token, owner)
        timeout = aiohttp.ClientTimeout(total=OWNER_TIMEOUT_S)
        get = self._app.http_client.get
        try:
            async with get(f"{owner}{path}", headers=headers, timeout=timeout, allow_redirects=False) as answer:
                if answer.headers.get(APP) != self._app.conf.id:
                    raise cannot_say(
                        "The worker that owns this partition is gone; another program answers in its place."
                    )
                if answer.status in (401, 403):
                    raise cannot_say("The worker that owns this partition has another LEADS_OPS_TOKEN, or needs one.")
                return answer.status, msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            raise cannot_say("The worker that owns this partition does not answer.") from None
        except RuntimeError:  # the session is closed: it stops before the web server does
            if not self._app.should_stop:
                raise
            raise cannot_say("This worker is stopping.") from None

    def is_from_peer(self, request: web.Request) -> bool:
        """Whether another worker asks, which wants to know what this one has itself.

        Raises:
            Problem: 421, it takes this worker for another one.
        """
        asked = request.headers.get(FORWARDED)
        if asked is None:
            return False
        if request.headers.get(APP) != self._app.conf.id or asked != str(self._app.conf.canonical_url):
            raise Problem(421, "Another worker", f"Here is {self._app.conf.canonical_url} of {self._app.conf.id}.")
        return True

    @web.middleware
    async def signed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Tell a peer whose answer it gets."""
        response = await handler(request)
        if FORWARDED in request.headers:
            response.headers[APP] = self._app.conf.id
        return response


def cannot_say(detail: str) -> Problem:
    """Why nobody can answer right now."""
    return Problem(503, "Cannot say right now", detail, headers={hdrs.RETRY_AFTER: "1"})
