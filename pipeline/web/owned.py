"""A partition that this worker answers for, as long as it is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from pipeline.batches import Log
from pipeline.web.peers import Peers, cannot_say

__all__ = ["Owned", "logs_of"]

BROKER_TIMEOUT_S = 3.0


class Owned:
    """Partition `number`, from the moment in which it is found to be ours.

    Its tables may be read after `check`, as long as nothing is awaited in between: the database of a partition that has
    gone is closed, and a read would open it again.

    Raises:
        Problem: 503, in every method: it is not ours any more.
    """

    def __init__(self, app: Any, peers: Peers, number: int) -> None:
        self._app = app
        self._peers = peers
        self._number = number
        self._epoch = app.consumer.epoch
        self._stored: dict[str, int] = {}
        self.check()

    def check(self) -> None:
        """See that it is still ours, as far as this worker knows."""
        if self._epoch.over or not self._peers.is_ours(self._number):
            raise cannot_say("This partition has just gone to another worker.")

    def reached(self, topic: str) -> int | None:
        """How far its records in `topic` are worked on."""
        self.check()
        offset: int | None = self._app.consumer.checkpoints.reached(TP(topic, self._number))
        return offset

    async def logs(self, *topics: str) -> Mapping[str, Log]:
        """Where its logs and the group stand, asked of the broker."""
        logs = await logs_of(self._app, self._number, *topics)
        self._stored |= {topic: log.stored or 0 for topic, log in logs.items()}
        return logs

    async def confirm(self, *topics: str) -> None:
        """See that nobody else works on it, or has: a worker that was stopped learns last that it is replaced.

        Of `topics`, and of those that `logs` was asked for.
        """
        if unasked := [topic for topic in topics if topic not in self._stored]:
            await self.logs(*unasked)
        for topic, stored in self._stored.items():
            reached = self.reached(topic)
            # Where the CRM keeps the position, Kafka's copy may be ahead of it.
            if reached is not None and stored > reached and topic not in self._app.positions:
                raise cannot_say("This partition has just gone to another worker.")


async def logs_of(app: Any, partition: int, *topics: str) -> dict[str, Log]:
    """Where logs and group stand, asked of the broker.

    Raises:
        Problem: 503, it does not answer, or this worker starts or stops.
    """
    tps = frozenset(TP(topic, partition) for topic in topics)
    if not app.consumer.started:  # its thread would answer when it runs, to nobody any more
        raise cannot_say("This worker starts or stops.")
    try:
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            logs = await app.consumer._thread.logs(tps)
    except (KafkaError, TimeoutError):
        raise cannot_say("The broker does not answer.") from None
    except (ConsumerStoppedError, ConsumerNotStarted):
        raise cannot_say("This worker starts or stops.") from None
    return {tp.topic: log for tp, log in logs.items()}
