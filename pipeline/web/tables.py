"""The tables, asked of any worker: `GET /tables`, `/tables/{name}` and `/tables/{name}/{key}`.

What a worker does not have itself it asks of the owner. A question from a peer is answered from what is here.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from faust.types import TP

from pipeline.web.entries import entry_row
from pipeline.web.owned import Owned
from pipeline.web.pages import page, wants_html
from pipeline.web.peers import Peers, cannot_say
from pipeline.web.problems import Problem

__all__ = ["ShownTable", "TablesView"]

LIMIT = 100
LIMIT_MAX = 1000


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table, the topic that it is made from, and what its values say.

    `describe` is a function from bytes to members of a JSON object, `rows` one from an entry to rows of a page.
    """

    table: Any
    topic: str
    describe: Callable[[bytes], dict[str, Any]]
    rows: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda entry: [entry_row(entry)]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a page begins: in `partition`, with the first key that is not before `start`."""

    partition: int
    start: bytes = b""

    def after(self, key: bytes) -> _Place:
        return _Place(self.partition, key + b"\0")

    def __str__(self) -> str:
        return f"{self.partition}.{urlsafe_b64encode(self.start).decode()}"

    @classmethod
    def parse(cls, text: str) -> _Place:
        number, _, start = text.partition(".")
        return cls(int(number), urlsafe_b64decode(start.encode()))


class TablesView:
    """Shows the tables of the app, by name."""

    def __init__(self, app: Any, peers: Peers, tables: Mapping[str, ShownTable]) -> None:
        self._app = app
        self._peers = peers
        self._by_name = tables

    def routes(self) -> list[web.RouteDef]:
        """`GET /tables`, `/tables/{name}`, `/tables/{name}/{key}`."""
        return [
            web.get("/tables", self.tables),
            web.get("/tables/{name}", self.entries),
            web.get("/tables/{name}/{key:.+}", self.entry),
        ]

    async def tables(self, request: web.Request) -> web.Response:
        """200 with every table: the owner of each partition, how far it is, and what is still to recover."""
        partitions = {name: self._here(shown.table) for name, shown in self._by_name.items()}
        if not self._peers.is_from_peer(request):
            partitions = await self._completed(partitions)
        tables = [
            {"name": name, "entries_url": f"/tables/{name}", "partitions": [found[number] for number in sorted(found)]}
            for name, found in partitions.items()
        ]
        if wants_html(request):
            return page("tables", tables=tables)
        return web.json_response({"tables": tables})

    async def entries(self, request: web.Request) -> web.Response:
        """200 with at most `limit` entries from `from` on, partition by partition, and where the next page is.

        With `partition` only those of that one.
        """
        shown = self._shown(request)
        limit, place, is_one = self._wanted(request)
        found, following = await self._page(shown, place, limit, is_one, self._peers.is_from_peer(request))
        name = request.match_info["name"]
        more = {"limit": limit, **({"partition": place.partition} if is_one else {})}
        following_url = None if following is None else f"/tables/{name}?{urlencode({**more, 'from': str(following)})}"
        if wants_html(request):
            return _as_page(name, shown, found, following_url)
        return web.json_response({"name": name, "entries": found, "next": following_url})

    async def entry(self, request: web.Request) -> web.Response:
        """200 with the entry, 404 when the key is not there, 503 while nobody can say."""
        shown, key = self._shown(request), request.match_info["key"].encode("utf-8", "replace")
        found = await self._one(shown, key, self._peers.is_from_peer(request))
        if wants_html(request):
            return page("entry", name=request.match_info["name"], rows=shown.rows(found))
        return web.json_response(found)

    # -- which partitions there are

    def _here(self, table: Any) -> dict[int, dict[str, Any]]:
        to_go = self._app.tables.recovery.to_go
        not_ready = "being assigned" if to_go is None else "recovering"
        state = not_ready if self._app.rebalancing or not self._app.tables.actives_ready else "ready"
        return {
            number: {
                "partition": number,
                "owner": str(self._app.conf.canonical_url),
                "state": state,
                "changelog_offset": None if state == "being assigned" else table.data.next_offset(number),
                "remaining": (to_go or {}).get(TP(table.changelog_topic_name, number), 0),
            }
            for number in self._peers.ours()
        }

    async def _completed(self, here: dict[str, dict[int, dict[str, Any]]]) -> dict[str, dict[int, dict[str, Any]]]:
        """With the partitions of all others, too."""
        ours = self._peers.ours()
        owners = {number: self._peers.owner(number) for number in self._peers.partitions if number not in ours}
        others = {owner for owner in owners.values() if owner is not None}
        answers = dict(zip(others, await asyncio.gather(*map(self._of_peer, others)), strict=True))
        for name, found in here.items():
            for number, owner in owners.items():
                theirs = answers.get(owner or "", {}).get(name, {})
                found[number] = theirs.get(number) or _unknown(number, owner)
        return here

    async def _of_peer(self, owner: str) -> dict[str, dict[int, dict[str, Any]]]:
        try:
            _, answer = await self._peers.ask(owner, "/tables")
        except Problem:
            return {}
        return {table["name"]: {one["partition"]: one for one in table["partitions"]} for table in answer["tables"]}

    # -- entries

    def _shown(self, request: web.Request) -> ShownTable:
        shown = self._by_name.get(request.match_info["name"])
        if shown is None:
            raise Problem(404, "No such table", f"The tables of this app are: {', '.join(self._by_name)}.")
        return shown

    def _wanted(self, request: web.Request) -> tuple[int, _Place, bool]:
        query = request.query
        try:
            limit, first = int(query.get("limit", LIMIT)), int(query.get("partition", 0))
            place = _Place.parse(query["from"]) if "from" in query else _Place(first)
        except ValueError:
            raise _bad_page() from None
        is_one = "partition" in query
        if not 1 <= limit <= LIMIT_MAX or place.partition not in self._peers.partitions:
            raise _bad_page()
        if is_one and place.partition != first:
            raise _bad_page()
        return limit, place, is_one

    async def _page(
        self, shown: ShownTable, place: _Place, limit: int, is_one: bool, is_from_peer: bool
    ) -> tuple[list[dict[str, Any]], _Place | None]:
        found: list[dict[str, Any]] = []
        at: _Place | None = place
        while at is not None:
            part = await self._part(shown, at, limit - len(found), is_from_peer)
            found += part
            if len(found) == limit:
                return found, at.after(part[-1]["key"].encode())
            at = None if is_one or at.partition == self._peers.partitions[-1] else _Place(at.partition + 1)
        return found, None

    async def _part(self, shown: ShownTable, at: _Place, limit: int, is_from_peer: bool) -> list[dict[str, Any]]:
        if self._peers.is_ours(at.partition):
            owned = Owned(self._app, self._peers, at.partition)
            entries = shown.table.scan(at.partition, at.start, limit)
            await owned.confirm(shown.topic)
            return [self._entry(shown, at.partition, key, value) for key, value in entries]
        query = urlencode({"partition": at.partition, "from": str(at), "limit": limit})
        answer = await self._ask(at.partition, f"/tables/{shown.table.name}?{query}", is_from_peer)
        return list(answer["entries"])

    async def _one(self, shown: ShownTable, key: bytes, is_from_peer: bool) -> dict[str, Any]:
        partition = self._peers.partition(key)
        if not self._peers.is_ours(partition):
            return await self._ask(partition, f"/tables/{shown.table.name}/{quote(key, safe='')}", is_from_peer)
        owned = Owned(self._app, self._peers, partition)
        value = shown.table.get(partition, key)
        await owned.confirm(shown.topic)
        if value is None:
            raise _absent()
        return self._entry(shown, partition, key, value)

    async def _ask(self, partition: int, path: str, is_from_peer: bool) -> dict[str, Any]:
        if is_from_peer:
            raise cannot_say("The table is being recovered, or goes to another worker.")
        status, answer = await self._peers.ask(self._peers.owner(partition), path)
        if status == 404:
            raise _absent()
        if status != 200:
            raise cannot_say("The table is being recovered, or goes to another worker.")
        return dict(answer)

    def _entry(self, shown: ShownTable, partition: int, key: bytes, value: bytes) -> dict[str, Any]:
        where = {"key": key.decode(), "partition": partition}
        return {**where, **shown.describe(value), "owner": str(self._app.conf.canonical_url)}


def _unknown(number: int, owner: str | None) -> dict[str, Any]:
    state = "without an owner" if owner is None else "its worker does not answer"
    return {"partition": number, "owner": owner, "state": state, "changelog_offset": None, "remaining": None}


def _as_page(name: str, shown: ShownTable, entries: list[dict[str, Any]], next_url: str | None) -> web.Response:
    rows = [row for entry in entries for row in shown.rows(entry)]
    columns = list(rows[0]) if rows else ["key", "partition"]
    return page("entries", name=name, columns=columns, rows=rows, next_url=next_url)


def _absent() -> Problem:
    return Problem(404, "Not in the table", "There is no entry with this key, or it was forgotten since.")


def _bad_page() -> Problem:
    detail = f"limit is 1 to {LIMIT_MAX}, partition one of the table's, and from what the page before gave as next."
    return Problem(400, "No such page", detail, kind="bad-page")
