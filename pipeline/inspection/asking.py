"""Asks a worker over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
import click
from yarl import URL

from pipeline.inspection.errors import Unavailable

__all__ = ["Answer", "get"]

TIMEOUT_S = 10.0
BODY_SIZE_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status, the body, and after how many seconds to ask again, if it says so."""

    status: int
    body: bytes
    retry_after_s: str | None


async def get(url: str, *, token: str = "") -> Answer:
    """GET of a URL that is percent-encoded already. Neither a proxy of the environment nor a redirect is followed.

    `token` is that of LEADS_OPS_TOKEN.

    Raises:
        Unavailable: nobody answers.
        UsageError: it is no URL.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as response,
        ):
            return Answer(response.status, await _body(response), response.headers.get("Retry-After"))
    except ValueError:
        raise click.UsageError("That is no URL; write it as http://host:6066.") from None
    except (aiohttp.ClientError, TimeoutError) as error:
        where = f"{urlsplit(url).scheme}://{urlsplit(url).netloc.rpartition('@')[2]}"
        reason = f"no answer in {TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else _reason(error)
        raise Unavailable(f"No worker answers at {where} ({reason}). Start one, or name another with --url.") from None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The body, or as much of it as a worker would ever send."""
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > BODY_SIZE_MAX_BYTES:
            break
    return body


def _reason(error: aiohttp.ClientError) -> str:
    strerror = getattr(error, "strerror", None)
    return strerror if isinstance(strerror, str) else type(error).__name__
