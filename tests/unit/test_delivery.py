"""A batch to a sink, with the reference sink."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.batches import Fatal
from pipeline.circuit import ATTEMPTS_SAID, FAILURES_MAX, PAUSE_FIRST_S, PAUSE_MAX_S, SinkHealth, patiently
from pipeline.delivery import deliver
from pipeline.sinks import (
    AcceptedLead,
    Checkpoint,
    Lane,
    RecordsRejected,
    SinkUnavailable,
    SinkUnusable,
    StreamOffset,
)
from pipeline.sinks.memory import MemorySink
from tests.unit.sink_contract import batch


class LetGo(Exception):
    """What the engine raises when the partition is being let go."""


class Journal:
    """What `deliver` did, in order: `write 1 2`, `dead 2 reason`, `pause`."""

    def __init__(self, *, let_go_after: int | None = None) -> None:
        self.lines: list[str] = []
        self.pauses_s: list[float] = []
        self._let_go_after = let_go_after

    async def dead_letter(self, accepted: AcceptedLead, reason: str) -> None:
        self.lines.append(f"dead {accepted.offset} {reason}")

    async def pause(self, delay_s: float) -> None:
        self.lines.append("pause")
        self.pauses_s.append(delay_s)
        if len(self.pauses_s) == self._let_go_after:
            raise LetGo


class JournalSink(MemorySink):
    def __init__(self, journal: Journal, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._journal = journal

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        self._journal.lines.append("write " + " ".join(str(lead.offset) for lead in leads))
        return await super().write(leads, checkpoint)


class RaisingSink(MemorySink):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        raise self._error


def odd(accepted: AcceptedLead) -> str | None:
    return "odd" if accepted.offset % 2 else None


async def run(
    sink: MemorySink,
    journal: Journal,
    *numbers: int,
    health: SinkHealth | None = None,
    checkpoint: Checkpoint | None = None,
) -> StreamOffset | None:
    return await deliver(
        sink,
        batch(*numbers),
        checkpoint=checkpoint,
        dead_letter=journal.dead_letter,
        pause=journal.pause,
        health=health or SinkHealth(),
    )


class TestDeliver:
    async def test_a_batch(self) -> None:
        journal, health = Journal(), SinkHealth()
        sink = JournalSink(journal)
        await run(sink, journal, 1, 2, health=health)
        await run(sink, journal, 2, 3, health=health)
        assert journal.lines == ["write 1 2", "write 2 3"]
        assert (health.leads_written, health.leads_known) == (3, 1)

    async def test_an_empty_batch_does_not_touch_the_sink(self) -> None:
        assert await run(RaisingSink(AssertionError()), Journal()) is None

    async def test_it_tries_until_the_sink_is_back(self) -> None:
        journal = Journal()
        await run(JournalSink(journal, unavailable=2), journal, 1)
        assert journal.lines == ["write 1", "pause", "write 1", "pause", "write 1"]

    async def test_dead_letters_go_before_rows(self) -> None:
        journal, health = Journal(), SinkHealth()
        sink = JournalSink(journal, reject=odd)
        await run(sink, journal, 1, 2, 3, 4, health=health)
        assert journal.lines == ["write 1 2 3 4", "dead 1 odd", "dead 3 odd", "write 2 4"]
        assert health.leads_rejected == 2

    async def test_all_rejected(self) -> None:
        journal = Journal()
        await run(JournalSink(journal, reject=odd), journal, 1, 3)
        assert journal.lines == ["write 1 3", "dead 1 odd", "dead 3 odd"]

    async def test_a_dead_letter_that_fails_ends_it_before_the_rows(self) -> None:
        sink = MemorySink(reject=odd)

        async def fail(accepted: AcceptedLead, reason: str) -> None:
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await deliver(sink, batch(1, 2), dead_letter=fail, pause=Journal().pause, health=SinkHealth())
        assert sink.rows == {}

    async def test_rejected_then_unavailable_dead_letters_once(self) -> None:
        journal = Journal()
        sink = JournalSink(journal, reject=odd)

        async def dead_letter(accepted: AcceptedLead, reason: str) -> None:
            await journal.dead_letter(accepted, reason)
            sink.unavailable = 1

        await deliver(sink, batch(1, 2), dead_letter=dead_letter, pause=journal.pause, health=SinkHealth())
        assert journal.lines == ["write 1 2", "dead 1 odd", "write 2", "pause", "write 2"]

    async def test_a_partition_that_is_let_go(self) -> None:
        journal = Journal(let_go_after=3)
        sink = JournalSink(journal, unavailable=100)
        with pytest.raises(LetGo):
            await run(sink, journal, 1)
        assert len(journal.pauses_s) == 3

    @pytest.mark.parametrize(
        "error", [RuntimeError("bug"), RecordsRejected({}), RecordsRejected({2: "?"}), RecordsRejected({-1: "?"})]
    )
    async def test_a_bug_in_the_sink_comes_through(self, error: Exception) -> None:
        journal = Journal()
        with pytest.raises(type(error)):
            await run(RaisingSink(error), journal, 1, 2)
        assert journal.lines == []


class TestPauses:
    async def test_they_double_up_to_a_bound_with_full_jitter(self) -> None:
        journal = Journal(let_go_after=2000)
        with pytest.raises(LetGo):
            await run(MemorySink(unavailable=2000), journal, 1)
        for number, pause_s in enumerate(journal.pauses_s):
            assert 0 <= pause_s <= min(PAUSE_FIRST_S * 2 ** min(number, 20), PAUSE_MAX_S)
        assert max(journal.pauses_s) > 0.9 * PAUSE_MAX_S
        assert min(journal.pauses_s[20:]) < 0.1 * PAUSE_MAX_S

    async def test_what_the_sink_asks_for_is_honoured(self) -> None:
        sink, journal = MemorySink(unavailable=3), Journal()
        sink.retry_after_s = 30.0
        await run(sink, journal, 1)
        assert all(30 <= pause_s <= 30 + PAUSE_MAX_S for pause_s in journal.pauses_s)


def ticking() -> Callable[[], datetime]:
    """A clock that goes on 10 s at each look."""
    ticks = (datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(seconds=10 * n) for n in range(1000))
    return lambda: next(ticks)


class TestHealth:
    @pytest.fixture
    def now(self) -> Callable[[], datetime]:
        return ticking()

    async def test_one_line_per_change(self, caplog: pytest.LogCaptureFixture, now: Callable[[], datetime]) -> None:
        caplog.set_level(logging.DEBUG)
        health, sink = SinkHealth(now=now), MemorySink(unavailable=50)
        await run(sink, Journal(), 1, health=health)
        await run(sink, Journal(), 2, health=health)
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "WARNING",
                "The sink is unavailable: told to be unavailable. Nothing is lost; writing goes on when it is back.",
            ),
            ("INFO", "The sink is back after 480.0 s."),
        ]
        assert (health.outages, health.attempts_failed, health.reachable, health.reason) == (1, 50, True, None)

    async def test_while_it_is_away(self, now: Callable[[], datetime]) -> None:
        health = SinkHealth(now=now)
        started = health.since
        with pytest.raises(LetGo):
            await run(RaisingSink(SinkUnavailable("SQLITE_FULL")), Journal(let_go_after=FAILURES_MAX), 1, health=health)
        assert (health.reachable, health.reason) == (False, "SQLITE_FULL")
        assert health.since > started

    async def test_nobody_relies_on_it_before_it_has_answered(self, now: Callable[[], datetime]) -> None:
        health = SinkHealth(now=now)
        assert health.problem == "not reached yet"
        health.available()
        assert health.problem is None
        for _ in range(FAILURES_MAX):
            health.unavailable("down")
        assert health.problem == "unavailable: down"

    async def test_a_rejection_is_an_answer(self, now: Callable[[], datetime]) -> None:
        health, sink = SinkHealth(now=now), MemorySink(unavailable=1, reject=odd)
        await run(sink, Journal(), 1, health=health)
        assert health.reachable

    async def test_who_cannot_go_on_does_not_say_that_it_is_back(self, caplog: pytest.LogCaptureFixture) -> None:
        health = SinkHealth(now=ticking())
        for _ in range(FAILURES_MAX):
            health.unavailable("down")
        with pytest.raises(SinkUnusable):
            await run(RaisingSink(SinkUnusable("its tables are not ours")), Journal(), 1, health=health)
        assert not health.reachable
        assert [record.levelname for record in caplog.records] == ["WARNING"]

    async def test_one_that_cannot_be_written_while_others_can_is_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """As when somebody else holds the lock of a row. The circuit stays closed, so nobody else would say it."""
        health, sink = SinkHealth(), MemorySink(unavailable=3 * ATTEMPTS_SAID)

        async def pause(delay_s: float) -> None:
            health.available()

        await deliver(sink, batch(1), dead_letter=Journal().dead_letter, pause=pause, health=health)
        (line,) = caplog.records
        assert line.levelname == "WARNING"
        assert f"not be written in {ATTEMPTS_SAID} attempts, while others can: told to be unavail" in line.getMessage()

    async def test_lanes_share_it(self, caplog: pytest.LogCaptureFixture) -> None:
        health = SinkHealth(now=ticking())
        for reason in ("first", "second", "first", "second", "first"):
            health.unavailable(reason)
        assert len(caplog.records) == 1
        assert (health.reason, health.outages, health.attempts_failed) == ("first", 1, 5)


class TestCircuit:
    """One lane at a time tries while it is open."""

    async def test_few_failures_do_not_open_it(self, caplog: pytest.LogCaptureFixture) -> None:
        health = SinkHealth(now=ticking())
        for _ in range(3):
            await run(MemorySink(unavailable=FAILURES_MAX - 1), Journal(), 1, health=health)
        assert (health.reachable, health.outages, caplog.records) == (True, 0, [])

    async def test_nor_do_many_in_one_moment(self, caplog: pytest.LogCaptureFixture) -> None:
        """Eight lanes that find SQLite locked by another worker's batch."""
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
        health = SinkHealth(now=lambda: moment)
        for _ in range(8):
            health.unavailable("SQLITE_BUSY")
        assert (health.reachable, health.outages, caplog.records) == (True, 0, [])

    async def test_while_it_is_open_one_tries(self) -> None:
        health = SinkHealth(now=ticking())
        for _ in range(FAILURES_MAX):
            health.unavailable("down")
        most, now, asked = 0, 0, 0

        async def ask() -> None:
            nonlocal most, now, asked
            asked, now = asked + 1, now + 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            if asked < 20:
                raise SinkUnavailable("down")

        await asyncio.gather(*(patiently(ask, pause=lambda _: asyncio.sleep(0), health=health) for _ in range(8)))
        assert health.reachable
        assert asked == 27  # the twentieth succeeds, and then the other seven
        assert most <= 7

    async def test_who_is_cancelled_while_trying_gives_its_turn_back(self) -> None:
        health = SinkHealth(now=ticking())
        for _ in range(FAILURES_MAX):
            health.unavailable("down")
        hangs = asyncio.create_task(patiently(asyncio.Event().wait, pause=asyncio.sleep, health=health))
        await asyncio.sleep(0)
        hangs.cancel()
        await asyncio.wait({hangs})
        await run(MemorySink(), Journal(let_go_after=1), 1, health=health)
        assert health.reachable


LANE = Lane("leads", "lead-accepted", 3)


def at(offset: int, log_id: str = "a log") -> StreamOffset:
    return StreamOffset(offset, log_id)


def step(position: int, after: int) -> Checkpoint:
    return Checkpoint(LANE, position, at(after))


class TestCheckpoint:
    """The step of the lane goes with the rows."""

    async def test_it_is_taken(self) -> None:
        sink = MemorySink()
        sink.lanes[LANE] = at(1)
        assert await run(sink, Journal(), 1, 2, checkpoint=step(1, 3)) == at(3)
        assert (sink.lanes[LANE], len(sink.rows)) == (at(3), 2)

    async def test_it_is_taken_without_leads_and_when_all_are_rejected(self) -> None:
        sink = MemorySink(reject=odd)
        sink.lanes[LANE] = at(1)
        await run(sink, Journal(), checkpoint=step(1, 3))
        assert sink.lanes[LANE] == at(3)
        await run(sink, Journal(), 3, 5, checkpoint=step(3, 6))
        assert (sink.lanes[LANE], sink.rows) == (at(6), {})

    async def test_what_was_written_and_whose_answer_got_lost(self) -> None:
        sink, journal = MemorySink(), Journal()
        sink.lanes[LANE] = at(3)
        assert await run(sink, journal, 1, 2, checkpoint=step(1, 3)) == at(3)
        assert (sink.rows, journal.lines) == ({}, ["pause"])

    async def test_what_another_worker_has_written_is_left_out(self) -> None:
        sink = MemorySink()
        sink.lanes[LANE] = at(3)
        assert await run(sink, Journal(), 1, 2, 3, 4, checkpoint=step(1, 5)) == at(5)
        assert sorted(row.offset for row in sink.rows.values()) == [3, 4]

    async def test_another_worker_that_is_further(self) -> None:
        sink = MemorySink()
        sink.lanes[LANE] = at(9)
        assert await run(sink, Journal(), 1, 2, checkpoint=step(1, 3)) == at(9)
        assert sink.rows == {}

    async def test_a_lane_that_is_let_go_meanwhile(self) -> None:
        sink = MemorySink()
        sink.lanes[LANE] = at(2)
        with pytest.raises(LetGo):
            await run(sink, Journal(let_go_after=1), 1, 2, checkpoint=step(1, 3))
        assert sink.rows == {}

    @pytest.mark.parametrize("found", [None, at(0), at(3, "another log")])
    async def test_a_database_that_went_back_ends_the_worker(self, found: StreamOffset | None) -> None:
        sink = MemorySink()
        if found:
            sink.lanes[LANE] = found
        with pytest.raises(Fatal, match="restart"):
            await run(sink, Journal(), 1, 2, checkpoint=step(1, 3))
        assert sink.rows == {}
