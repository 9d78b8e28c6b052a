"""Pages and script as small as the client takes them: Brotli, gzip, or as they are.

Compressing what a client typed together with what is secret would tell the secret by the length; no page has one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cramjam
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

__all__ = ["Encoded", "compressed", "encoded", "preferred"]

#: Less than this fits into one packet anyway.
SIZE_MIN_BYTES = 512
#: Of what is compressed once and sent often, and of what is compressed each time.
BROTLI_KEPT, BROTLI_EACH = 11, 5
GZIP_KEPT, GZIP_EACH = 9, 6

#: A weight, as RFC 9110 writes it.
_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The same content in each coding."""

    by_coding: dict[str, bytes]

    def response(self, request: web.Request, content_type: str, *, charset: str) -> web.Response:
        """In the coding that the client likes best."""
        coding = preferred(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))
        response = web.Response(body=self.by_coding[coding], content_type=content_type, charset=charset)
        _label(response, coding)
        return response


def encoded(content: bytes, *, is_kept: bool) -> Encoded:
    """`content` in every coding; `is_kept` when it is worth the time."""
    return Encoded({coding: _encode(content, coding, is_kept=is_kept) for coding in ("br", "gzip", "identity")})


@web.middleware
async def compressed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Compress a page that the handler answers with."""
    response = await handler(request)
    if not isinstance(response, web.Response) or response.content_type != "text/html":
        return response
    coding = "identity"
    if isinstance(response.body, bytes) and len(response.body) >= SIZE_MIN_BYTES:
        coding = preferred(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, [])))
        response.body = _encode(response.body, coding, is_kept=False)
    _label(response, coding)
    return response


def preferred(accepted: str) -> str:
    """`br`, `gzip` or `identity`: what an Accept-Encoding likes best; among equals the smallest."""
    weights = dict(_weighed(one) for one in accepted.split(",") if one.strip())
    others = weights.get("*", 0.0)
    best = max(("br", "gzip"), key=lambda coding: weights.get(coding, others))
    weight = weights.get(best, others)
    return best if weight > 0 and weight >= weights.get("identity", 0.0) else "identity"


def _weighed(one: str) -> tuple[str, float]:
    """A coding and its weight; 0, the coding is not wanted, where that cannot be read."""
    coding, *parameters = (part.strip().lower() for part in one.split(";"))
    weights = [part.removeprefix("q=") for part in parameters if part.startswith("q=")]
    if not all(_WEIGHT.fullmatch(weight) for weight in weights):
        return coding, 0.0
    return "gzip" if coding == "x-gzip" else coding, min(map(float, weights), default=1.0)


def _encode(content: bytes, coding: str, *, is_kept: bool) -> bytes:
    codecs: dict[str, Callable[[], Any]] = {
        "br": lambda: cramjam.brotli.compress(content, level=BROTLI_KEPT if is_kept else BROTLI_EACH),
        "gzip": lambda: cramjam.gzip.compress(content, level=GZIP_KEPT if is_kept else GZIP_EACH),
    }
    return bytes(codecs[coding]()) if coding in codecs else content


def _label(response: web.Response, coding: str) -> None:
    if coding != "identity":
        response.headers[hdrs.CONTENT_ENCODING] = coding
    response.headers.add(hdrs.VARY, hdrs.ACCEPT_ENCODING)
