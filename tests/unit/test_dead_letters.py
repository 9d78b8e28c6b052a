"""What is remembered of dead letters: why a lead is there, whatever else is in the topic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters import ID_CONFLICT, INVALID, REJECTED, Letter, dead_letter, letter_of, pack, remember, unpack
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER
from tests.unit.engine import record

KEY = b"default/m-1"


def letter(offset: int, *, topic: str = ACCEPTED, reason: str = REJECTED, group: str = "leads", key: Any = KEY) -> Any:
    """A record of lead-dead-letter."""
    origin = record(offset + 100, value=b"the lead itself", key=key, topic=topic)
    name, value, headers = dead_letter(origin, group=group, reason=reason, detail="of the lead")
    return record(offset, value=value, key=name, topic=DEAD_LETTER, headers=headers, time_ms=offset * 10)


def run(*records: Any, known: dict[bytes, bytes] | None = None) -> dict[bytes, dict[str, Letter]]:
    learned = remember(records, known or {}, group="leads", common_topic=CAPTURED)
    return {key: unpack(value) for key, value in learned.items()}


def test_a_letter_is_remembered_with_its_reason_origin_and_place() -> None:
    assert run(letter(7)) == {KEY: {ACCEPTED: Letter(REJECTED, "leads", ACCEPTED, 0, 107, 0, 7, 70)}}


def test_nothing_of_the_lead_is_remembered() -> None:
    (value,) = remember([letter(7)], {}, group="leads", common_topic=CAPTURED).values()
    assert b"lead itself" not in value
    assert b"of the lead" not in value


def test_the_last_letter_of_each_topic_stays() -> None:
    first = remember([letter(1), letter(2, topic=CAPTURED, reason=INVALID)], {}, group="leads", common_topic=CAPTURED)
    found = run(letter(3, topic=CAPTURED, reason=ID_CONFLICT), known=first)[KEY]
    assert [(topic, one.letter_offset) for topic, one in found.items()] == [(ACCEPTED, 1), (CAPTURED, 3)]


def test_what_another_crm_refuses_says_nothing_of_this_one() -> None:
    assert run(letter(1, group="leads-crm2")) == {}
    assert run(letter(1, group="leads-crm2", topic=CAPTURED)).keys() == {KEY}


def test_the_same_letters_again_change_nothing() -> None:
    letters = [letter(1), letter(2, topic=CAPTURED, reason=INVALID)]
    once = remember(letters, {}, group="leads", common_topic=CAPTURED)
    assert remember(letters, once, group="leads", common_topic=CAPTURED) == once


@pytest.mark.parametrize(
    "key", [None, b"no name", b"\xff/x", b"default/" + b"x" * 2000], ids=["none", "no tenant", "not UTF-8", "too long"]
)
def test_a_letter_without_a_name_is_passed_over(key: Any) -> None:
    assert run(letter(1, key=key), letter(2)).keys() == {KEY}


@pytest.mark.parametrize("offset", [b"-1", b"9223372036854775808", b"1" * 5000])
def test_an_offset_that_kafka_does_not_have_is_of_no_letter(offset: bytes) -> None:
    one = letter(1)
    headers = [(name, offset if name == "offset" else value) for name, value in one.headers]
    assert run(replace(one, headers=headers)) == {}


@pytest.mark.parametrize("name", ["reason", "group", "topic"])
def test_a_text_that_is_longer_than_any_of_ours_is_of_no_letter(name: str) -> None:
    one = letter(1)
    longer = [(each, b"x" * 256 if each == name else value) for each, value in one.headers]
    assert letter_of(replace(one, headers=longer)) is None


_texts = st.one_of(st.sampled_from([b"leads", CAPTURED.encode(), ACCEPTED.encode()]), st.binary(max_size=400))
_numbers = st.one_of(st.integers().map(lambda number: b"%d" % number), st.binary(max_size=30))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"reason": _texts, "group": _texts, "topic": _texts} | {"partition": _numbers, "offset": _numbers}
        ),
        max_size=5,
    )
)
def test_what_is_remembered_can_be_read_again_and_is_short(letters: list[dict[str, bytes]]) -> None:
    """Whatever the headers are: an entry that cannot be packed would end the worker, again after every restart."""
    records = [record(n, key=KEY, headers=headers.items(), topic=DEAD_LETTER) for n, headers in enumerate(letters)]
    for found in filter(None, map(letter_of, records)):
        value = pack({found.topic: found})
        assert unpack(value) == {found.topic: found}
        assert len(value) < 1100
    run(*records)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.binary(max_size=20)),
            st.lists(st.tuples(st.sampled_from(["reason", "group", "topic", "partition", "offset"]), st.binary())),
        )
    )
)
def test_whatever_stands_in_the_topic_raises_nothing(records: list[tuple[Any, Any]]) -> None:
    """A dead letter that makes the code raise would be dead-lettered, and read again."""
    run(*(record(n, value=None, key=key, headers=headers) for n, (key, headers) in enumerate(records)))
