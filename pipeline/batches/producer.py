"""Appending to topics. Appended means acknowledged: by all in-sync replicas, or an error that says not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from itertools import islice
from typing import Any

from aiokafka.errors import KafkaError
from mode import get_logger

from pipeline.batches.batch import Batch, Fatal
from pipeline.batches.passing import is_passing

__all__ = ["Appender", "Entry", "fill", "together"]

logger = get_logger(__name__)

#: Key, value and headers of a record to append.
Entry = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]

#: Kafka's default `message.max.bytes` is 1,048,588; a record batch must stay below it.
RECORD_BATCH_SIZE_MAX_BYTES = 1_000_000
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0


class Appender:
    """Appends whole record batches to the partition with the number of the batch that is being worked on.

    Arguments:
        producer: Returns the started aiokafka producer (`acks=all`, not idempotent: see the README's "Decisions").
    """

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._away_since: float | None = None

    async def append(self, batch: Batch, topic: str, entries: Iterable[Entry]) -> tuple[int, int]:
        """Append `entries` in order to the partition of `topic` that has the number of `batch`'s.

        Tries until the broker has acknowledged all of them, so that they may stand there more than once. Returns the
        offset of the first and the one after the last; with repeats, or another writer, there are others in between.
        Without entries it returns (0, 0).

        Raises:
            LetGo: the partition is being let go.
            Fatal: the broker refuses for good.
        """
        records = list(entries)
        if not records:
            return 0, 0
        delay_s = RETRY_FIRST_S
        while True:
            batch.epoch.check()
            try:
                span = await self._append(topic, batch.tp.partition, records)
            except KafkaError as error:
                self._failed(error)
            else:
                self._succeeded()
                return span
            await batch.epoch.pause(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    async def _append(self, topic: str, partition: int, records: Sequence[Entry]) -> tuple[int, int]:
        producer = self._producer()
        futures: list[asyncio.Future[Any]] = []
        counts: list[int] = []
        try:
            for builder in _record_batches(producer, records):
                futures.append(await producer.send_batch(builder, topic, partition=partition))
                counts.append(builder.record_count())
        finally:
            # All of them before any error is raised, so that none is still on its way when the next try begins.
            results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        first, last = futures[0].result(), futures[-1].result()
        return first.offset, last.offset + counts[-1]

    def _failed(self, error: KafkaError) -> None:
        if not is_passing(error):
            raise Fatal(f"The broker refuses to append: {error!r}") from error
        if self._away_since is None:
            self._away_since = asyncio.get_running_loop().time()
            logger.warning("The broker does not acknowledge (%s); trying until it does", type(error).__name__)

    def _succeeded(self) -> None:
        if self._away_since is not None:
            away_s = asyncio.get_running_loop().time() - self._away_since
            self._away_since = None
            logger.info("The broker acknowledges again, after %.1f s", away_s)


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run several appends at once, for what they return. When one raises, the others are cancelled and awaited, then it
    raises.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _record_batches(producer: Any, records: Sequence[Entry]) -> Iterable[Any]:
    appended = 0
    while appended < len(records):
        builder = producer.create_batch()
        appended += fill(builder, islice(records, appended, None))
        yield builder


def fill(builder: Any, entries: Iterable[Entry]) -> int:
    """Append to an aiokafka `BatchBuilder` as many of `entries` as there is room for, at least one, and close it;
    returns how many. What is too large even by itself is refused by the broker.

    Past aiokafka's `BatchBuilder.append`, which takes twice as long for each record as what it calls.
    """
    append = builder._builder.append
    now_ms = int(time.time() * 1000)
    count = 0
    for key, value, headers in entries:
        if append(count, now_ms, key, value, [*headers]) is None:
            break
        count += 1
    builder._relative_offset = count
    builder.close()
    return count
