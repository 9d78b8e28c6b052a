"""The schedule of a chaos run: the same for the same seed, and every fault has its turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.schedule import FIRST_S, LAST_S, schedule

NAMES = ("kill-worker", "pause-worker", "rebalance", "slow-network", "stop-database")
names = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
seconds = st.floats(1, 2000)


@given(st.integers(), seconds, names)
def test_the_same_seed_gives_the_same_schedule_in_whatever_order_the_faults_are_named(
    seed: int, run_s: float, chosen: list[str]
) -> None:
    assert schedule(seed, run_s, chosen) == schedule(seed, run_s, chosen[::-1])


def test_another_seed_gives_another_schedule() -> None:
    assert schedule(1, 600, NAMES) != schedule(2, 600, NAMES)


@given(st.integers(0, 10), seconds, names)
def test_faults_begin_inside_of_the_run_and_in_order(seed: int, run_s: float, chosen: list[str]) -> None:
    found = schedule(seed, run_s, chosen)
    times = [one.at_s for one in found]
    assert times == sorted(times)
    assert [one.index for one in found] == list(range(len(found)))
    assert all(FIRST_S <= at_s <= run_s - LAST_S + 0.01 for at_s in times)


@given(st.integers(0, 10), names)
def test_every_fault_comes_once_before_one_comes_again(seed: int, chosen: list[str]) -> None:
    found = [one.name for one in schedule(seed, 600, chosen)]
    for start in range(0, len(found) - len(chosen), len(chosen)):
        assert sorted(found[start : start + len(chosen)]) == sorted(chosen)


@given(st.integers(0, 10), names)
def test_a_longer_run_begins_with_the_faults_of_a_shorter_one(seed: int, chosen: list[str]) -> None:
    short = schedule(seed, 120, chosen)
    assert schedule(seed, 600, chosen)[: len(short)] == short


def test_ten_minutes_have_more_than_forty_faults() -> None:
    assert all(40 < len(schedule(seed, 600, NAMES)) < 70 for seed in range(20))


def test_no_faults_and_no_time_give_an_empty_schedule() -> None:
    assert schedule(1, 600, []) == []
    assert schedule(1, 0, NAMES) == []
