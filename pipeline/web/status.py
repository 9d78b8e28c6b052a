"""`GET /leads/{tenant}/{message_id}`: what became of a lead, asked of any worker, answered by its partition's owner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from aiohttp import hdrs, web

from pipeline.dead_letters import Letter, unpack
from pipeline.dedupe import Seen
from pipeline.lead import name_flaw
from pipeline.sinks import Sink, SinkUnavailable, SinkUnusable, WrittenLead
from pipeline.status import Evidence, State, gather, judge, letter, this_record
from pipeline.topics import CAPTURED
from pipeline.web.owned import Owned, logs_of
from pipeline.web.pages import page, problem_page, wants_html
from pipeline.web.peers import Peers, cannot_say
from pipeline.web.problems import Problem
from pipeline.web.spooled import IsSpooled, waits_in_spool

__all__ = ["StatusView"]

NO_STORE: Mapping[str, str] = {hdrs.CACHE_CONTROL: "no-store"}


@dataclass(frozen=True, slots=True)
class _Question:
    tenant: str
    message_id: str
    partition: int
    #: Of the record in `lead-captured` that the receipt names, if one is given.
    offset: int | None
    #: Its receipt says that it was spooled: then it is somewhere.
    was_spooled: bool = False

    @property
    def key(self) -> bytes:
        return f"{self.tenant}/{self.message_id}".encode()

    @property
    def path(self) -> str:
        spooled = "?spooled=true" if self.was_spooled else ""
        receipt = spooled if self.offset is None else f"?partition={self.partition}&offset={self.offset}"
        return f"/leads/{quote(self.tenant, safe='')}/{quote(self.message_id, safe='')}{receipt}"


class StatusView:
    """Answers pending, written or dead-lettered; 404 for an id that is not known, 503 while nobody can say.

    Arguments:
        app: The app of this worker.
        peers: The other workers.
        sink: The CRM, None in an app that writes none, which then has no answers.
        dead_letters: The table of this name; with the sink.
        seen: The table of this name, None in an app that does not dedupe.
        is_spooled: Whether a lead waits in the spool of this worker's data directory.
    """

    def __init__(
        self,
        app: Any,
        peers: Peers,
        sink: Sink | None,
        *,
        dead_letters: Any,
        seen: Any | None,
        is_spooled: IsSpooled,
    ) -> None:
        self._app = app
        self._peers = peers
        self._sink = sink
        self._dead_letters = dead_letters
        self._seen = seen
        self._is_spooled = is_spooled

    def routes(self) -> list[web.RouteDef]:
        """`GET /leads/{tenant}/{message_id}`."""
        return [web.get("/leads/{tenant}/{message_id}", self.get)]

    async def get(self, request: web.Request) -> web.Response:
        """200 with the state, in JSON or, for a browser, in words."""
        is_page = wants_html(request)
        try:
            question = self._question(request)
            answer = await self._answer(question, self._peers.is_from_peer(request))
        except Problem as problem:
            if not is_page:
                raise
            return _page_of(request, problem)
        if is_page:
            return _receipt(answer, has_receipt=question.offset is not None)
        return web.json_response(answer, headers=NO_STORE)

    def _question(self, request: web.Request) -> _Question:
        tenant, message_id = request.match_info["tenant"], request.match_info["message_id"]
        if flaw := name_flaw(tenant, message_id):
            raise Problem(404, "No lead has this name", f"{flaw}.", headers=NO_STORE)
        partition = self._peers.partition(f"{tenant}/{message_id}".encode())
        given = [request.query.get(name) for name in ("partition", "offset")]
        if given == [None, None]:
            return _Question(tenant, message_id, partition, None, request.query.get("spooled") == "true")
        numbers = [int(text) for text in given if text and text.isdecimal() and len(text) < 20]
        if len(numbers) != 2:
            raise _bad("Give both partition and offset as the receipt has them, or neither.")
        if numbers[0] != partition:
            raise _bad(f"Leads with this id are in partition {partition}; it is another lead's receipt.")
        return _Question(tenant, message_id, partition, numbers[1])

    async def _answer(self, question: _Question, is_from_peer: bool) -> dict[str, Any]:
        if self._app.should_stop:
            raise cannot_say("This worker is stopping.")
        try:
            is_spooled = await waits_in_spool(self._is_spooled, question.tenant, question.message_id)
        except Problem as unreadable:
            return await self._unless_missing(question, is_from_peer, unreadable)
        return await (self._of_spooled(question) if is_spooled else self._of_pipeline(question, is_from_peer))

    async def _unless_missing(self, question: _Question, is_from_peer: bool, why: Problem) -> dict[str, Any]:
        """What the pipeline knows; that it knows nothing is no answer, for `why`."""
        try:
            return await self._of_pipeline(question, is_from_peer)
        except Problem as problem:
            raise (why if problem.status == 404 else problem) from None

    async def _of_pipeline(self, question: _Question, is_from_peer: bool) -> dict[str, Any]:
        if self._peers.is_ours(question.partition):
            return await self._of_owner(question)
        if is_from_peer:
            raise cannot_say("The partition of this lead is being assigned.")
        try:
            status, answer = await self._peers.ask(self._peers.owner(question.partition), question.path)
        except Problem:
            return await self._without_owner(question)
        if status == 404:
            raise _missing(question)
        if status != 200:
            return await self._without_owner(question)
        return dict(answer)

    async def _of_owner(self, question: _Question) -> dict[str, Any]:
        places = _Places(self, question)
        written = await self._find(question)
        # A row is final; whether there is none can only be told after all that lies upstream of it.
        found = Evidence(written=written) if written is not None else await self._evidence(question, places)
        state = judge(found)
        if state is State.MISSING:
            raise _missing(question)
        if state is State.UNKNOWN:
            raise cannot_say("This worker has not read all dead letters or accepted leads yet.")
        return _body(question, state, found, *places.tables())

    async def _evidence(self, question: _Question, places: _Places) -> Evidence:
        found = await gather(places, offset=question.offset, dedupes=self._seen is not None)
        await places.owned.confirm()
        return found

    async def _of_spooled(self, question: _Question) -> dict[str, Any]:
        """What lies in the spool may be written all the same: the broker may have had it before."""
        try:
            written = await self._find(question)
        except Problem:
            written = None
        return _body(question, State.WRITTEN if written else State.PENDING, Evidence(written=written))

    async def _without_owner(self, question: _Question) -> dict[str, Any]:
        """What can be said for sure while the owner recovers, or is gone."""
        written = await self._find(question)
        if written is not None:
            return _body(question, State.WRITTEN, Evidence(written=written))
        if question.offset is not None and self._seen is not None:
            log = (await logs_of(self._app, question.partition, CAPTURED))[CAPTURED]
            if (log.stored or 0) <= question.offset < log.end:
                return _body(question, State.PENDING, Evidence())
        raise cannot_say("The worker that knows this lead starts, recovers, or is gone.")

    async def _find(self, question: _Question) -> WrittenLead | None:
        if self._sink is None:
            raise Problem(501, "No CRM here", "Ask a worker of an app that runs the agent crm_sink.")
        try:
            return await self._sink.find(question.tenant, question.message_id)
        except (SinkUnavailable, SinkUnusable):
            raise cannot_say("The CRM does not answer.") from None


class _Places:
    """Where the lead of a question can be met, in a partition of this worker."""

    def __init__(self, view: StatusView, question: _Question) -> None:
        self.owned = Owned(view._app, view._peers, question.partition)
        self._view = view
        self._question = question
        self.reached = self.owned.reached
        self.logs = self.owned.logs

    def seen(self) -> Seen | None:
        packed = self._read(self._view._seen)
        return None if packed is None else Seen.unpack(packed)

    def letters(self) -> Mapping[str, Letter]:
        packed = self._read(self._view._dead_letters)
        return {} if packed is None else unpack(packed)

    async def row(self) -> WrittenLead | None:
        return await self._view._find(self._question)

    def tables(self) -> tuple[Seen | None, Mapping[str, Letter]]:
        """What the tables say of it besides its state: nothing once the partition has gone."""
        try:
            return self.seen(), self.letters()
        except Problem:
            return None, {}

    def _read(self, table: Any) -> bytes | None:
        self.owned.check()
        packed: bytes | None = None if table is None else table.get(self._question.partition, self._question.key)
        return packed


_NO_LETTERS: Mapping[str, Letter] = {}


def _body(
    question: _Question,
    state: State,
    found: Evidence,
    entry: Seen | None = None,
    letters: Mapping[str, Letter] = _NO_LETTERS,
) -> dict[str, Any]:
    why = letter(found) if state is State.DEAD_LETTERED else None
    known = {
        "tenant": question.tenant,
        "message_id": question.message_id,
        "state": state.value,
        "this_record": None if question.offset is None else this_record(question.offset, entry, letters),
        "record_id": found.written and found.written.record_id,
        "written_at": found.written and found.written.written_at.isoformat(),
        "reason": why and why.reason,
        "dead_letter": why and {"partition": why.letter_partition, "offset": why.letter_offset},
        "times_received": entry and entry.times,
        "conflicts": entry and entry.conflicts,
        "first_received_at": entry and datetime.fromtimestamp(entry.time_ms / 1000, UTC).isoformat(),
    }
    return {name: value for name, value in known.items() if value is not None}


def _missing(question: _Question) -> Problem:
    if question.was_spooled:
        return cannot_say("It was spooled, and is on its way from there, or in the spool of another machine.")
    return Problem(
        404,
        "No such lead",
        "It is not in the CRM, not among the dead letters and not on its way. Just captured? Then ask with the "
        "partition and offset of its receipt.",
        headers=NO_STORE,
    )


def _bad(detail: str) -> Problem:
    return Problem(400, "Not a receipt", detail, kind="bad-receipt")


def _receipt(
    answer: Mapping[str, Any], *, has_receipt: bool, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    names = ("state", "tenant", "message_id", "written_at", "reason", "this_record")
    shown = {name: answer.get(name) for name in names}
    retry_after_s = (headers or {}).get(hdrs.RETRY_AFTER)
    return page(
        "receipt", status=status, headers=headers, retry_after_s=retry_after_s, has_receipt=has_receipt, **shown
    )


def _page_of(request: web.Request, problem: Problem) -> web.Response:
    state = {404: State.MISSING, 501: State.UNKNOWN, 503: State.UNKNOWN}.get(problem.status)
    if state is None:
        return problem_page(problem)
    answer = {**request.match_info, "state": state.value}
    return _receipt(answer, has_receipt="offset" in request.query, status=problem.status, headers=problem.headers)
