"""One request to `POST /leads` of a worker, and what its answer means for each lead.

    Unavailable     no answer, or one that says: later
    NotAccepting    an answer that another try would not change; the text names URL and status

Neither holds anything of the answer: what answers may be no worker, and say anything.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
import msgspec
from yarl import URL

from pipeline.lead import Lead, encode
from pipeline.sending.probe import speaks_kafka
from pipeline.showing import printable

__all__ = ["Answer", "Client", "Item", "NotAccepting", "Unavailable", "Verdict", "leads_url"]

REQUEST_TIMEOUT_S = 60.0
#: A shorter one would take a worker for one that hangs.
REQUEST_TIMEOUT_MIN_S = 1.0
#: A receipt has less than 3 KiB, however its message id must be quoted.
ANSWER_SIZE_MAX_BYTES = 4 * 1024 * 1024

#: 502 and 504 come from a proxy whose worker is being started again.
_LATER = frozenset((408, 429, 502, 503, 504))
#: Answers that may come with a result for each item.
_WITH_RESULTS = frozenset((202, 400, 503))
_REASON_MAX_CHARS = 200


class Unavailable(Exception):
    """The worker did not say that it has the leads; it may have them. `retry_after_s`: 0 when it did not ask for it."""

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class NotAccepting(Exception):
    """What is at the URL does not take leads, now or later."""


@dataclass(frozen=True, slots=True)
class Item:
    """A lead on its way: the line it comes from, and what is sent."""

    line: int
    lead: Lead
    body: bytes

    @classmethod
    def of(cls, line: int, lead: Lead) -> Item:
        """The lead of a line, encoded once for all tries."""
        return cls(line, lead, encode(lead))


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one lead: safe (202), to be sent again (503), or refused with a reason."""

    status: int
    reason: str = ""


class Answer(NamedTuple):
    """A verdict on each lead, in order, and how long not to come back, 0 when that is not said."""

    verdicts: list[Verdict]
    retry_after_s: float


class _Result(msgspec.Struct):
    """A receipt, or a problem with its status."""

    status: int | None = None
    message_id: str | None = None
    tenant: str | None = None
    offset: int | None = None
    spooled: bool = False
    field: str | None = None
    reason: str | None = None


class _Answer(msgspec.Struct):
    results: list[_Result]


_answer = msgspec.json.Decoder(_Answer)


def leads_url(text: str) -> URL:
    """`/leads` of a worker's URL; it may stand there already.

    Raises:
        ValueError: it is no URL of a web server.
    """
    url = URL(text)
    (url.host or "").encode("idna")  # what no name can be, such as a..b: a UnicodeError is a ValueError
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise ValueError("write it as http://host:6066")
    return url if url.path.rstrip("/").endswith("/leads") else url / "leads"


class Client:
    """Posts arrays of leads over a session that belongs to the caller."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, *, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._session = session
        self._url = url
        self._timeout_s = timeout_s
        #: Whether something at the URL has answered as a web server.
        self._speaks_http = False
        #: The URL as it may be shown: without a password.
        self.shown_url = str(url.with_user(None))

    async def post(self, items: Sequence[Item], *, within_s: float = math.inf) -> Answer:
        """Post the leads in one array; an answer is waited for `within_s`, or a little longer where that is too short.

        Raises:
            Unavailable: send the same again.
            NotAccepting: do not.
        """
        body = b"[" + b",".join(item.body for item in items) + b"]"
        try:
            status, headers, content = await self._ask(body, min(self._timeout_s, max(within_s, REQUEST_TIMEOUT_MIN_S)))
        except TimeoutError:
            raise Unavailable("no answer in time") from None
        except aiohttp.ClientSSLError:
            raise NotAccepting(
                f"{self.shown_url} does not speak TLS with a certificate that this machine trusts."
            ) from None
        except aiohttp.ClientResponseError:
            raise NotAccepting(f"{self.shown_url} does not speak HTTP as a worker does.") from None
        except aiohttp.ClientError as error:
            await self._require_http()
            raise Unavailable(_explained(error)) from None
        return self._understood(items, status, headers, content)

    async def _require_http(self) -> None:
        """A broker hangs up in silence, as a worker that dies does; it is known by its answer to its own protocol."""
        if not self._speaks_http and self._url.scheme == "http" and await speaks_kafka(self._url):
            raise NotAccepting(
                f"{self.shown_url} speaks no HTTP: it is a Kafka broker. Give the URL of a worker, http://host:6066."
            )

    async def _ask(self, body: bytes, timeout_s: float) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        async with self._session.post(
            self._url,
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
        ) as answer:
            self._speaks_http = True
            content = bytearray()
            async for chunk in answer.content.iter_any():
                content += chunk
                if len(content) > ANSWER_SIZE_MAX_BYTES:
                    raise NotAccepting(f"{self.shown_url} answers {answer.status} with more than a worker would.")
            return answer.status, answer.headers, bytes(content)

    def _understood(self, items: Sequence[Item], status: int, headers: Mapping[str, str], content: bytes) -> Answer:
        verdicts = _verdicts(items, content) if status in _WITH_RESULTS else None
        if verdicts is not None:
            return Answer(verdicts, _retry_after_s(headers))
        if status in _LATER:
            raise Unavailable(f"it answers {status}", _retry_after_s(headers))
        if status == 202:
            raise NotAccepting(f"{self.shown_url} answers 202, but not with receipts: is it a worker of this version?")
        raise NotAccepting(f"{self.shown_url} answers {status}{_hint(status)}")


def _verdicts(items: Sequence[Item], content: bytes) -> list[Verdict] | None:
    """What an answer says of each item; None when that is not the answer of a worker to these items."""
    try:
        results = _answer.decode(content).results
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if len(results) != len(items):
        return None
    verdicts = [_verdict(item, result) for item, result in zip(items, results, strict=True)]
    known = [verdict for verdict in verdicts if verdict is not None]
    return known if len(known) == len(items) else None


def _verdict(item: Item, result: _Result) -> Verdict | None:
    """None: it is neither a receipt for this very lead nor a problem."""
    if result.status is None:
        given = (result.message_id, result.tenant)
        is_safe = result.offset is not None or result.spooled
        is_receipt = is_safe and given == (item.lead.message_id, item.lead.tenant)
        return Verdict(202) if is_receipt else None
    if result.status in _LATER:
        return Verdict(503)
    if 400 <= result.status < 500:
        reason = f"{result.field}: {result.reason}" if result.field else f"{result.reason}"
        reason = printable(reason[:_REASON_MAX_CHARS])
        return Verdict(result.status, reason if result.reason else "the worker refuses it")
    return None


def _hint(status: int) -> str:
    if 300 <= status < 400:
        return ", a redirection: give the URL that it leads to."
    if status in (401, 403):
        return ": it wants credentials that `leads send` does not have."
    return ": is it a worker, and of this version?" if status < 500 else ": look into its log."


def _explained(error: aiohttp.ClientError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it cannot be reached"
    return "the connection was lost"


def _retry_after_s(headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        at = parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):  # the end of the calendar, in a zone where it is already over
        return 0.0
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
