"""What the broker knows of a contender's group: who owns what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.inspection.connection import Connection
from pipeline.inspection.members import owners
from pipeline.lab.kafka import PARTITIONS

__all__ = ["Ownership"]

POLL_S = 0.2
_STABLE = "Stable"


class Ownership:
    """Who owns which partitions, by slot, as of the last time that the group stood still."""

    def __init__(self, connection: Connection, group: str, slots: Callable[[], dict[str, int]]) -> None:
        self._connection = connection
        self._group = group
        self._slots = slots
        self._owned: dict[int, frozenset[TopicPartition]] = {}

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Inside, it is kept up to date."""
        task = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def of(self, slot: int) -> frozenset[int]:
        """The numbers of the partitions of the worker in this slot, of whichever topic."""
        return frozenset(tp.partition for tp in self._owned.get(slot, ()))

    def forget(self, slot: int) -> None:
        """Its worker is gone."""
        self._owned.pop(slot, None)

    def covers(self, topic: str, members: int) -> bool:
        """Whether every partition of `topic` has an owner, and so many workers own some."""
        owned = [{tp for tp in tps if tp.topic == topic} for tps in self._owned.values()]
        return sum(map(len, owned)) == PARTITIONS and sum(map(bool, owned)) >= members

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(POLL_S)

    async def _look(self) -> None:
        try:
            group = await self._connection.group(self._group)
        except KafkaError:
            return  # the next look may have better luck
        if group.state != _STABLE:
            return
        slots, found = self._slots(), dict[int, set[TopicPartition]]()
        for tp, owner in owners(group.members).items():
            if owner in slots:
                found.setdefault(slots[owner], set()).add(tp)
        # One that was killed a moment ago still owns what it had.
        self._owned = {slot: frozenset(tps) for slot, tps in found.items()}
