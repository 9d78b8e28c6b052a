"""Reads Kafka into the books: without a group, partition after partition, each to an end that is fixed before."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from pipeline.audit.books import Books
from pipeline.audit.checkpoints import Checkpoints
from pipeline.audit.judgement import Place
from pipeline.audit.span import Range, runs
from pipeline.audit.store import Sieve
from pipeline.inspection.ages import first_records
from pipeline.inspection.connection import Connection
from pipeline.letters.found import found
from pipeline.letters.reading import Spans, fetches
from pipeline.topic_names import CAPTURED

__all__ = ["Reader", "size", "wanted"]

AT_ONCE_MAX_RECORDS = 5_000
#: Between the clocks of two brokers.
CLOCK_SLACK_MS = 60_000

Moved = Callable[[int], None]


async def wanted(connection: Connection, tps: Iterable[TopicPartition], meant: Range) -> Spans:
    """What is to be read of `lead-captured`, as it is now."""
    asked = [tp for tp in tps if meant.partition in (None, tp.partition)]
    bounds = await connection.bounds(asked)
    since = await _at(connection, asked, meant.since_ms)
    until = await _at(connection, asked, meant.until_ms)
    return {tp: meant.within(*bounds[tp], since=since.get(tp), until=until.get(tp)) for tp in asked}


def size(spans: Spans) -> int:
    """How many offsets."""
    return sum(end - start for start, end in spans.values())


async def _at(
    connection: Connection, tps: Iterable[TopicPartition], time_ms: float | None
) -> dict[TopicPartition, int]:
    """The offsets of the first records at a time or later, where there are any."""
    if time_ms is None:
        return {}
    answer = await connection.consumer.offsets_for_times({tp: max(0, int(time_ms)) for tp in tps})
    return {tp: at.offset for tp, at in answer.items() if at is not None}


class Reader:
    """Reads into `books`.

    Arguments:
        connection: whose consumer is used.
        books: what is read is entered there.
        patience_s: how long to wait for a broker that sends nothing.

    Raises:
        KafkaError: in every method, a broker does not answer.
    """

    def __init__(self, connection: Connection, books: Books, *, patience_s: float) -> None:
        self._connection = connection
        self._books = books
        self._patience_s = patience_s

    async def captured(self, spans: Spans, moved: Moved) -> None:
        """The records in the range."""
        await self._each(spans, self._books.capture, moved)

    async def captured_since(self, spans: Spans) -> None:
        """What came behind the range until now."""
        ends = await self._connection.bounds(spans)
        behind = {tp: (span[1], ends[tp][1]) for tp, span in spans.items()}
        await self._each(behind, self._books.capture_later, _nothing)

    async def ahead(self, at: Checkpoints, tps: Iterable[TopicPartition]) -> None:
        """What `lead-accepted` has from the checkpoint of the CRM to its end."""
        bounds = await self._connection.bounds(tps)
        spans = {tp: (max(start, at.crm.get(tp.partition, start)), end) for tp, (start, end) in bounds.items()}
        await self._each(spans, self._books.accept, _nothing)

    async def passed(self, at: Checkpoints, tps: Iterable[TopicPartition], only: Sieve, moved: Moved) -> None:
        """What `lead-accepted` still has before the checkpoint of the CRM, of `only` some keys."""
        bounds = await self._connection.bounds(tps)
        spans = {tp: (start, max(start, at.crm.get(tp.partition, start))) for tp, (start, _) in bounds.items()}
        await self._each(spans, lambda records: self._books.accept(records, only=only), moved)

    async def letters(self, tps: list[TopicPartition]) -> None:
        """All dead letters until now."""
        await self._each(await self._connection.bounds(tps), self._enter_letters, _nothing)

    async def forgotten(self, tps: list[TopicPartition], captured: Spans) -> dict[int, int]:
        """By partition, before which offset of `lead-captured` a record may have had a letter that is deleted: a letter
        comes after its record, and those that are there come after those that are not.
        """
        bounds = {tp: b for tp, b in (await self._connection.bounds(tps)).items() if b[0] > 0}
        begun = {tp: [start] for tp, (start, end) in bounds.items() if start < end}
        ends = {tp: end for tp, (_, end) in bounds.items()}
        firsts = await first_records(self._connection.consumer, begun, ends) if begun else {}
        found = {}
        for tp, (start, _) in bounds.items():
            of_leads = TopicPartition(CAPTURED, tp.partition)
            if of_leads in captured:
                found[tp.partition] = await self._behind(of_leads, firsts.get((tp, start)), captured[of_leads][1])
        return found

    async def _behind(self, tp: TopicPartition, first: Any, end: int) -> int:
        if first is None:
            return end
        at = await _at(self._connection, [tp], first.timestamp + CLOCK_SLACK_MS)
        return at.get(tp, end)

    async def at(self, places: Mapping[int, Iterable[int]]) -> AsyncIterator[list[Any]]:
        """The records of `lead-captured` at these offsets, by partition, some at a time."""
        for number, offsets in sorted(places.items()):
            met = array("Q", sorted(offsets))
            for start, end in runs(met):
                async for records, _ in self._fetches(TopicPartition(CAPTURED, number), start, end):
                    yield [one for one in records if _has(met, one.offset)]

    async def keys(self, places: Iterable[Place]) -> dict[Place, bytes | None]:
        """The keys of these records."""
        by_partition: dict[int, list[int]] = {}
        for number, offset in places:
            by_partition.setdefault(number, []).append(offset)
        return {(one.partition, one.offset): one.key async for some in self.at(by_partition) for one in some}

    def _enter_letters(self, records: Iterable[Any]) -> None:
        for one in map(found, records):
            if one is not None:
                self._books.letter(one.letter, one.key, one.value)

    async def _each(self, spans: Spans, enter: Callable[[list[Any]], None], moved: Moved) -> None:
        done = 0
        for tp, (start, end) in spans.items():
            async for records, position in self._fetches(tp, start, end):
                enter(records)
                moved(done + min(position, end) - start)
            done += end - start

    def _fetches(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[tuple[list[Any], int]]:
        return fetches(
            self._connection.consumer, tp, start, end,
            patience_s=self._patience_s, at_once_max_records=AT_ONCE_MAX_RECORDS,
        )  # fmt: skip


def _nothing(offsets: int) -> None:
    """Where no bar is moved."""


def _has(offsets: Sequence[int], offset: int) -> bool:
    """Whether the offset is among these, which are in order."""
    index = bisect_left(offsets, offset)
    return index < len(offsets) and offsets[index] == offset
