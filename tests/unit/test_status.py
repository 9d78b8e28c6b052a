"""What is said of a lead: pure, and never wrong, however the lead moves while one looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters import BUG, ID_CONFLICT, INVALID, REJECTED, Letter
from pipeline.dedupe import Seen
from pipeline.sinks import WrittenLead
from pipeline.status import Evidence, State, judge, letter
from pipeline.topics import ACCEPTED, CAPTURED

ROW = WrittenLead("7", datetime(2026, 1, 31, tzinfo=UTC))
SEEN = Seen(5, 70, b"12345678")


def of(topic: str, reason: str) -> dict[str, Letter]:
    return {topic: Letter(reason, "leads", topic, 3, 5, 3, 0, 80)}


@pytest.mark.parametrize(
    "found,state",
    [
        (Evidence(), State.MISSING),
        (Evidence(has_receipt=True, is_ahead=True), State.PENDING),
        (Evidence(seen=SEEN, accepted_lag=1), State.PENDING),
        (Evidence(seen=SEEN, letters_lag=1), State.PENDING),
        (Evidence(seen=SEEN, written=ROW), State.WRITTEN),
        (Evidence(written=ROW), State.WRITTEN),
        (Evidence(seen=SEEN, accepted_lag=9, letters=of(ACCEPTED, REJECTED)), State.DEAD_LETTERED),
        (Evidence(letters=of(CAPTURED, INVALID)), State.DEAD_LETTERED),
        (Evidence(letters=of(CAPTURED, BUG), accepted_lag=9), State.DEAD_LETTERED),
        # A conflict is a lead of its own under this id: it says nothing of the first one.
        (Evidence(seen=SEEN, accepted_lag=1, letters=of(CAPTURED, ID_CONFLICT)), State.PENDING),
        (Evidence(seen=SEEN, written=ROW, letters=of(CAPTURED, ID_CONFLICT)), State.WRITTEN),
        # Written after all, by hand or by a replay.
        (Evidence(seen=SEEN, written=ROW, letters=of(ACCEPTED, REJECTED)), State.WRITTEN),
        # A record of this key was no lead, the one of the receipt comes later.
        (Evidence(has_receipt=True, is_ahead=True, letters=of(CAPTURED, INVALID)), State.PENDING),
        # Removed from the CRM since.
        (Evidence(seen=SEEN), State.MISSING),
        (Evidence(has_receipt=True), State.MISSING),
        # The dead letters are not read to their end.
        (Evidence(letters_lag=1), State.UNKNOWN),
        (Evidence(has_receipt=True, letters_lag=1), State.PENDING),
    ],
)
def test_the_state(found: Evidence, state: State) -> None:
    assert judge(found) == state


@pytest.mark.parametrize(
    "found,state",
    [
        (Evidence(), State.MISSING),
        (Evidence(accepted_lag=1), State.UNKNOWN),
        (Evidence(letters_lag=1), State.UNKNOWN),
        (Evidence(has_receipt=True), State.PENDING),
        (Evidence(has_receipt=True, accepted_lag=1), State.PENDING),
        (Evidence(has_receipt=True, letters=of(ACCEPTED, REJECTED)), State.DEAD_LETTERED),
        (Evidence(has_receipt=True, letters=of(CAPTURED, BUG)), State.DEAD_LETTERED),
        (Evidence(written=ROW), State.WRITTEN),
    ],
)
def test_the_state_in_another_crm_which_does_not_dedupe(found: Evidence, state: State) -> None:
    assert judge(replace(found, dedupes=False)) == state


def test_what_the_crm_refused_is_the_reason_before_any_conflict() -> None:
    found = Evidence(letters=of(CAPTURED, ID_CONFLICT) | of(ACCEPTED, REJECTED))
    why = letter(found)
    assert why is not None
    assert why.reason == REJECTED


@dataclass
class World:
    """One lead's partition, step by step, as the agents change it; other leads come and go around it."""

    captured_end: int = 0
    captured_reached: int = 0
    seen: Seen | None = None
    accepted_end: int = 0
    accepted_reached: int = 0
    letters_end: int = 0
    letters_reached: int = 0
    letters: dict[str, Letter] = field(default_factory=dict)
    row: WrittenLead | None = None


Step = Callable[[World], None]


def steps(fate: str) -> list[Step]:
    """The life of a lead at offset 0 of everything, in the order that the agents keep."""

    def set_to(**values: object) -> Step:
        return lambda world: world.__dict__.update(values)

    letters_of = {"invalid": of(CAPTURED, INVALID), "rejected": of(ACCEPTED, REJECTED)}
    dead: list[Step] = [
        set_to(letters_end=1),
        set_to(letters=letters_of.get(fate, {})),
        set_to(letters_reached=1),
    ]
    life = [set_to(captured_end=1)]
    if fate == "invalid":
        return [*life, dead[0], set_to(captured_reached=1), *dead[1:]]
    life += [set_to(accepted_end=1), set_to(seen=SEEN), set_to(captured_reached=1)]
    if fate == "written":
        return [*life, set_to(row=ROW), set_to(accepted_reached=1)]
    return [*life, dead[0], set_to(accepted_reached=1), *dead[1:]]


@given(st.sampled_from(["written", "invalid", "rejected"]), st.booleans(), st.booleans(), st.data())
def test_it_is_never_wrong_however_the_lead_moves_meanwhile(
    fate: str, has_receipt: bool, dedupes: bool, data: st.DataObject
) -> None:
    """The looks, in the order of `Evidence` and of `StatusView`, with any number of steps before each of them."""
    world, life = World(), steps(fate)
    past: list[str] = []

    def go_on() -> World:
        for _ in range(data.draw(st.integers(0, len(life)))):
            life.pop(0)(world)
            past.append("step")
        return world

    go_on()
    if has_receipt and not past:
        life.pop(0)(world)  # a receipt is given after the broker has the lead
        past.append("step")
    started, was_over = len(past), not life
    captured_reached = go_on().captured_reached
    seen = world.seen  # the same moment
    ends = go_on().captured_end, world.accepted_end, world.letters_end
    accepted_reached, letters_reached = go_on().accepted_reached, world.letters_reached
    letters = go_on().letters
    row = go_on().row
    state = judge(
        Evidence(
            has_receipt=has_receipt,
            dedupes=dedupes,
            is_ahead=dedupes and has_receipt and captured_reached < ends[0],
            seen=seen if dedupes else None,
            accepted_lag=ends[1] - accepted_reached,
            letters_lag=ends[2] - letters_reached,
            letters=letters,
            written=row,
        )
    )
    final = {"written": State.WRITTEN, "invalid": State.DEAD_LETTERED, "rejected": State.DEAD_LETTERED}[fate]
    if was_over:
        assert state == final
    elif has_receipt:
        assert state in (State.PENDING, final)
    elif started == 0:
        assert state in (State.MISSING, State.UNKNOWN, State.PENDING, final)
    else:
        # Without a receipt a lead that `dedupe` has not reached cannot be told from one that does not exist.
        assert state in (State.PENDING, State.UNKNOWN, final) or not dedupes or seen is None
