"""When a contender is done: how far its group has read, and how many leads have a row."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import asyncpg
from aiokafka.structs import TopicPartition

from pipeline.inspection.connection import Connection
from pipeline.lab import compare_crm
from pipeline.lab.compare_contenders import Contender
from pipeline.lab.kafka import PARTITIONS

__all__ = ["Drain"]

#: When nothing has changed for so long, nothing will.
STILL_S = 30.0
DRAIN_MAX_S = 180.0


class Drain:
    """Waits for a contender.

    Args:
        connection: to the broker.
        contender: whose group it is.
        crm_url: of its database, which is there.
        rest: what is done between two looks.
    """

    def __init__(
        self, connection: Connection, contender: Contender, crm_url: str, *, rest: Callable[[], Awaitable[None]]
    ) -> None:
        self._connection = connection
        self._contender = contender
        self._crm_url = crm_url
        self._rest = rest

    async def wait(self, expected: int) -> int:
        """Wait until so many leads have a row, or everything has been read, or nothing moves any more; returns how many
        records are unread then.
        """
        crm = await asyncpg.connect(self._crm_url)
        last, moved_s, deadline_s, quiet = (-1, -1), time.monotonic(), time.monotonic() + DRAIN_MAX_S, 0
        try:
            while True:
                rows, behind = await compare_crm.count(crm), await self._unread()
                quiet = quiet + 1 if behind == 0 else 0
                # Twice: a record may be on its way from one topic to the next.
                if rows == expected or quiet == 2:
                    return 0
                now_s = time.monotonic()
                if (rows, behind) != last:
                    last, moved_s = (rows, behind), now_s
                if now_s > moved_s + STILL_S or now_s > deadline_s:
                    return behind
                await self._rest()
        finally:
            await crm.close()

    async def _unread(self) -> int:
        """Records behind the group's checkpoints; topics in the order of the flow, so that nothing slips by."""
        total = 0
        for topic in self._contender.topics:
            committed = (await self._connection.group(self._contender.id)).committed
            bounds = await self._connection.bounds(TopicPartition(topic, number) for number in range(PARTITIONS))
            total += sum(max(0, end - max(start, committed.get(tp, 0))) for tp, (start, end) in bounds.items())
        return total
