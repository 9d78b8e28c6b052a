"""One line per change while a broker is away, not two thousand (rule 10)."""

from __future__ import annotations

import logging

import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError

from pipeline.batches import noise
from pipeline.batches.noise import TEMPLATES_MAX, NoiseFilter, install_noise_filter


class Clock:
    """The time that the filter sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(noise.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def line(message: str, *args: object, level: int = logging.ERROR, name: str = "aiokafka.client") -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, args, None)


def test_the_stock_log_repeats_itself_and_ours_does_not(clock: Clock) -> None:
    noise_filter = NoiseFilter(repeat_s=30)
    lines = [line("Unable connect to node with id %s", node) for node in range(2000)]
    assert len([one for one in lines if noise_filter.filter(one)]) == 1


def test_a_broker_that_has_no_group_yet_is_no_error(clock: Clock) -> None:
    first_start = line("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
    assert not NoiseFilter().filter(first_start)


def test_the_next_line_says_how_many_were_kept_back(clock: Clock) -> None:
    noise_filter = NoiseFilter(repeat_s=30)
    for _ in range(5):
        noise_filter.filter(line("Unable connect to node with id %s", 1))
    clock.now_s += 30
    again = line("Unable connect to node with id %s", 2)
    assert noise_filter.filter(again)
    assert again.getMessage() == "Unable connect to node with id 2 [and 4 times more]"
    clock.now_s += 30
    third = line("Unable connect to node with id %s", 3)
    assert noise_filter.filter(third)
    assert third.getMessage() == "Unable connect to node with id 3"


def test_kinds_are_counted_apart(clock: Clock) -> None:
    noise_filter = NoiseFilter()
    assert noise_filter.filter(line("a"))
    assert noise_filter.filter(line("b"))
    assert noise_filter.filter(line("a", name="aiokafka.cluster"))
    assert not noise_filter.filter(line("a"))


def test_what_is_no_warning_passes(clock: Clock) -> None:
    noise_filter = NoiseFilter()
    assert all(noise_filter.filter(line("joined", level=logging.INFO)) for _ in range(10))


def test_it_remembers_a_bounded_number_of_kinds(clock: Clock) -> None:
    noise_filter = NoiseFilter()
    for number in range(10 * TEMPLATES_MAX):
        assert noise_filter.filter(line(f"kind {number}"))
        assert len(noise_filter._seen) <= TEMPLATES_MAX


def test_it_is_installed_on_the_loggers_of_aiokafka_only() -> None:
    ours, theirs = logging.getLogger("pipeline.test_noise"), logging.getLogger("aiokafka.test_noise")
    install_noise_filter()
    try:
        assert [type(one) for one in theirs.filters] == [NoiseFilter]
        assert ours.filters == []
    finally:
        for name in list(logging.root.manager.loggerDict):
            logger = logging.getLogger(name)
            logger.filters = [one for one in logger.filters if not isinstance(one, NoiseFilter)]
