"""`GET /tables/seen/{tenant}/{message_id}`: a table entry, asked of any worker, answered by the partition's owner.

`GET /tables` says which tables there are, and who owns their partitions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web
from aiokafka.partitioner import DefaultPartitioner
from faust.types import TP

from pipeline.dedupe import Seen
from pipeline.web.problems import problem

__all__ = ["SeenView"]

#: Set on a question from worker to worker, so that two that disagree on the owner do not send it around for ever.
FORWARDED = "X-Leads-Forwarded"
OWNER_TIMEOUT_S = 3.0


class SeenView:
    """Answers from the local database if this worker owns the key's partition, else asks the owner."""

    def __init__(self, app: Any, table: Any, partitions: int) -> None:
        self._app = app
        self._table = table
        self._partitions = list(range(partitions))
        self._partition = DefaultPartitioner()

    def routes(self) -> list[web.RouteDef]:
        """`GET /tables`, `GET /tables/seen/{tenant}/{message_id}`."""
        return [web.get("/tables", self.list), web.get("/tables/seen/{tenant}/{message_id}", self.get)]

    async def list(self, request: web.Request) -> web.Response:
        """200 with every table and the owner of each of its partitions."""
        owners = {str(p): self._owner(TP(self._table.changelog_topic_name, p)) for p in self._partitions}
        entry = "/tables/seen/{tenant}/{message_id}"
        return web.json_response({"tables": [{"name": "seen", "entry": entry, "owners": owners}]})

    async def get(self, request: web.Request) -> web.Response:
        """200 with the entry, 404 when the key is not there, 503 while nobody can say."""
        tenant, message_id = request.match_info["tenant"], request.match_info["message_id"]
        key = f"{tenant}/{message_id}".encode()
        partition = self._partition(key, self._partitions, self._partitions)
        changelog = TP(self._table.changelog_topic_name, partition)
        if changelog in self._app.assignor.assigned_actives():
            return self._answer(key, partition)
        owner = self._owner(changelog)
        if owner is None or FORWARDED in request.headers:
            return _unknown("No worker owns the partition of this key right now.")
        return await self._ask(f"{owner}/tables/seen/{quote(tenant, safe='')}/{quote(message_id, safe='')}")

    def _owner(self, changelog: TP) -> str | None:
        owner: str | None = self._app.assignor._tps_url.get(changelog)
        return owner

    def _answer(self, key: bytes, partition: int) -> web.Response:
        if not self._app.tables.actives_ready or self._app.rebalancing:
            return _unknown("The table is being recovered.")
        (value,) = self._table.get_many(partition, [key])
        if value is None:
            return problem(404, "Not in the table", "No lead with this id was seen, or it was forgotten since.")
        entry = Seen.unpack(value)
        return web.json_response(
            {
                "key": key.decode(),
                "partition": partition,
                "offset": entry.offset,
                "time": datetime.fromtimestamp(entry.time_ms / 1000, UTC).isoformat(),
                "content_hash": entry.digest.hex(),
                "owner": str(self._app.conf.canonical_url),
            }
        )

    async def _ask(self, url: str) -> web.Response:
        timeout = aiohttp.ClientTimeout(total=OWNER_TIMEOUT_S)
        try:
            async with self._app.http_client.get(url, headers={FORWARDED: "1"}, timeout=timeout) as answer:
                return web.Response(
                    body=await answer.read(), status=answer.status, content_type=answer.content_type, charset="utf-8"
                )
        except (aiohttp.ClientError, TimeoutError):
            return _unknown("The worker that owns the partition of this key does not answer.")


def _unknown(detail: str) -> web.Response:
    return problem(503, "Cannot say right now", detail, headers={"Retry-After": "1"})
