"""Reads `lead-dead-letter` from outside: without a group, from its start to where it ends now, a little at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from pipeline.inspection.connection import Connection
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.offsets import NoTopics
from pipeline.letters.filters import Filters
from pipeline.letters.found import DeadLetter, Recent, found
from pipeline.settings import Settings
from pipeline.topic_names import DEAD_LETTER

__all__ = ["Reading", "Spans", "fetches", "partitions", "spans"]

AT_ONCE_MAX_RECORDS = 500
POLL_MS = 200

#: The first offset and the one behind the last, by partition.
Spans = Mapping[TopicPartition, tuple[int, int]]


async def partitions(connection: Connection, settings: Settings, topic: str) -> list[TopicPartition]:
    """The partitions of `topic`, by number.

    Raises:
        NoTopics: there is no such topic.
        Unavailable: one of them cannot be reached now.
    """
    described = (await connection.topics()).get(topic)
    if described is None:
        raise NoTopics(f"No worker has started yet: the broker at {settings.broker_url} has no {topic}.")
    for one in described:
        if one["leader"] < 0:
            raise Unavailable(f"{topic}/{one['partition']} has no leader: the brokers that hold it are down.")
    return [TopicPartition(topic, number) for number in sorted(one["partition"] for one in described)]


async def spans(connection: Connection, settings: Settings) -> Spans:
    """What `lead-dead-letter` has now. Raises as `partitions`."""
    return await connection.bounds(await partitions(connection, settings, DEAD_LETTER))


class Reading:
    """The dead letters that are meant, each once.

    Arguments:
        filters: which are meant.
        patience_s: how long to wait for a broker that sends nothing.
    """

    def __init__(self, filters: Filters, *, patience_s: float) -> None:
        #: Letters given, and repeats of them that were not.
        self.count = 0
        self.repeats = 0
        self._filters = filters
        self._patience_s = patience_s
        self._met = Recent()

    async def letters(
        self, consumer: AIOKafkaConsumer, wanted: Spans, *, moved: Callable[[int], None]
    ) -> AsyncIterator[DeadLetter]:
        """The letters in `wanted`, partition after partition, each in the order of its offsets.

        Args:
            consumer: one without a group; its assignment is replaced. `auto_offset_reset` must be `none`.
            wanted: what to read. What retention deletes meanwhile is missing.
            moved: called with the number of offsets that are done.

        Raises:
            KafkaError: a broker does not answer.
        """
        done = 0
        for tp, (start, end) in wanted.items():
            async for fetched, position in fetches(consumer, tp, start, end, patience_s=self._patience_s):
                for one in self._meant(fetched):
                    yield one
                moved(done + min(position, end) - start)
            done += end - start

    def _meant(self, records: Iterable[Any]) -> Iterator[DeadLetter]:
        for one in map(found, records):
            if one is None or not self._filters.match(one):
                continue
            if self._met.meets(one.identity):
                self.repeats += 1
            else:
                self.count += 1
                yield one


async def fetches(
    consumer: AIOKafkaConsumer,
    tp: TopicPartition,
    start: int,
    end: int,
    *,
    patience_s: float,
    at_once_max_records: int = AT_ONCE_MAX_RECORDS,
) -> AsyncIterator[tuple[list[Any], int]]:
    """The records of a partition from `start` to before `end`, some at a time, and the offset behind those.

    Args:
        consumer: one without a group; its assignment is replaced. `auto_offset_reset` must be `none`.
        tp: the partition.
        start, end: what to read. What retention deletes meanwhile is missing.
        patience_s: how long to wait for a broker that sends nothing.
        at_once_max_records: how many records to give at a time.

    Raises:
        KafkaError: a broker does not answer.
    """
    consumer.assign([tp])
    consumer.seek(tp, start)
    loop, position = asyncio.get_running_loop(), start
    patient_since_s = loop.time()
    while position < end:
        fetched = await _some(consumer, tp, at_once_max_records)
        # Not the offset of the last record: transaction markers are none.
        before, position = position, await consumer.position(tp)
        if position > before:
            yield [record for record in fetched if record.offset < end], position
            patient_since_s = loop.time()  # whoever takes them may have taken its time
        elif loop.time() - patient_since_s > patience_s:
            raise KafkaConnectionError


async def _some(consumer: AIOKafkaConsumer, tp: TopicPartition, count_max: int) -> list[Any]:
    try:
        fetched: dict[TopicPartition, list[Any]] = await consumer.getmany(tp, timeout_ms=POLL_MS, max_records=count_max)
    except OffsetOutOfRangeError:
        # Retention was faster.
        consumer.seek(tp, (await consumer.beginning_offsets([tp]))[tp])
        return []
    return list(fetched.get(tp, ()))
