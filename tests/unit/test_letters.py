"""Dead letters from outside: what they say, which are meant, how they are shown, and which can be replayed (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters import BUG, ID_CONFLICT, INVALID, REJECTED, dead_letter, traceback_text
from pipeline.letters.filters import Filters, moment_ms
from pipeline.letters.found import DeadLetter, Recent, found
from pipeline.letters.originals import Original
from pipeline.letters.output import CannotPrint, Output
from pipeline.letters.reading import Reading
from pipeline.letters.replay import Outcome, Replay, original, why_not
from pipeline.letters.shown import as_json, in_full, in_full_as_json, line
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER
from tests.unit.engine import record

KEY = b"default/m-1"
VALUE = b'{"message_id":"m-1","tenant":"default","email":"ada@example.com"}'
NOW_S = 1_800_000_000.0


def appended(
    offset: int = 7,
    *,
    topic: str = ACCEPTED,
    reason: str = REJECTED,
    group: str = "leads",
    key: bytes | None = KEY,
    value: bytes | None = VALUE,
    headers: Any = (),
    detail: str = "SQLITE_CONSTRAINT_TRIGGER",
    origin: int = 107,
    partition: int = 3,
    time_ms: int = 1_700_000_000_123,
) -> Any:
    """A record of lead-dead-letter."""
    of = record(origin, value=value, key=key, topic=topic, partition=partition, headers=headers)
    key, value, written = dead_letter(of, group=group, reason=reason, detail=detail)
    return record(
        offset, value=value, key=key, topic=DEAD_LETTER, partition=partition, headers=written, time_ms=time_ms
    )


def letter(**members: Any) -> DeadLetter:
    """What is found in such a record."""
    one = found(appended(**members))
    assert one is not None
    return one


def test_a_letter_has_the_record_as_it_was_and_why_it_is_there() -> None:
    headers = [("source", b"web"), ("reason", b"mine"), ("original-x", b"\xff"), ("none", None)]
    one = letter(headers=headers)
    assert (one.key, one.value, one.detail) == (KEY, VALUE, "SQLITE_CONSTRAINT_TRIGGER")
    assert list(one.headers) == headers
    assert (one.letter.reason, one.letter.topic, one.letter.partition, one.letter.offset) == (
        REJECTED,
        ACCEPTED,
        3,
        107,
    )
    assert (one.letter.letter_partition, one.letter.letter_offset, one.letter.time_ms) == (3, 7, 1_700_000_000_123)


@pytest.mark.parametrize("missing", ["reason", "group", "topic", "partition", "offset"])
def test_what_lacks_a_header_is_no_letter_of_ours(missing: str) -> None:
    one = appended()
    assert found(replace(one, headers=[h for h in one.headers if h[0] != missing])) is None


@given(
    st.one_of(st.none(), st.binary(max_size=20)),
    st.one_of(st.none(), st.binary(max_size=200)),
    st.lists(
        st.tuples(
            st.sampled_from(["reason", "detail", "group", "topic", "partition", "offset", "original-", "x"]),
            st.one_of(st.none(), st.binary(max_size=20), st.integers().map(lambda n: b"%d" % n)),
        )
    ),
    st.integers(-(2**63), 2**63 - 1),
)
def test_whatever_stands_in_the_topic_can_be_shown(key: Any, value: Any, headers: Any, time_ms: int) -> None:
    one = appended(key=key, value=value)
    one = found(replace(one, headers=[*headers, *one.headers], timestamp=time_ms))
    if one is not None:
        assert line(one).isprintable()
        json.dumps([as_json(one), in_full_as_json(one)])
        assert all(row.isprintable() for row in in_full(one).split("\n"))
        why_not(one, partitions=8)
        assert len(one.identity) == 16


@pytest.mark.parametrize(
    "key, name",
    [
        (KEY, ("default", "m-1")),
        (b"acme/a b", ("acme", "a b")),
        (None, None),
        (b"ada@example.com", None),
        (b"ada@example.com/x", None),
        (b"a/b/c", None),
        (b"/leads/a/b", None),
        (b"http://a/leads/b/c", None),
        (b"\xff/x", None),
        (b"a/", None),
    ],
)
def test_only_a_name_is_shown_as_one(key: bytes | None, name: Any) -> None:
    one = letter(key=key)
    assert one.name == name
    assert "ada@" not in line(one)
    assert (as_json(one)["tenant"], as_json(one)["message_id"]) == (name or (None, None))


def test_the_same_letter_again_has_the_same_identity_and_every_other_another() -> None:
    ones = [letter(), letter(group="crm2"), letter(topic=CAPTURED), letter(partition=4), letter(origin=108)]
    assert len({one.identity for one in ones}) == len(ones)
    assert letter(offset=99, time_ms=5).identity == letter().identity


def test_what_was_met_is_remembered_within_a_limit() -> None:
    recent = Recent(2)
    assert [recent.meets(name) for name in (b"a", b"b", b"a", b"c", b"c", b"b", b"a")] == [
        False, False, True, False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "filters, matches",
    [
        (Filters(), True),
        (Filters(reasons=frozenset([INVALID, REJECTED])), True),
        (Filters(reasons=frozenset([INVALID])), False),
        (Filters(tenant="default"), True),
        (Filters(tenant="defaul"), False),
        (Filters(key=KEY), True),
        (Filters(key=b"default/m-2"), False),
        (Filters(group="leads"), True),
        (Filters(group="leads-crm2"), False),
        (Filters(since_ms=1_700_000_000_123), True),
        (Filters(since_ms=1_700_000_000_124), False),
        (Filters(until_ms=1_700_000_000_124), True),
        (Filters(until_ms=1_700_000_000_123), False),
        (Filters(tenant="default", group="leads-crm2"), False),
    ],
)
def test_filters(filters: Filters, matches: bool) -> None:
    assert filters.match(letter()) is matches
    assert filters.is_empty is (filters == Filters())


def test_a_letter_without_a_name_is_of_no_tenant() -> None:
    assert not Filters(tenant="default").match(letter(key=None))
    assert not Filters(key=KEY).match(letter(key=None))


@pytest.mark.parametrize(
    "text, at_s",
    [
        ("2h", NOW_S - 7200),
        ("1.5 d", NOW_S - 129_600),
        ("2026-11-24T08:55:02Z", 1_795_510_502),
        ("2026-11-24T09:55:02+01:00", 1_795_510_502),
        ("2026-11-24 08:55:02", 1_795_510_502),
        ("2026-11-24", 1_795_478_400),
    ],
)
def test_moments(text: str, at_s: float) -> None:
    assert moment_ms(text, NOW_S) == at_s * 1000


@pytest.mark.parametrize("text", ["", "yesterday", "2h ago", "2026-13-01", "-2h", "25:00", "0001-01-01T00:00+23:00x"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        moment_ms(text, NOW_S)


def test_a_line_says_when_why_whose_and_where_and_nothing_of_the_lead() -> None:
    said = line(letter())
    for word in ("2023-11-14 22:13:20", REJECTED, "default/m-1", "3 7", "lead-accepted 3 107", "SQLITE_CONSTRAINT"):
        assert word in said
    assert "ada" not in said
    assert as_json(letter()) == {
        "time": "2023-11-14T22:13:20.123Z",
        "reason": "rejected",
        "tenant": "default",
        "message_id": "m-1",
        "group": "leads",
        "origin": {"topic": "lead-accepted", "partition": 3, "offset": 107},
        "letter": {"partition": 3, "offset": 7},
        "detail": "SQLITE_CONSTRAINT_TRIGGER",
    }


def test_of_a_bug_only_the_place_is_told_in_a_line() -> None:
    """The text of an exception may hold what it was about."""
    try:
        int("ada@example.com")
    except ValueError as error:
        text = traceback_text(error)
    one = letter(reason=BUG, detail=text)
    assert "test_letters.py" in line(one)
    assert "ada@" not in line(one) + str(as_json(one))
    assert "ada@example.com" in in_full(one)
    assert letter(reason=BUG, detail="ada@example.com").detail not in line(letter(reason=BUG, detail="ada@example.com"))


def test_in_full_json_is_laid_out_and_nothing_of_it_is_lost() -> None:
    said = in_full(letter(value=b'{"a":1.00000000000000000001,"a":2,"name":"Ad\xc3\xa9"}'))
    assert '{\n  "a": 1.00000000000000000001,\n  "a": 2,\n  "name": "Adé"\n}' in said


HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp\x7f\r\b"


@pytest.mark.parametrize(
    "value", [HOSTILE.encode(), HOSTILE.encode() + b"\xff", ('"' + "\x7f\x9b\u202e" + '"').encode(), None, b""]
)
def test_nothing_drives_a_terminal(value: bytes | None) -> None:
    one = letter(
        value=value, key=HOSTILE.encode(), headers=[(HOSTILE, HOSTILE.encode())], detail=HOSTILE, group=HOSTILE
    )
    text = "\n".join([line(one), in_full(one), json.dumps(as_json(one)), json.dumps(in_full_as_json(one))])
    assert all(row.isprintable() for row in text.split("\n"))


def test_json_in_full_keeps_every_byte() -> None:
    one = letter(value=b"\xff\x00", headers=[("a", b"x"), ("b", None)])
    shown = in_full_as_json(one)
    assert shown["value"] == {"base64": "/wA="}
    assert shown["key"] == "default/m-1"
    assert shown["headers"] == [["a", "x"], ["b", None]]
    assert shown["reason"] == "rejected"


@pytest.mark.parametrize(
    "members, why",
    [
        ({}, None),
        ({"topic": CAPTURED, "reason": BUG}, None),
        ({"topic": CAPTURED, "reason": INVALID}, None),
        ({"topic": CAPTURED, "reason": ID_CONFLICT}, "first"),
        ({"value": b"no lead"}, "no lead"),
        ({"value": None}, "no lead"),
        ({"key": b"default/m-2"}, "key"),
        ({"key": None}, "key"),
        ({"partition": 8}, "partition"),
        ({"topic": DEAD_LETTER, "reason": BUG}, "about"),
        ({"topic": "elsewhere"}, "topic"),
    ],
)
def test_what_a_replay_can_help(members: dict[str, Any], why: str | None) -> None:
    said = why_not(letter(**members), partitions=8)
    assert said is None if why is None else said is not None and why in said


def test_what_is_replayed_is_the_original_and_nothing_of_the_letter() -> None:
    headers = [("source", b"web"), ("reason", b"mine")]
    assert original(letter(headers=headers)) == (3, KEY, VALUE, headers)


class Sent:
    """Takes batches as the broker would."""

    def __init__(self) -> None:
        self.batches: list[list[bytes | None]] = []

    async def append(self, records: Sequence[Original]) -> None:
        self.batches.append([one.key for one in records])


def named(number: int, **members: Any) -> DeadLetter:
    """The letter of a lead of its own."""
    lead = {"message_id": f"m-{number}", "tenant": "default", "email": "a@b.c"}
    return letter(key=b"default/m-%d" % number, value=json.dumps(lead).encode(), origin=number, **members)


async def replayed(letters: Iterable[DeadLetter], *, group: str | None = "leads") -> tuple[Sent, Outcome, list[Any]]:
    """What a replay of these sends, counts and tells."""
    sent, outcome, told = Sent(), Outcome(), list[Any]()
    replay = Replay(outcome, sent.append, partitions=8, group=group, told=lambda one, why: told.append((one.key, why)))
    for one in letters:
        await replay.take(one)
    await replay.flush()
    return sent, outcome, told


async def test_a_replay_sends_in_batches_in_order() -> None:
    sent, _, told = await replayed(map(named, range(1100)))
    assert [len(batch) for batch in sent.batches] == [500, 500, 100]
    assert [key for batch in sent.batches for key in batch] == [b"default/m-%d" % n for n in range(1100)]
    assert [key for key, _ in told] == [b"default/m-%d" % n for n in range(1100)]


async def test_a_batch_of_large_leads_is_smaller() -> None:
    large = [replace(named(n), value=named(n).value + b" " * 60_000) for n in range(40)]
    sent, _, _ = await replayed(large)
    assert max(map(len, sent.batches)) == 18


async def test_a_lead_is_sent_once_however_many_letters_it_has() -> None:
    sent, outcome, _ = await replayed([named(1), replace(named(1), letter=named(2).letter), named(2)])
    assert sent.batches == [[b"default/m-1", b"default/m-2"]]
    assert outcome.repeats == 1


async def test_what_does_not_concern_the_group_is_left_alone() -> None:
    letters = [named(1, group="crm2"), named(2, group="front", topic=CAPTURED), named(3)]
    sent, outcome, _ = await replayed(letters)
    assert (sent.batches, outcome.others) == ([[b"default/m-2", b"default/m-3"]], 1)
    sent, outcome, _ = await replayed(letters, group=None)
    assert ([len(batch) for batch in sent.batches], outcome.others) == ([3], 0)


async def test_the_counts_in_words() -> None:
    _, outcome, told = await replayed([named(1, reason=ID_CONFLICT), letter(key=None), named(3, group="crm2")])
    outcome.sent = 1_000
    assert [key for key, _ in told] == [b"default/m-1", None]
    assert outcome.lines("sent") == [
        "1,000 leads sent; 2 letters skipped.",
        "Skipped: 1 id-conflict: the first lead with this id stays.",
        "Skipped: 1 its key is not tenant/message_id.",
        "Left alone: 1 letter of other groups (see --group).",
    ]


def test_rows_are_printed_many_at_once_and_also_when_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[str] = []
    monkeypatch.setattr(click, "echo", printed.append)
    with suppress(KeyboardInterrupt), Output(Reading(Filters(), patience_s=1.0), 3, "head") as output:
        for text in ("a", "", "b"):
            output.print(text)
        assert printed == []
        output.moved(2)
        assert printed == ["head\na\nb"]
        output.print("c")
        raise KeyboardInterrupt
    assert printed == ["head\na\nb", "c"]


def test_nobody_who_takes_what_is_printed_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(click, "echo", full)
    output = Output(Reading(Filters(), patience_s=1.0), 3)
    with pytest.raises(CannotPrint), output:
        output.print("a")
    with suppress(KeyError), output:  # and not CannotPrint
        output.print("a")
        raise KeyError
