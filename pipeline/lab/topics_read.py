"""Reads topics and committed offsets past the proxies, while brokers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.kafka import client_options, closed
from pipeline.settings import Settings

__all__ = ["KAFKA_ERRORS", "Topics"]

#: What a broker that is away raises.
KAFKA_ERRORS = (KafkaError, OSError, TimeoutError)

REQUEST_TIMEOUT_MS = 5_000
AT_ONCE_MAX_RECORDS = 2_000
#: Without a new record for so long, a broker that has some is taken for away.
SILENCE_S = 20.0
FETCH_SIZE_MAX_BYTES = 4 * 1024 * 1024


class Topics:
    """Clients of the cluster; an asynchronous context manager. Every method raises one of `KAFKA_ERRORS`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        options = {**client_options(settings), "request_timeout_ms": REQUEST_TIMEOUT_MS}
        self._admin: Any = AIOKafkaAdminClient(**options)
        self._consumer: Any = AIOKafkaConsumer(
            **options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=FETCH_SIZE_MAX_BYTES,
        )

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await closed(self._consumer.stop(), self._admin.close())

    async def committed(self, topic: str) -> dict[int, int]:
        """The next offset of each partition that our group has told Kafka."""
        stored = await self._admin.list_consumer_group_offsets(self._settings.app_id)
        return {tp.partition: at.offset for tp, at in stored.items() if tp.topic == topic and at.offset >= 0}

    async def ends(self, topic: str) -> dict[int, int]:
        """Where each partition ends now."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(self._tps(topic))
        return {tp.partition: end for tp, end in found.items()}

    async def lag(self, topic: str) -> int:
        """How many records our group has not committed."""
        ends, committed = await self.ends(topic), await self.committed(topic)
        return sum(max(0, end - committed.get(number, 0)) for number, end in ends.items())

    async def records(self, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[list[Any]]:
        """The records from `starts`, where a partition is missing from its first one, to before `ends`; in pieces."""
        wanted = {TopicPartition(topic, number): end for number, end in ends.items() if starts.get(number, 0) < end}
        if not wanted:
            return
        self._consumer.assign(list(wanted))
        for tp in wanted:
            self._consumer.seek(tp, starts.get(tp.partition, 0))
        loop = asyncio.get_running_loop()
        heard_s = loop.time()
        while left := [tp for tp, end in wanted.items() if await self._consumer.position(tp) < end]:
            fetched = await self._consumer.getmany(*left, timeout_ms=200, max_records=AT_ONCE_MAX_RECORDS)
            if fetched:
                heard_s = loop.time()
            elif loop.time() - heard_s > SILENCE_S:
                raise TimeoutError(f"{topic} cannot be read")
            for tp, records in fetched.items():
                yield [record for record in records if record.offset < wanted[tp]]

    def _tps(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self._settings.partitions)]
