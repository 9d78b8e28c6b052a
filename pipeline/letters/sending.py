"""Appends records that were captured once to `lead-accepted` again, as they were."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from pipeline.inspection.errors import Unavailable
from pipeline.kafka import client_options
from pipeline.letters.originals import Append, Original
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED

__all__ = ["AGAIN", "GaveUp", "gave_up", "pretending", "sending"]

AGAIN = "Run the same command again later: what was acknowledged does not become another row."
#: How long the end waits for what is on its way.
CLOSE_S = 2.0


class GaveUp(Unavailable):
    """A replay lost the broker, or the broker refuses it; some leads may be sent."""


@asynccontextmanager
async def sending(settings: Settings, acknowledged: Callable[[], None], *, patience_s: float) -> AsyncIterator[Append]:
    """What appends records to `lead-accepted`, each to the partition with its number, until all are acknowledged.

    Args:
        settings: those of the broker.
        acknowledged: called for each record that is acknowledged, also when sending is cancelled, or fails.
        patience_s: what is not acknowledged by then fails.
    """
    # As in the workers not idempotent: a repeat is harmless, and nothing can be left in an error.
    producer = AIOKafkaProducer(
        **client_options(settings), acks="all", request_timeout_ms=int(patience_s * 1000), linger_ms=1
    )

    def settled(future: asyncio.Future[Any]) -> None:
        if not future.cancelled() and future.exception() is None:
            acknowledged()

    async def begin(one: Original) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await producer.send(
            ACCEPTED, one.value, key=one.key, partition=one.partition, headers=list(one.headers)
        )
        future.add_done_callback(settled)
        return future

    async def append(records: Sequence[Original]) -> None:
        futures = [await begin(one) for one in records]
        # Not `gather`: when this is cancelled that would cancel the futures, and nobody would know what came of them.
        await asyncio.wait(futures)
        for future in futures:
            future.result()

    await producer.start()
    try:
        yield append
    finally:
        with suppress(TimeoutError):  # what is not acknowledged is not counted
            await asyncio.wait_for(asyncio.gather(producer.stop(), return_exceptions=True), CLOSE_S)


@asynccontextmanager
async def pretending(acknowledged: Callable[[], None]) -> AsyncIterator[Append]:
    """Calls `acknowledged` for each record that would be sent."""

    async def append(records: Sequence[Original]) -> None:
        for _ in records:
            acknowledged()

    yield append


def gave_up(settings: Settings, error: KafkaError, *, patience_s: float) -> GaveUp:
    """What ends a replay at this error."""
    if error.retriable or isinstance(error, KafkaTimeoutError):
        text = f"The broker at {settings.broker_url} has sent or acknowledged nothing for {patience_s:g} s."
        return GaveUp(text, status=os.EX_TEMPFAIL)
    return GaveUp(f"The broker at {settings.broker_url} does not take the leads ({type(error).__name__}).")
