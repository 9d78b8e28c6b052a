"""An audit from its beginning to its end, in the order in which no alarm is false.

A lead moves from `lead-captured` to `lead-accepted` to a row, or leaves a dead letter on the way, while one looks. Each
step is acknowledged before the checkpoint behind it moves. So what is asked later is at least as far as what was asked
before, and in this order everything is met at least once:

1. `lead-captured`, to an end that is fixed first. What is there never changes; a record that comes later is not judged.
2. The checkpoints. When that of `dedupe` was asked for, each record before it was in `lead-accepted`, or had a dead
   letter, or repeated an earlier record for which this is so. When that of the CRM was asked for, each record of
   `lead-accepted` before it had a row or a dead letter. Where the CRM keeps it that is the row of its database, which
   moved with the leads; Kafka's is a copy.
3. The end of `lead-accepted`, and what lies from the checkpoint of the CRM to there. The record of 2 is behind the
   checkpoint of the CRM, and is found here: pending. Or it is before it: done, before 2.
4. The end of `lead-dead-letter`, and all before it: it has the letters of all that was done before 2. What retention
   has deleted by now is learned only now, so that nothing is missed in between.
5. The rows, in one snapshot: it has the rows of all that was done before 2. A row that came later, of what was pending
   at 2, is a row: the lead is written.
6. What `lead-captured` got since 1: a row of 5 was captured before 5.

So a record before both checkpoints that has neither row nor letter in these, and is not ahead in 3, had none at 2,
although it had been passed: no alarm of a system that runs can come of the order of looks.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from pipeline.audit.books import Books
from pipeline.audit.checkpoints import Checkpoints, checkpoints, front_group
from pipeline.audit.crm import CRM
from pipeline.audit.crms import crm_for
from pipeline.audit.judgement import Judged, judge
from pipeline.audit.mending import Mended, mend
from pipeline.audit.names import Names
from pipeline.audit.outcome import Outcome
from pipeline.audit.reading import Reader, size, wanted
from pipeline.audit.report import Report
from pipeline.audit.span import Range
from pipeline.audit.store import PARTS, Sieve
from pipeline.inspection.connection import Connection, connected
from pipeline.inspection.errors import Unavailable
from pipeline.letters.reading import Spans, partitions
from pipeline.letters.sending import gave_up, pretending, sending
from pipeline.sending.display import Display
from pipeline.settings import Settings
from pipeline.spool import SpoolError, Waiting, look, spool_path
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = ["Request", "audit"]

FETCH_SIZE_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be done.

    Attributes:
        meant: which records are judged.
        deduped_by: the group that dedupes; None: find it.
        limit: of each kind of anomaly so many are listed.
        patience_s: how long to wait for a broker that sends or acknowledges nothing.
        is_mend, is_dry_run: send what is missing; or say only how much that is.
        told: called with the verdict on each record, when given.
    """

    meant: Range = field(default_factory=Range)
    deduped_by: str | None = None
    limit: int = 100
    patience_s: float = 30.0
    is_mend: bool = False
    is_dry_run: bool = False
    told: Callable[[Judged], None] | None = None


async def audit(settings: Settings, request: Request, report: Report) -> None:
    """Find out what became of every record that is meant, and tell it in `report`, also when this raises.

    Raises:
        Unavailable: broker or CRM do not answer, or are not those of this app.
        NoTopics: there is nothing to read.
    """
    started_s = time.perf_counter()
    crm = crm_for(settings)
    async with connected(settings, fetch_size_max_bytes=FETCH_SIZE_MAX_BYTES) as connection:
        work = _Work(settings, request, report, connection, crm)
        await work.read()
        await work.judge()
        report.seconds = time.perf_counter() - started_s
        if request.is_mend:
            await work.mend()


def _spooled(settings: Settings) -> Waiting:
    """What waits upstream of everything, looked at before all the rest: what leaves it is captured after that."""
    path = spool_path(settings.data_dir)
    try:
        return look(path)
    except SpoolError as error:
        raise Unavailable(f"The spool {path} cannot be read: {error}.") from None


class _Work:
    def __init__(self, settings: Settings, request: Request, report: Report, connection: Connection, crm: CRM) -> None:
        self._settings = settings
        self._request = request
        self._report = report
        self._connection = connection
        self._crm = crm
        self._books = Books(names=Names(), group=settings.app_id)
        self._reader = Reader(connection, self._books, patience_s=request.patience_s)
        self._at = Checkpoints({}, {})
        self._accepted: list[TopicPartition] = []

    async def read(self) -> None:
        """Everything, in the order that is told above."""
        report, books = self._report, self._books
        report.spooled = _spooled(self._settings)
        report.front = await front_group(self._connection, self._settings, self._request.deduped_by)
        captured, self._accepted, letters = [
            await partitions(self._connection, self._settings, topic) for topic in (CAPTURED, ACCEPTED, DEAD_LETTER)
        ]
        number = self._request.meant.partition
        if number is not None and number not in [tp.partition for tp in captured]:
            raise Unavailable(f"{CAPTURED} has no partition {number}.", status=os.EX_USAGE)
        # A CRM that is away is to be told now, and not after minutes.
        await checkpoints(self._connection, self._settings, self._crm, report.front)
        spans = await self._spans(captured)
        with Display(size(spans), f"of {CAPTURED} read", unit="records") as display:
            await self._reader.captured(spans, lambda offsets: display.show(offsets, offsets))
        report.at = datetime.now(UTC)
        self._at = await checkpoints(self._connection, self._settings, self._crm, report.front)
        books.reached = self._at.front
        await self._reader.ahead(self._at, self._accepted)
        await self._reader.letters(letters)
        books.forgotten = await self._reader.forgotten(letters, spans)
        await self._read_rows()
        if books.is_whole:
            await self._reader.captured_since(spans)

    async def _spans(self, captured: list[TopicPartition]) -> Spans:
        spans = await wanted(self._connection, captured, self._request.meant)
        self._report.is_everything = self._request.meant.is_everything
        # Where retention has begun to delete, a row may be of a lead that is not there any more.
        self._books.is_whole = self._report.is_everything and not any(start for start, _ in spans.values())
        self._books.wanted = None if self._report.is_everything else Sieve()
        return spans

    async def _read_rows(self) -> None:
        books, limit = self._books, self._request.limit
        with Display(None, "rows of the CRM read", unit="rows") as display:
            async with self._crm.snapshot() as snapshot:
                async for rows in snapshot.rows():
                    for contact, *row in rows:
                        books.row(contact, row)
                    self._report.rows_count += len(rows)
                    display.show(self._report.rows_count, self._report.rows_count)
                async for contacts in snapshot.contacts():
                    for tenant, address, submissions in contacts:
                        books.counters.contact(books.names.contact(tenant, address), submissions)
                if not books.counters.agree:
                    async for one in snapshot.wrong_counters():
                        self._report.outcome.wrong(one, limit=limit)

    async def judge(self) -> None:
        """The verdicts, and the names of what is listed."""
        report = self._report
        await self._tally(report.outcome)
        if report.outcome.gone is not None:
            # Whether they ever got to lead-accepted: the other half of the log is read for those alone.
            accepted = await self._connection.bounds(self._accepted)
            with Display(size(accepted), f"of {ACCEPTED} read", unit="records") as display:
                await self._reader.passed(
                    self._at, self._accepted, report.outcome.gone, lambda offsets: display.show(offsets, offsets)
                )
            former, report.outcome = report.outcome, Outcome()
            report.outcome.counters, report.outcome.listed_counters = former.counters, former.listed_counters
            await self._tally(report.outcome)
        if self._request.told is not None:
            async for part in _parts():
                for one in judge(self._books, [part]):
                    if one.place is not None:
                        self._request.told(one)
        report.keys = await self._reader.keys(report.outcome.places())
        await self._name_rows(one.of for one in report.outcome.listed if one.place is None)

    async def _tally(self, outcome: Outcome) -> None:
        async for part in _parts():
            outcome.add(judge(self._books, [part]), limit=self._request.limit)

    async def _name_rows(self, names: Iterable[object]) -> None:
        """What the rows with these names of keys are called: they are read once more."""
        unknown = set(names)
        if not unknown:
            return
        async with self._crm.snapshot() as snapshot:
            async for rows in snapshot.rows():
                for _, *row in rows:
                    if (name := self._books.names.row_key(row)) in unknown:
                        self._report.rows[name] = row[0], row[1]

    async def mend(self) -> None:
        """Send what is missing."""
        request, report = self._request, self._report
        report.mended = mended = Mended()
        report.is_dry_run = request.is_dry_run
        patience_s = request.patience_s
        try:
            sends = (
                pretending(mended.count)
                if request.is_dry_run
                else sending(self._settings, mended.count, patience_s=patience_s)
            )
            async with sends as append:
                await mend(self._reader.at(report.outcome.mendable), append, mended)
        except KafkaError as error:
            raise gave_up(self._settings, error, patience_s=patience_s) from None


async def _parts() -> AsyncIterator[int]:
    """The numbers of the parts; Ctrl-C gets in between."""
    for number in range(PARTS):
        yield number
        await asyncio.sleep(0)
