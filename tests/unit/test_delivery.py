"""A batch to a sink, with the reference sink."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from pipeline.delivery import PAUSE_FIRST_S, PAUSE_MAX_S, SinkHealth, deliver
from pipeline.sinks import AcceptedLead, RecordsRejected, SinkUnavailable
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

    async def write(self, leads: Sequence[AcceptedLead]) -> int:
        self._journal.lines.append("write " + " ".join(str(lead.offset) for lead in leads))
        return await super().write(leads)


class RaisingSink(MemorySink):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def write(self, leads: Sequence[AcceptedLead]) -> int:
        raise self._error


def odd(accepted: AcceptedLead) -> str | None:
    return "odd" if accepted.offset % 2 else None


async def run(
    sink: MemorySink, journal: Journal, *numbers: int, health: SinkHealth | None = None, seed: int = 1
) -> int:
    return await deliver(
        sink,
        batch(*numbers),
        dead_letter=journal.dead_letter,
        pause=journal.pause,
        health=health or SinkHealth(),
        random=Random(seed),
    )


class TestDeliver:
    async def test_a_batch(self) -> None:
        journal, health = Journal(), SinkHealth()
        sink = JournalSink(journal)
        assert await run(sink, journal, 1, 2, health=health) == 2
        assert await run(sink, journal, 2, 3, health=health) == 1
        assert journal.lines == ["write 1 2", "write 2 3"]
        assert (health.leads_written, health.leads_known) == (3, 1)

    async def test_an_empty_batch_does_not_touch_the_sink(self) -> None:
        assert await run(RaisingSink(AssertionError()), Journal()) == 0

    async def test_it_tries_until_the_sink_is_back(self) -> None:
        journal = Journal()
        assert await run(JournalSink(journal, unavailable=2), journal, 1) == 1
        assert journal.lines == ["write 1", "pause", "write 1", "pause", "write 1"]

    async def test_dead_letters_go_before_rows(self) -> None:
        journal, health = Journal(), SinkHealth()
        sink = JournalSink(journal, reject=odd)
        assert await run(sink, journal, 1, 2, 3, 4, health=health) == 2
        assert journal.lines == ["write 1 2 3 4", "dead 1 odd", "dead 3 odd", "write 2 4"]
        assert health.leads_rejected == 2

    async def test_all_rejected(self) -> None:
        journal = Journal()
        assert await run(JournalSink(journal, reject=odd), journal, 1, 3) == 0
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

    async def test_a_seed_replays_them(self) -> None:
        journals = [Journal(), Journal(), Journal()]
        for journal, seed in zip(journals, (7, 7, 8), strict=True):
            await run(MemorySink(unavailable=5), journal, 1, seed=seed)
        assert journals[0].pauses_s == journals[1].pauses_s != journals[2].pauses_s

    async def test_what_the_sink_asks_for_is_honoured(self) -> None:
        sink, journal = MemorySink(unavailable=3), Journal()
        sink.retry_after_s = 30.0
        await run(sink, journal, 1)
        assert all(30 <= pause_s <= 30 + PAUSE_MAX_S for pause_s in journal.pauses_s)


class TestHealth:
    @pytest.fixture
    def now(self) -> Callable[[], datetime]:
        ticks = (datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(seconds=10 * n) for n in range(1000))
        return lambda: next(ticks)

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
            ("INFO", "The sink is back after 10.0 s."),
        ]
        assert (health.outages, health.attempts_failed, health.reachable, health.reason) == (1, 50, True, None)

    async def test_while_it_is_away(self, now: Callable[[], datetime]) -> None:
        health = SinkHealth(now=now)
        started = health.since
        with pytest.raises(LetGo):
            await run(RaisingSink(SinkUnavailable("SQLITE_FULL")), Journal(let_go_after=2), 1, health=health)
        assert (health.reachable, health.reason) == (False, "SQLITE_FULL")
        assert health.since > started

    async def test_a_rejection_is_an_answer(self, now: Callable[[], datetime]) -> None:
        health, sink = SinkHealth(now=now), MemorySink(unavailable=1, reject=odd)
        await run(sink, Journal(), 1, health=health)
        assert health.reachable

    async def test_lanes_share_it(self, caplog: pytest.LogCaptureFixture) -> None:
        health = SinkHealth()
        for reason in ("first", "second", "first"):
            health.unavailable(reason)
        assert len(caplog.records) == 1
        assert (health.reason, health.outages, health.attempts_failed) == ("first", 1, 3)
