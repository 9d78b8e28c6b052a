"""`POST /leads`: validate, publish, and answer 202 when the lead is safe, never before: when the broker has it on all
in-sync replicas or, while that does not acknowledge, when the spool has it on the disk.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from pipeline.lead import ARRAY_MAX_LEADS, LEAD_SIZE_MAX_BYTES, InvalidLead, Lead, LeadTooLarge, key, take
from pipeline.spool import Headers
from pipeline.web.access import Access, Address
from pipeline.web.bounds import BODY_SIZE_MAX_BYTES, Held, Load, RateLimit, busy
from pipeline.web.form import received_page, refusal_page
from pipeline.web.form_body import FORM_SIZE_MAX_BYTES, FORM_TYPES, Form, parse_form
from pipeline.web.forms_file import BUILT_IN
from pipeline.web.pages import wants_html
from pipeline.web.problems import Problem, bad_body, invalid, too_large, unsupported

__all__ = ["Capture", "Outcome", "Position", "Publisher", "Receipt", "Result", "Spooled", "Unacknowledged", "accepted"]

#: The agents run on the same loop: the largest array must not hold it for longer than a few of their batches do.
PARSED_AT_ONCE_BYTES = 128 * 1024
BODY_TIMEOUT_S = 30.0
RETRY_AFTER_S = 5

#: What a browser is shown again after `POST /leads`, whatever form of whatever site it has sent.
_ANY_FORM = next(iter(BUILT_IN.values()))

_PLAIN = re.compile(r"[A-Za-z0-9._-]+")
_ARRAY = re.compile(rb"[ \t\r\n]*\[")
_Read = Callable[[web.Request, Held], Awaitable[bytes]]
_items = msgspec.json.Decoder(list[msgspec.Raw])


class Position(msgspec.Struct, frozen=True):
    """Where the broker has a record."""

    partition: int
    offset: int


class Spooled(msgspec.Struct, frozen=True):
    """A record lies in the spool of this machine, on the disk. The broker gets it when it is back."""


class Unacknowledged(Exception):
    """Nobody said that they have a record. The broker may have it. The text says why, without data of the record."""


#: What became of a record; another exception than `Unacknowledged` is a bug.
Outcome = Position | Spooled | Exception
#: The same where a bug is raised.
Result = Position | Spooled | Unacknowledged


class Publisher(Protocol):
    """Puts captured leads into their topic."""

    def put(self, key: bytes, value: bytes, tell: Callable[[Outcome], None], headers: Headers = ()) -> None:
        """Publish one in bounded time; `tell` is called once, later."""

    async def publish(self, records: Sequence[tuple[bytes, bytes]], headers: Headers = ()) -> list[Result]:
        """Publish (key, value) pairs in bounded time, each with these headers; each result is where it is safe, or why
        it is not.
        """


class Receipt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client gets for a lead that is safe: where the broker has it, or that it is spooled."""

    message_id: str
    tenant: str
    partition: int | None = None
    offset: int | None = None
    spooled: bool = False
    status_url: str


class Capture:
    """The endpoint. What it answers is 202, 400, 408, 413, 415, 429 or 503; errors are problem JSON.

    A browser that sends a form is answered 303 instead of 202, and errors are pages.

    Arguments:
        publisher: Where captured leads go.
        access: Who a client is.
        load: What is in work in this worker.
        rate_limit: What an address may send.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        access: Access,
        load: Load,
        rate_limit: RateLimit,
        retry_after_s: int = RETRY_AFTER_S,
        body_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        self._publisher = publisher
        self._access = access
        self._load = load
        self._rate_limit = rate_limit
        self._retry_after_s = retry_after_s
        self._body_timeout_s = body_timeout_s

    def routes(self) -> list[web.RouteDef]:
        """`POST /leads`."""
        return [web.post("/leads", self.post)]

    async def post(self, request: web.Request) -> web.Response:
        """One lead or an array of them; or a form, which is one lead and is answered with pages if a browser sent it.

        An array is answered 202 as soon as one of its leads is safe, with an object per item: a receipt, or a problem
        with its own `status`. Else it is answered 503 if the broker is a reason for that, and 400 if no item is valid.
        """
        with self.hold(request) as held:
            if request.content_type in FORM_TYPES:
                return await self._post_form(request, held)
            return await self._post_json(request, held)

    async def _post_json(self, request: web.Request, held: Held) -> web.Response:
        try:
            _check_media_type(request)
            _check_coding(request)
            message_id = _idempotency_key(request)
            client = self._access.client(request)
            self._rate_limit.require(client)
            body = await self._body(request, _read, held)
            held.enter()
            if _ARRAY.match(body):
                return await self._capture_array(body, message_id, client)
            return accepted(await self.capture_one(body, message_id))
        except Problem as refusal:
            return refusal.response()

    async def _post_form(self, request: web.Request, held: Held) -> web.Response:
        form: Form | None = None
        try:
            form, message_id = await self.read_form(request, held)
            self.admit(request, held)
            # As JSON, so that what is wrong with a form is said as it is for everybody else.
            receipt = await self.capture_one(msgspec.json.encode(form.members()), message_id)
        except Problem as refusal:
            is_page = wants_html(request)
            return refusal_page(refusal, form, _ANY_FORM, "/leads") if is_page else refusal.response()
        if not wants_html(request):
            return accepted(receipt)
        return _see(receipt) if self._access.may_operate(request) else received_page(_ANY_FORM, receipt.message_id)

    def hold(self, request: web.Request) -> AbstractContextManager[Held]:
        """What a request holds while it is in work."""
        return self._load.hold(self._access.client(request))

    def admit(self, request: web.Request, held: Held) -> None:
        """See that its address may send, and that there is room for it. Of a form once it is read: whoever has typed it
        gets it back.

        Raises:
            Problem: 429 or 503.
        """
        self._rate_limit.require(self._access.client(request))
        held.enter()

    async def read_form(self, request: web.Request, held: Held) -> tuple[Form, str | None]:
        """The form in the body of a request with one of the `FORM_TYPES`, and the id that is given beside it.

        Raises:
            Problem: it cannot be read.
        """
        _check_coding(request)
        message_id = _idempotency_key(request)
        body = await self._body(request, _read_form, held)
        try:
            return parse_form(body, request.headers[hdrs.CONTENT_TYPE]), message_id
        except Problem:
            self._rate_limit.require(self._access.client(request))
            raise

    async def _body(self, request: web.Request, read: _Read, held: Held) -> bytes:
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await read(request, held)
        except TimeoutError:
            detail = f"The body did not arrive within {self._body_timeout_s:g} s."
            raise Problem(408, "The body takes too long", detail, kind="body-timeout") from None
        except (ConnectionError, HttpProcessingError, web.RequestPayloadError):
            raise bad_body("It is cut off or wrongly framed.") from None

    async def capture_one(self, body: bytes, message_id: str | None, headers: Headers = ()) -> Receipt:
        """Publish the lead in `body`, JSON, in a record with `headers`.

        Raises:
            Problem: it is none, or is not acknowledged.
        """
        try:
            taken = take(body, message_id=message_id)
        except LeadTooLarge as error:
            raise too_large(error.reason) from None
        except InvalidLead as error:
            raise invalid(error) from None
        [outcome] = await self._publish([taken], headers)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def _capture_array(self, body: bytes, message_id: str | None, client: Address | None) -> web.Response:
        if message_id is not None:
            raise invalid(InvalidLead(None, "an Idempotency-Key names one lead; give each item its own message_id"))
        raw = _split(body)
        self._rate_limit.charge(client, len(raw) - 1)  # the request was charged as one
        items = await _parsed_all(raw)
        outcomes = iter(await self._publish([item for item in items if not isinstance(item, Problem)]))
        results = [item if isinstance(item, Problem) else next(outcomes) for item in items]
        shown = [result.body() if isinstance(result, Problem) else result for result in results]
        failures = [result for result in results if isinstance(result, Problem)]
        if len(failures) < len(results):
            return accepted({"results": shown})
        if any(failure.status == 503 for failure in failures):
            raise self._unacknowledged(results=shown)
        raise Problem(400, "No valid lead", "No item of the array is a valid lead.", kind="invalid-lead", results=shown)

    def submit(self, body: bytes, client: Address | None, answer: Callable[[Receipt | Exception], None]) -> None:
        """The same for the body of one lead, without a coroutine: `answer` is called later, with the receipt, the
        problem, or a bug.

        Raises:
            InvalidLead: it is none; `answer` is not called.
            Problem: it is not taken; nor is it then.
        """
        size_bytes = len(body)
        if not self._load.has_room(size_bytes):
            raise busy()
        lead, value = take(body)
        self._rate_limit.require(client)
        self._load.enter(size_bytes)

        def tell(outcome: Outcome) -> None:
            self._load.leave(size_bytes)
            answer(self._outcome(lead, outcome) if isinstance(outcome, Result) else outcome)

        self._publisher.put(key(lead), value, tell)

    async def _publish(self, taken: Sequence[tuple[Lead, bytes]], headers: Headers = ()) -> list[Receipt | Problem]:
        if not taken:
            return []
        results = await self._publisher.publish([(key(lead), value) for lead, value in taken], headers)
        return [self._outcome(lead, result) for (lead, _), result in zip(taken, results, strict=True)]

    def _outcome(self, lead: Lead, result: Result) -> Receipt | Problem:
        if isinstance(result, Position):
            return _receipt(lead, result)
        if isinstance(result, Spooled):
            return _spooled_receipt(lead)
        return self._unacknowledged(message_id=lead.message_id, tenant=lead.tenant)

    def _unacknowledged(self, **members: Any) -> Problem:
        return Problem(
            503,
            "Not acknowledged",
            "The broker did not acknowledge in time; it may have the lead or not. "
            "Send it again with the same message_id: that is safe, a lead that arrives twice is written once.",
            kind="not-acknowledged",
            headers={hdrs.RETRY_AFTER: str(self._retry_after_s)},
            **members,
        )


def _check_media_type(request: web.Request) -> None:
    media_type = request.content_type
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise unsupported(f"Content-Type must be application/json, or that of a form: {' or '.join(FORM_TYPES)}.")


def _check_coding(request: web.Request) -> None:
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise unsupported("The charset must be utf-8.")
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, [])
    if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings):
        # What a few compressed bytes expand to has no bound that the client states.
        raise unsupported("Content-Encoding must be identity: send the body uncompressed.")


def _idempotency_key(request: web.Request) -> str | None:
    keys = request.headers.getall("Idempotency-Key", [])
    if len(keys) > 1:
        raise invalid(InvalidLead("message_id", "more than one Idempotency-Key is given"))
    # The IETF draft puts it in quotes, most clients do not: both mean the same key.
    quoted = re.fullmatch(r'"(.*)"', keys[0]) if keys else None
    return quoted[1] if quoted else next(iter(keys), None)


async def _read(request: web.Request, held: Held) -> bytes:
    """The body, never more than a chunk over its bound. (aiohttp's own bound is only for `request.read()`.)"""
    if (request.content_length or 0) > BODY_SIZE_MAX_BYTES:
        raise too_large(f"A body has at most {BODY_SIZE_MAX_BYTES} bytes.")
    body = bytearray()
    async for chunk in request.content.iter_any():
        held.grow(len(chunk))
        body += chunk
        if len(body) > BODY_SIZE_MAX_BYTES:
            raise too_large(f"A body has at most {BODY_SIZE_MAX_BYTES} bytes.")
        if len(body) > LEAD_SIZE_MAX_BYTES and not _ARRAY.match(body):
            raise too_large(LeadTooLarge().reason)
    return bytes(body)


async def _read_form(request: web.Request, held: Held) -> bytes:
    refusal = too_large(f"A form has at most {FORM_SIZE_MAX_BYTES} bytes.")
    if (request.content_length or 0) > FORM_SIZE_MAX_BYTES:
        raise refusal
    body = bytearray()
    async for chunk in request.content.iter_any():
        held.grow(len(chunk))
        body += chunk
        if len(body) > FORM_SIZE_MAX_BYTES:
            raise refusal
    return bytes(body)


def _split(body: bytes) -> list[msgspec.Raw]:
    try:
        items = _items.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise invalid(InvalidLead(None, "the array is malformed JSON")) from None
    if not 1 <= len(items) <= ARRAY_MAX_LEADS:
        raise invalid(InvalidLead(None, f"an array holds 1 to {ARRAY_MAX_LEADS} leads"))
    return items


async def _parsed_all(items: Sequence[msgspec.Raw]) -> list[tuple[Lead, bytes] | Problem]:
    parsed, size_bytes = list[tuple[Lead, bytes] | Problem](), 0
    for item in items:
        body = bytes(item)
        parsed.append(_parsed(body))
        size_bytes += len(body)
        if size_bytes > PARSED_AT_ONCE_BYTES:
            size_bytes = 0
            await asyncio.sleep(0)
    return parsed


def _parsed(item: bytes) -> tuple[Lead, bytes] | Problem:
    try:
        return take(item)
    except InvalidLead as error:
        return invalid(error)


def _receipt(lead: Lead, position: Position) -> Receipt:
    url = f"{_url(lead)}?partition={position.partition}&offset={position.offset}"
    return Receipt(
        message_id=lead.message_id,
        tenant=lead.tenant,
        partition=position.partition,
        offset=position.offset,
        status_url=url,
    )


def _spooled_receipt(lead: Lead) -> Receipt:
    # So that nobody says of it that there is no such lead.
    url = f"{_url(lead)}?spooled=true"
    return Receipt(message_id=lead.message_id, tenant=lead.tenant, spooled=True, status_url=url)


def _url(lead: Lead) -> str:
    # What a tenant is made of needs no quotes, and no more do most ids.
    name = lead.message_id if _PLAIN.fullmatch(lead.message_id) else quote(lead.message_id, safe="")
    return f"/leads/{lead.tenant}/{name}"


def accepted(content: Receipt | dict[str, Any]) -> web.Response:
    """202 with what was captured."""
    return web.Response(body=msgspec.json.encode(content), status=202, content_type="application/json")


def _see(receipt: Receipt) -> web.Response:
    # The page of the receipt can be loaded again without sending the form again.
    return web.Response(status=303, headers={hdrs.LOCATION: receipt.status_url, hdrs.CACHE_CONTROL: "no-store"})
