"""The broker's side of a benchmark: topics, loading them, and how far everybody is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.kafka import closed
from pipeline.lab.record_batches import record_batches

__all__ = ["PARTITIONS", "Kafka"]

PARTITIONS = 8
#: Record batches on their way, so that a load of a million records does not pile up in memory.
IN_FLIGHT_MAX = 64
POLL_S = 0.05

_NUMBERS = list(range(PARTITIONS))


class Kafka:
    """A few clients of one broker. Use it as an asynchronous context manager."""

    def __init__(self, bootstrap: Sequence[str]) -> None:
        self._bootstrap = list(bootstrap)
        self._admin: Any = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        self._consumer: Any = AIOKafkaConsumer(bootstrap_servers=self._bootstrap)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await closed(self._consumer.stop(), self._admin.close())

    async def create(self, *names: str) -> None:
        """Create topics as the product has them."""
        configs = {"message.timestamp.type": "LogAppendTime"}
        response = await self._admin.create_topics([NewTopic(n, PARTITIONS, 1, topic_configs=configs) for n in names])
        _require(response.topic_errors)
        await self.appear(*names)

    async def appear(self, *names: str) -> None:
        """Wait until the broker shows the new topics."""
        while not set(names) <= set(await self._admin.list_topics()):  # noqa: ASYNC110  # at the broker
            await asyncio.sleep(POLL_S)

    async def remove(self, *names: str) -> None:
        """Remove those of the topics that exist; returns when they are gone."""
        present = set(names) & set(await self._admin.list_topics())
        if present:
            _require((await self._admin.delete_topics(sorted(present))).topic_error_codes)
        while set(names) & set(await self._admin.list_topics()):  # noqa: ASYNC110  # at the broker
            await asyncio.sleep(POLL_S)

    async def append(self, topic: str, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Append keys and values in order, each to the partition of its key."""
        await self.send(topic, record_batches(records, PARTITIONS))

    async def send(self, topic: str, batches: Iterable[tuple[int, Any]]) -> None:
        """Append record batches in order, each to its partition."""
        await self.end(topic)  # waits for the leaders of a new topic
        in_flight: set[asyncio.Future[Any]] = set()
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all") as producer:
            for number, batch in batches:
                in_flight.add(await producer.send_batch(batch, topic, partition=number))
                in_flight = await _confirmed(in_flight, until_left=IN_FLIGHT_MAX)
            await _confirmed(in_flight, until_left=0)

    async def end(self, topic: str) -> int:
        """How many records were ever appended to `topic`."""
        return sum((await self._ends(topic)).values())

    async def lag(self, group: str, topic: str) -> int:
        """How many records of `topic` the group has not committed."""
        stored = await self._admin.list_consumer_group_offsets(group)
        ends = await self._ends(topic)
        return sum(end - max(0, stored[tp].offset if tp in stored else 0) for tp, end in ends.items())

    async def skip(self, group: str, topic: str) -> None:
        """Commit the end of `topic` for a group without members."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            consumer.assign(_tps(topic))
            ends = await self._ends(topic)
            await consumer.commit({tp: OffsetAndMetadata(end, "") for tp, end in ends.items()})

    async def keys(self, topic: str) -> list[bytes | None]:
        """The key of every record of `topic`."""
        found: list[bytes | None] = []
        tps = _tps(topic)
        self._consumer.assign(tps)
        try:
            await self._consumer.seek_to_beginning(*tps)
            ends = await self._ends(topic)
            while [tp for tp, end in ends.items() if await self._consumer.position(tp) < end]:
                for records in (await self._consumer.getmany(timeout_ms=200)).values():
                    found.extend(record.key for record in records)
        finally:
            self._consumer.unsubscribe()
        return found

    async def _ends(self, topic: str) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(_tps(topic))
        return ends


async def _confirmed(in_flight: set[asyncio.Future[Any]], *, until_left: int) -> set[asyncio.Future[Any]]:
    while len(in_flight) > until_left:
        done, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
        for sent in done:
            sent.result()
    return in_flight


def _tps(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in _NUMBERS]


def _require(errors: Iterable[Sequence[Any]]) -> None:
    for name, code, *_ in errors:
        if code:
            raise for_code(code)(name)
