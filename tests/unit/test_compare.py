"""The pure parts of the comparison: the schedule and the measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.compare_journal import Journal
from pipeline.lab.compare_measures import (
    Accepted,
    CatchUp,
    Kill,
    Seen,
    Spread,
    catch_up,
    lost,
    measure,
)
from pipeline.lab.compare_schedule import (
    FREEZE,
    JOIN,
    KILL,
    LEAVE,
    RATE_MAX,
    START,
    STOP,
    THAW,
    WORKERS,
    plan,
)

SEEDS = st.integers(min_value=0, max_value=2**32)


class TestSchedule:
    def test_the_same_seed_gives_the_same_faults_and_another_one_others(self) -> None:
        assert plan(1, leads=10_000, kills=6) == plan(1, leads=10_000, kills=6)
        assert plan(1, leads=10_000, kills=6).faults != plan(2, leads=10_000, kills=6).faults

    @given(SEEDS, st.integers(min_value=0, max_value=30))
    def test_it_has_every_kind_of_fault_in_order(self, seed: int, kills: int) -> None:
        made = plan(seed, leads=10_000, kills=kills)
        kinds = [fault.kind for fault in made.faults]
        assert made.kills == kinds.count(KILL) == kills
        for first, last in ((JOIN, LEAVE), (FREEZE, THAW), (STOP, START)):
            assert kinds.count(first) == kinds.count(last) == 1
            assert kinds.index(first) < kinds.index(last)
        times = [fault.at_s for fault in made.faults]
        assert times == sorted(times)
        assert times[0] > 0
        assert times[-1] < made.seconds

    @given(SEEDS, st.integers(min_value=1, max_value=30))
    def test_one_worker_is_killed_while_the_database_does_not_answer(self, seed: int, kills: int) -> None:
        made = plan(seed, leads=10_000, kills=kills)
        outages = [made.is_outage(fault.at_s) for fault in made.faults if fault.kind == KILL]
        assert outages.count(True) == 1

    @given(SEEDS)
    def test_only_workers_that_are_there_from_the_start_are_killed(self, seed: int) -> None:
        made = plan(seed, leads=10_000, kills=6)
        assert {fault.slot for fault in made.faults if fault.kind == KILL} <= set(range(1, WORKERS + 1))
        assert {fault.slot for fault in made.faults if fault.kind in (JOIN, LEAVE)} == {WORKERS + 1}

    def test_the_rate_gives_all_leads_in_the_time(self) -> None:
        made = plan(1, leads=10_000, kills=6)
        assert made.rate * made.seconds == pytest.approx(10_000)

    def test_more_leads_take_longer_rather_than_more_than_a_contender_can_do(self) -> None:
        assert plan(1, leads=1_000_000, kills=6).rate == pytest.approx(RATE_MAX)


def seen(
    accepted: dict[str, Accepted],
    written: dict[str, float],
    *,
    dead: frozenset[str] = frozenset(),
    rows: int | None = None,
    submissions: int | None = None,
    attempts: int | None = None,
    kills: tuple[Kill, ...] = (),
) -> Seen:
    there = len(written)
    return Seen(
        accepted, written, dead, there if rows is None else rows, there if submissions is None else submissions,
        there if attempts is None else attempts, kills, ended=0, cpu_s=3.0,
    )  # fmt: skip


def at(partition: int, time_s: float) -> Accepted:
    return Accepted(partition, 0, time_s)


LEADS = {"a/1": at(0, 1.0), "a/2": at(1, 2.0), "a/3": at(0, 3.0)}


class TestMeasures:
    def test_lost_is_what_was_accepted_and_is_nowhere(self) -> None:
        found = seen(LEADS, {"a/1": 1.1}, dead=frozenset(["a/2"]))
        assert lost(found) == ["a/3"]
        assert measure(found).lost == 1

    def test_what_was_never_accepted_is_not_lost(self) -> None:
        assert measure(seen({}, {"a/1": 1.0})).lost == 0

    def test_doubled_is_a_submission_too_many_or_a_row_too_many(self) -> None:
        written = dict.fromkeys(LEADS, 4.0)
        assert measure(seen(LEADS, written)).doubled == 0
        assert measure(seen(LEADS, written, submissions=5)).doubled == 2
        assert measure(seen(LEADS, written, rows=4)).doubled == 1

    def test_delivered_again_is_counted_for_each_kill(self) -> None:
        kills = (Kill(2.5, frozenset()), Kill(2.6, frozenset()))
        found = measure(seen(LEADS, dict.fromkeys(LEADS, 4.0), attempts=8, kills=kills))
        assert found.again_per_kill == 2.5
        assert measure(seen(LEADS, dict.fromkeys(LEADS, 4.0), attempts=8)).again_per_kill is None

    def test_lost_leads_are_told_by_the_fault_that_struck_when_they_were_accepted(self) -> None:
        found = replace(seen(LEADS, {"a/1": 1.1}), faults=[("stop", 1.0), ("kill", 3.9)])
        assert measure(found).lost_after == {"stop": 1, "kill": 1}
        assert measure(replace(found, faults=[])).lost_after == {"none": 2}

    def test_processor_time_is_for_a_million_leads(self) -> None:
        assert measure(seen(LEADS, {})).cpu_s_per_million == 1_000_000

    def test_a_kill_in_an_outage_or_of_a_worker_without_partitions_says_nothing_about_catching_up(self) -> None:
        kills = (Kill(2.5, frozenset([0]), in_outage=True), Kill(2.5, frozenset()))
        assert measure(seen(LEADS, {}, kills=kills)).first_write == Spread(0, None, None)


class TestCatchUp:
    KILLED = Kill(10.0, frozenset([0]))

    def test_from_the_kill_to_the_first_write_and_to_the_end_of_the_backlog(self) -> None:
        accepted = {"x": at(0, 9.9), "y": at(0, 11.0), "z": at(0, 12.0), "later": at(0, 23.0)}
        written = {"x": 20.0, "y": 21.0, "z": 22.0, "later": 23.5}
        # z waits when y is the first that is written; `later` does not.
        assert catch_up(self.KILLED, accepted, written) == CatchUp(11.0, 12.0)

    def test_writes_to_other_partitions_or_of_what_was_on_its_way_do_not_count(self) -> None:
        accepted = {"other": at(1, 10.5), "on its way": at(0, 9.9), "new": at(0, 10.2)}
        written = {"other": 10.6, "on its way": 10.05, "new": 18.0}
        assert catch_up(self.KILLED, accepted, written) == CatchUp(8.0, 8.0)

    def test_a_lost_lead_is_not_waited_for(self) -> None:
        assert catch_up(self.KILLED, {"lost": at(0, 9.0), "new": at(0, 11.0)}, {"new": 19.0}) == CatchUp(9.0, 9.0)

    def test_never(self) -> None:
        assert catch_up(self.KILLED, {"new": at(0, 11.0)}, {}) == CatchUp(None, None)

    def test_a_spread_says_how_many_never_came(self) -> None:
        assert Spread.of([1.0, None, 5.0, 2.0]) == Spread(4, 2.0, 5.0, 1)
        assert Spread.of([None]) == Spread(1, None, None, 1)


class TestJournal:
    def test_what_is_added_is_read_too_but_for_a_line_that_is_being_written(self, tmp_path: Path) -> None:
        journal = Journal(tmp_path / "journal", lambda number: f"default/{number}")
        assert journal.accepted() == {}
        with journal.path.open("w") as file:
            file.write("0 3 17 1500 1501000\n1 4 0 2000 20")
            file.flush()
            assert journal.accepted() == {"default/0": Accepted(3, 17, 1.5, 1.501)}
            file.write("02000\n")
            file.flush()
            second = Accepted(4, 0, 2.0, 2.002)
            assert journal.accepted() == {"default/0": Accepted(3, 17, 1.5, 1.501), "default/1": second}
        assert len(journal.accepted()) == 2
