"""Which captured leads are new (rule 5): pure, and the same as a naive model says."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dead_letters import ID_CONFLICT, INVALID, SPAM
from pipeline.dedupe import SUSPECT, Decision, Seen, decide
from tests.unit.engine import record

WINDOW_MS = 1000

Record = ConsumerRecord[bytes, bytes]


def captured(offset: int, message_id: str = "m-1", *, time_ms: int = 0, **members: Any) -> Record:
    """A captured lead as it stands in the log."""
    value = {"message_id": message_id, "tenant": "default", "email": "ada@example.com", **members}
    return record(offset, value=json.dumps(value).encode(), key=f"default/{message_id}".encode(), time_ms=time_ms)


def run(*records: Record, known: dict[bytes, bytes] | None = None) -> Decision:
    return decide(records, known or {}, window_ms=WINDOW_MS)


def learned(*records: Record) -> dict[bytes, bytes]:
    return run(*records).learned


def entry(table: dict[bytes, bytes], message_id: str = "m-1") -> Seen:
    return Seen.unpack(table[f"default/{message_id}".encode()])


def reasons(decision: Decision) -> list[tuple[int, str]]:
    return [(rejection.record.offset, rejection.reason) for rejection in decision.rejected]


def test_a_new_lead_is_forwarded_and_learned() -> None:
    decision = run(lead := captured(5, time_ms=70))
    assert decision.forward == [lead]
    seen = Seen.unpack(decision.learned[b"default/m-1"])
    assert (seen.offset, seen.time_ms, len(seen.digest)) == (5, 70, 8)


def test_a_repeat_is_dropped_and_counted_in_the_entry_of_the_first() -> None:
    before = learned(captured(5))
    decision = run(captured(6, time_ms=10), known=before)
    assert (decision.forward, decision.duplicates) == ([], 1)
    first = entry(before)
    assert entry(decision.learned) == first._replace(last_offset=6, times=2)


def test_an_event_is_counted_once_however_often_it_is_delivered() -> None:
    records = [captured(5), captured(6), captured(7, name="Grace"), captured(8)]
    after = run(*records)
    assert (entry(after.learned).times, entry(after.learned).conflicts) == (3, 1)
    for start in range(len(records)):
        assert run(*records[start:], known=after.learned).learned == after.learned


def test_a_repeat_within_the_batch_is_dropped() -> None:
    decision = run(captured(5), captured(6), captured(7))
    assert [one.offset for one in decision.forward] == [5]
    assert Seen.unpack(decision.learned[b"default/m-1"]).offset == 5
    assert decision.duplicates == 2


def test_the_same_offset_again_is_a_redelivery_and_forwarded_again() -> None:
    """The stock way, "set the key, then forward", drops it: the key is there, so it must be a duplicate."""
    first = run(captured(5, time_ms=1))
    again = run(captured(5, time_ms=1), known=first.learned)
    assert [one.offset for one in again.forward] == [5]
    assert again.learned == first.learned


def test_after_a_crash_the_repeats_in_the_batch_are_still_repeats() -> None:
    records = [captured(5), captured(6), captured(7, "m-2")]
    again = run(*records, known=learned(*records))
    assert [one.offset for one in again.forward] == [5, 7]
    assert again.duplicates == 1


def test_an_entry_from_a_bigger_offset_makes_nothing_a_duplicate() -> None:
    """The table ran ahead (another log, or a checkpoint set back): forwarding twice is safe, dropping is not."""
    decision = run(captured(5), known=learned(captured(9)))
    assert [one.offset for one in decision.forward] == [5]
    assert Seen.unpack(decision.learned[b"default/m-1"]).offset == 5


def test_other_content_under_the_same_id_is_a_conflict_and_never_dropped() -> None:
    decision = run(captured(6, name="Grace"), known=learned(captured(5, name="Ada")))
    assert reasons(decision) == [(6, ID_CONFLICT)]
    assert "offset 5" in decision.rejected[0].detail
    assert "Grace" not in decision.rejected[0].detail
    assert (decision.forward, decision.duplicates) == ([], 0)
    assert (entry(decision.learned).offset, entry(decision.learned).conflicts) == (5, 1)


def test_what_is_suspect_is_spam_and_burns_no_id() -> None:
    suspect = captured(5)
    suspect.headers = ((SUSPECT, b"honeypot"),)
    decision = run(suspect, lead := captured(6, email="eve@example.com"))
    assert (reasons(decision), decision.rejected[0].detail) == ([(5, SPAM)], "honeypot")
    assert decision.forward == [lead]
    assert entry(decision.learned).offset == 6


def test_other_headers_make_nothing_suspect() -> None:
    lead = captured(5)
    lead.headers = (("trace", b"1"), (SUSPECT, None), (SUSPECT, b""))
    assert run(lead).forward == [lead]


def test_a_conflict_within_the_batch() -> None:
    decision = run(captured(5, name="Ada"), captured(6, name="Grace"), captured(7, name="Ada"))
    assert [one.offset for one in decision.forward] == [5]
    assert reasons(decision) == [(6, ID_CONFLICT)]
    assert decision.duplicates == 1


def test_captured_at_and_the_order_of_members_are_not_content() -> None:
    first = captured(5, captured_at="2026-01-01T00:00:00Z", name="Ada", company="X")
    second = captured(6, company="X", name="Ada", captured_at="2026-02-02T00:00:00Z")
    assert run(second, known=learned(first)).duplicates == 1


@pytest.mark.parametrize("age_ms, forwarded", [(WINDOW_MS - 1, 0), (WINDOW_MS, 0), (WINDOW_MS + 1, 1)])
def test_the_edge_of_the_window(age_ms: int, forwarded: int) -> None:
    decision = run(captured(6, time_ms=50 + age_ms), known=learned(captured(5, time_ms=50)))
    assert len(decision.forward) == forwarded


def test_after_the_window_the_later_event_is_the_first_one() -> None:
    decision = run(captured(6, time_ms=5000), captured(7, time_ms=5001), known=learned(captured(5)))
    assert Seen.unpack(decision.learned[b"default/m-1"]).offset == 6
    assert decision.duplicates == 1


def test_after_the_window_other_content_is_no_conflict() -> None:
    decision = run(captured(6, time_ms=5000, name="Grace"), known=learned(captured(5, name="Ada")))
    assert len(decision.forward) == 1


def test_a_clock_of_the_broker_that_went_back_does_not_forget() -> None:
    decision = run(captured(6, time_ms=0), known=learned(captured(5, time_ms=9000)))
    assert decision.duplicates == 1


@pytest.mark.parametrize(
    "bad",
    [
        record(5, value=None, key=b"default/m-1"),
        record(5, value=b"not json \xff", key=b"default/m-1"),
        record(5, value=captured(0).value, key=None),
        record(5, value=captured(0).value, key=b"default/other"),
        record(5, value=captured(0).value, key=b"other/m-1"),
    ],
    ids=["no value", "no JSON", "no key", "another id's key", "another tenant's key"],
)
def test_what_is_no_lead_or_lies_under_another_key_is_invalid(bad: Record) -> None:
    decision = run(bad, captured(6))
    assert reasons(decision) == [(5, INVALID)]
    assert [one.offset for one in decision.forward] == [6]


def test_ids_are_unique_within_their_tenant_only() -> None:
    theirs = json.dumps({"message_id": "m-1", "tenant": "acme", "email": "a@example.com"}).encode()
    decision = run(captured(5), record(6, value=theirs, key=b"acme/m-1"))
    assert len(decision.forward) == 2


def test_an_entry_is_40_bytes() -> None:
    seen = Seen(2**62, 2**42, b"12345678", 2**62 + 1, 2**32 - 1, 7)
    assert len(seen.pack()) == 40
    assert Seen.unpack(seen.pack()) == seen
    assert seen.counted(2**62 + 2, is_repeat=True).times == 2**32 - 1


def test_an_entry_of_before_repeats_were_counted_can_still_be_read() -> None:
    assert Seen.unpack(struct.pack(">qq8s", 5, 70, b"12345678")) == Seen(5, 70, b"12345678")


EVENTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["Ada", "Grace"]), st.integers(0, 3 * WINDOW_MS // 2)),
    max_size=20,
)


def naive(records: list[Record]) -> dict[str, list[int]]:
    """One event after the other, with a dictionary of the first of each id."""
    first: dict[str, tuple[int, str]] = {}
    fate: dict[str, list[int]] = {"forward": [], "duplicate": [], "conflict": []}
    for one in records:
        lead = json.loads(one.value or b"")
        known = first.get(lead["message_id"])
        if known is None or one.timestamp - known[0] > WINDOW_MS:
            first[lead["message_id"]] = one.timestamp, lead["name"]
            fate["forward"].append(one.offset)
        else:
            fate["duplicate" if known[1] == lead["name"] else "conflict"].append(one.offset)
    return fate


def log_of(events: list[tuple[str, str, int]]) -> list[Record]:
    time_ms, records = 0, []
    for offset, (message_id, name, later_ms) in enumerate(events):
        time_ms += later_ms
        records.append(captured(offset, message_id, time_ms=time_ms, name=name))
    return records


@given(EVENTS, st.data())
def test_it_decides_as_the_naive_model_however_the_log_is_cut(
    events: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    records = log_of(events)
    table: dict[bytes, bytes] = {}
    forwarded, conflicts, duplicates, position = [], [], 0, 0
    while position < len(records):
        size = data.draw(st.integers(1, len(records) - position))
        decision = run(*records[position : position + size], known=table)
        table |= decision.learned
        forwarded += [one.offset for one in decision.forward]
        conflicts += [rejection.record.offset for rejection in decision.rejected]
        duplicates += decision.duplicates
        position += size
    model = naive(records)
    assert (forwarded, conflicts, duplicates) == (model["forward"], model["conflict"], len(model["duplicate"]))
    assert table == learned(*records)


@given(EVENTS, st.data())
def test_a_batch_that_the_table_knows_already_is_decided_as_the_first_time(
    events: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    """After a crash the table may know any prefix of the batch that is delivered again."""
    records = log_of(events)
    prefix = data.draw(st.integers(0, len(records)))
    again = run(*records, known=learned(*records[:prefix]))
    model = naive(records)
    assert [one.offset for one in again.forward] == model["forward"]
    assert [rejection.record.offset for rejection in again.rejected] == model["conflict"]
    assert again.learned == learned(*records)
