"""One port that all workers of a machine share for capture (`SO_REUSEPORT`): the kernel gives each connection to one of
those that listen, so that whoever sends leads need not know how many there are, nor which of them lives.

The kernel would share it with any program of the same user, too. So a worker asks who is there, before it listens and
after, and does not start beside the workers of another cluster, whose leads it would take, or of another app, whose
status it would tell.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from pipeline.batches import Refused

__all__ = ["SharedPort", "neighbour_id"]

ASK_TIMEOUT_S = 2.0
#: Connections until each of a few others has got one, almost surely.
QUESTIONS = 8


class _Health(msgspec.Struct):
    workers_of: str = ""


class SharedPort(web.TCPSite):
    """aiohttp's site on `port`, shared with those who are workers of the same: `ours()`, see `Ops`.

    Raises:
        Refused: when it starts, the port belongs to somebody else.
    """

    __slots__ = ("_asked_at", "_ours", "_place")

    def __init__(self, runner: Any, bind: str, port: int, *, host: str, ours: Callable[[], str]) -> None:
        super().__init__(runner, bind, port, reuse_port=True)
        self._asked_at = f"http://{host}:{port}/healthz"
        self._ours = ours
        self._place = f"{port} of {bind}"

    async def start(self) -> None:
        """Listen, if nobody else does who is not one of ours."""
        await self._require_ours()
        try:
            await super().start()
        except OSError as error:
            raise self._refusal(error.strerror or type(error).__name__) from None
        # Somebody else may have come at the same time.
        await asyncio.gather(*(self._require_ours() for _ in range(QUESTIONS)))

    async def _require_ours(self) -> None:
        found = await neighbour_id(self._asked_at)
        if found is not None and found != self._ours():
            raise self._refusal("workers of another app or cluster are there, or another program")

    def _refusal(self, why: str) -> Refused:
        return Refused(
            f"The workers cannot share port {self._place} ({why}); set LEADS_CAPTURE_PORT to another one, or to off.",
            status=os.EX_CONFIG,
        )


async def neighbour_id(url: str) -> str | None:
    """Whose worker answers at `url`, empty if it does not say; None: nobody answers."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S)) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            return msgspec.json.decode(await answer.read(), type=_Health).workers_of
    except (msgspec.MsgspecError, UnicodeDecodeError, aiohttp.ClientResponseError):
        return ""
    except (aiohttp.ClientError, TimeoutError):
        return None  # a worker that hangs, too: nothing it has gets mixed up
