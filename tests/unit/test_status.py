"""What is said of a lead: pure, and never wrong, however the lead moves while one looks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.batches import Log
from pipeline.dead_letters import BUG, ID_CONFLICT, INVALID, REJECTED, Letter
from pipeline.dedupe import Seen
from pipeline.sinks import WrittenLead
from pipeline.status import Evidence, State, This, gather, judge, letter, this_record
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER

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
        # The dedupe window is over, and it may still wait for a CRM that was away.
        (Evidence(has_receipt=True, accepted_lag=5), State.PENDING),
        (Evidence(accepted_lag=5), State.UNKNOWN),
        # The CRM has not said how far it is.
        (Evidence(seen=SEEN, accepted_lag=None), State.UNKNOWN),
        (Evidence(has_receipt=True, accepted_lag=None), State.UNKNOWN),
        (Evidence(accepted_lag=None), State.UNKNOWN),
        (Evidence(has_receipt=True, is_ahead=True, accepted_lag=None), State.PENDING),
        (Evidence(seen=SEEN, accepted_lag=None, letters=of(ACCEPTED, REJECTED)), State.DEAD_LETTERED),
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


#: What happens to a lead at offset 0 of everything, in the order that the agents keep. `topic+` is the append of its
#: record, `topic` the checkpoint that passes it.
LIVES = {
    "written": ["captured+", "accepted+", "seen", "captured", "row", "accepted"],
    "rejected": ["captured+", "accepted+", "seen", "captured", "letter+", "accepted", "remembered", "letter"],
    "invalid": ["captured+", "letter+", "captured", "remembered", "letter"],
}
FINAL = {"written": State.WRITTEN, "rejected": State.DEAD_LETTERED, "invalid": State.DEAD_LETTERED}
LETTERS = {"written": {}, "rejected": of(ACCEPTED, REJECTED), "invalid": of(CAPTURED, INVALID)}
#: What else may happen, and after which step of the life if that has it. The CRM tells a new owner its position: that
#: of the record before, which it then reads again.
OTHERS = {
    "another captured": "captured+",
    "another accepted": "accepted+",
    "another letter": "letter+",
    "forgotten": "captured",
    "told": "",
    "read again": "told",
}
#: Numbers that are drawn while one asks, at the most.
LOOKS = 12
TOPICS = {"captured": CAPTURED, "accepted": ACCEPTED, "letter": DEAD_LETTER}


@dataclass
class World:
    """The partition of one lead, and the places where one looks: before each look any number of steps happen."""

    steps: list[str]
    fate: str
    draw: Callable[[int, int], int]
    is_told: bool = True
    past: set[str] = field(default_factory=set)

    def go_on(self) -> None:
        for _ in range(self.draw(0, len(self.steps))):
            self.past.add(self.steps.pop(0))

    def reached(self, topic: str) -> int | None:
        if topic != CAPTURED:  # which is read in one moment with the entry
            self.go_on()
        if topic == ACCEPTED and not self.is_told:
            if "told" not in self.past:
                return None
            return int("accepted" in self.past and "read again" in self.past)
        return int(any(TOPICS.get(step) == topic for step in self.past))

    def seen(self) -> Seen | None:
        return SEEN if "seen" in self.past and "forgotten" not in self.past else None

    async def logs(self, *topics: str) -> Mapping[str, Log]:
        self.go_on()
        names = {topic: name for name, topic in TOPICS.items()}
        ends = {topic: len({f"{names[topic]}+", f"another {names[topic]}"} & self.past) for topic in topics}
        return {topic: Log(self.draw(0, int(names[topic] in self.past)), 0, end) for topic, end in ends.items()}

    def letters(self) -> Mapping[str, Letter]:
        self.go_on()
        return LETTERS[self.fate] if "remembered" in self.past else {}

    async def row(self) -> WrittenLead | None:
        self.go_on()
        return ROW if "row" in self.past else None


def with_others(life: list[str], others: list[str], draw: Callable[[int, int], int]) -> list[str]:
    """The steps of a life, and others anywhere in between where they can be."""
    steps = list(life)
    for other in others:
        after = OTHERS[other]
        steps.insert(draw(steps.index(after) + 1 if after in steps else 0, len(steps)), other)
    return steps


def now(coroutine: Coroutine[Any, Any, Evidence]) -> Evidence:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        found: Evidence = result.value
        return found
    raise AssertionError("it waits")


def never_wrong(
    fate: str, has_receipt: bool, dedupes: bool, others: list[str], draw: Callable[[int, int], int]
) -> None:
    """Ask once, at any moment of a life, and compare the answer with what was so then."""
    world = World(with_others(LIVES[fate], others, draw), fate, draw, is_told="told" not in others)
    world.go_on()
    while has_receipt and "captured+" not in world.past:
        world.past.add(world.steps.pop(0))  # a receipt is given after the broker has the lead
    past, was_over = set(world.past), not set(world.steps) & set(LIVES[fate])
    state = judge(now(gather(world, offset=0 if has_receipt else None, dedupes=dedupes)))
    if was_over:
        assert state == FINAL[fate]
    elif has_receipt:
        # Who has a receipt is never told that there is no such lead.
        assert state in (State.PENDING, FINAL[fate]) or (state == State.UNKNOWN and not world.is_told)
    elif past & ({"captured"} if dedupes else {"accepted+", "letter+"}):
        assert state in (State.PENDING, State.UNKNOWN, FINAL[fate])
    else:
        # Without a receipt a lead that `dedupe` has not passed cannot be told from one that does not exist.
        assert state in (State.PENDING, State.UNKNOWN, State.MISSING, FINAL[fate])


@settings(max_examples=1000, deadline=None)
@given(
    st.sampled_from(list(LIVES)),
    st.booleans(),
    st.booleans(),
    st.sets(st.sampled_from(list(OTHERS))).map(lambda some: [one for one in OTHERS if one in some]),
    st.data(),
)
def test_it_is_never_wrong_however_the_lead_moves_meanwhile(
    fate: str, has_receipt: bool, dedupes: bool, others: list[str], data: st.DataObject
) -> None:
    never_wrong(fate, has_receipt, dedupes, others, lambda low, high: data.draw(st.integers(low, high)))


@pytest.mark.parametrize("fate", LIVES)
def test_nor_when_it_moves_between_any_two_looks(fate: str) -> None:
    """Every case in which it stands still but once. It was wrong when the ends of both logs were read together."""
    for started, look, jump, receipt, dedupes in product(
        range(10), range(LOOKS), range(10), (True, False), (True, False)
    ):
        draws = iter([started, *[0] * look, jump])
        never_wrong(fate, receipt, dedupes, [], lambda low, high, draws=draws: min(next(draws, low), high))


def conflict(offset: int) -> dict[str, Letter]:
    return {CAPTURED: Letter(ID_CONFLICT, "leads", CAPTURED, 3, offset, 3, 0, 80)}


@pytest.mark.parametrize(
    "offset,seen,letters,this",
    [
        (5, Seen(5, 70, b"12345678"), {}, This.FIRST),
        (5, Seen(5, 70, b"12345678", 9, 2, 1), conflict(9), This.FIRST),
        (9, Seen(5, 70, b"12345678", 9, 2, 0), {}, This.REPEAT),
        (9, Seen(5, 70, b"12345678", 9, 1, 1), conflict(9), ID_CONFLICT),
        (9, Seen(5, 70, b"12345678", 9, 1, 1), {}, ID_CONFLICT),
        # The letter is read before the entry is.
        (9, Seen(5, 70, b"12345678"), conflict(9), ID_CONFLICT),
        (7, Seen(5, 70, b"12345678", 9, 1, 2), conflict(9), ID_CONFLICT),
        # One of the two was another lead, and the letter says that it was the other one.
        (7, Seen(5, 70, b"12345678", 9, 2, 1), conflict(9), This.REPEAT),
        (7, Seen(5, 70, b"12345678", 8, 2, 1), conflict(9), This.LATER),
        (7, Seen(5, 70, b"12345678", 9, 2, 2), conflict(9), This.LATER),
        (7, Seen(5, 70, b"12345678", 9, 2, 1), {}, This.LATER),
        # `dedupe` has not come to it.
        (9, Seen(5, 70, b"12345678"), {}, This.LATER),
        # Before the window, or not known at all.
        (3, Seen(5, 70, b"12345678"), {}, None),
        (3, None, {}, None),
        (5, None, of(CAPTURED, BUG), BUG),
    ],
)
def test_what_the_record_of_a_receipt_is(offset: int, seen: Seen | None, letters: dict[str, Letter], this: str) -> None:
    assert this_record(offset, seen, letters) == this


@given(st.lists(st.booleans(), min_size=1), st.data())
def test_what_is_said_of_it_is_so_whatever_came_under_the_id(repeats: list[bool], data: st.DataObject) -> None:
    """The entry counts up to one event, the table of letters is read up to another."""
    truth = [This.FIRST, *(This.REPEAT if is_repeat else ID_CONFLICT for is_repeat in repeats)]
    counted, read = (data.draw(st.integers(0, len(repeats))) for _ in "ab")
    seen = Seen(0, 70, b"12345678")
    for offset, is_repeat in enumerate(repeats[:counted], 1):
        seen = seen.counted(offset, is_repeat=is_repeat)
    conflicts = [offset for offset, what in enumerate(truth[: read + 1]) if what == ID_CONFLICT]
    letters = conflict(conflicts[-1]) if conflicts else {}
    for offset, what in enumerate(truth):
        said = this_record(offset, seen, letters)
        assert said == what or (said == This.LATER and offset > 0)
