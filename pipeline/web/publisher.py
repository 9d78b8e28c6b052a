"""Captured leads into the topic, over the worker's own producer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka.errors import KafkaError

from pipeline.web.capture import Position, Unacknowledged

__all__ = ["TopicPublisher"]


class TopicPublisher:
    """Publishes to one topic and waits until all in-sync replicas have it (`acks=all`).

    Arguments:
        producer: Returns the started aiokafka producer, None while it is not.
        topic: Where to.
        timeout_s: How long the broker may take to acknowledge.
    """

    def __init__(self, producer: Callable[[], Any], topic: str, *, timeout_s: float) -> None:
        self._producer = producer
        self._topic = topic
        self._timeout_s = timeout_s

    async def publish(self, records: Sequence[tuple[bytes, bytes]]) -> list[Position | Unacknowledged]:
        """Publish (key, value) pairs in order; each result is where the broker has it, or why not."""
        sends = [asyncio.ensure_future(self._publish(key, value)) for key, value in records]
        await asyncio.wait(sends, timeout=self._timeout_s)
        return [_result(send) for send in sends]

    async def _publish(self, key: bytes, value: bytes) -> Position:
        producer = self._producer()
        if producer is None:
            raise Unacknowledged("the worker is starting")
        acknowledged: Awaitable[Any] = await producer.send(self._topic, value=value, key=key)
        metadata = await acknowledged
        return Position(metadata.partition, metadata.offset)


def _result(send: asyncio.Future[Position]) -> Position | Unacknowledged:
    if not send.done():
        send.cancel()  # the broker may still get it, which is why the client keeps its message id
        return Unacknowledged("the broker does not acknowledge in time")
    error = send.exception()
    if error is None:
        return send.result()
    if isinstance(error, Unacknowledged):
        return error
    if isinstance(error, KafkaError):
        return Unacknowledged(f"the broker does not acknowledge: {type(error).__name__}")
    raise error
