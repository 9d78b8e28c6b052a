"""The history of a run: what was appended is there, also behind an event that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.history import Event, History, Outcome, Tally, read

events = st.lists(
    st.builds(
        Event,
        st.integers(0, 2**32 - 1),
        st.floats(0, 1e10),
        st.sampled_from(Outcome),
        st.integers(-1, 1000),
        st.integers(-1, 2**62),
    )
)


def written(path: Path, *pieces: list[Event]) -> Path:
    path.unlink(missing_ok=True)
    history = History(path)
    for piece in pieces:
        history.append(piece)
    history.close()
    return path


@given(first=events, second=events)
def test_what_was_appended_is_read_in_order(
    tmp_path_factory: pytest.TempPathFactory, first: list[Event], second: list[Event]
) -> None:
    path = written(tmp_path_factory.getbasetemp() / "history", first, second)
    assert list(read(path)) == first + second


def test_an_event_that_was_cut_off_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "history", [Event(1, 0.5, Outcome.SENT), Event(1, 0.7, Outcome.OK, 3, 99)])
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert list(read(path)) == [Event(1, 0.5, Outcome.SENT)]


def test_an_event_that_is_completed_while_it_is_read_is_read_next_time(tmp_path: Path) -> None:
    found = [Event(number, 0.5, Outcome.SENT) for number in range(6)]
    path = written(tmp_path / "history", found)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 - 5])  # two, and a part of the third
    events = read(path)
    first = next(events)
    path.write_bytes(whole)
    assert [first, *events] == found[:2]
    assert list(read(path, len(whole) // 3)) == found[2:]


def test_a_tally_counts_on_as_the_history_grows(tmp_path: Path) -> None:
    path = tmp_path / "history"
    tally = Tally(path)
    tally.update()
    assert tally.leads == 0
    history = History(path)
    history.append([Event(0, 0.0, Outcome.SENT), Event(1, 0.0, Outcome.SENT)])
    tally.update()
    history.append([Event(0, 0.0, Outcome.OK, 0, 0), Event(1, 0.0, Outcome.INFO)])
    tally.update()
    tally.update()
    assert tally.leads == 2
    assert tally.counts == {Outcome.SENT: 2, Outcome.OK: 1, Outcome.FAIL: 0, Outcome.INFO: 1}
