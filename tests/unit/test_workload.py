"""The leads of a benchmark: the same for the same seed, of the right size, with the right share of repeats."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

from pipeline.lab.workload import Workload
from pipeline.lead import decode, key

SMALL = Workload(seed=1, count=5_000)


def test_the_same_seed_gives_the_same_leads() -> None:
    assert list(SMALL.records()) == list(Workload(1, 5_000).records())


def test_another_seed_gives_other_leads() -> None:
    assert not set(SMALL.keys()) & set(Workload(2, 5_000).keys())


def test_a_longer_run_begins_with_the_leads_of_a_shorter_one() -> None:
    assert list(islice(Workload(1, 6_000).records(), 5_000)) == list(SMALL.records())


def test_every_record_is_a_lead_under_its_own_key() -> None:
    for name, value in SMALL.records():
        assert key(decode(value)) == name


def test_a_lead_has_about_414_bytes() -> None:
    sizes = [len(value) for _, value in SMALL.records()]
    assert 404 < sum(sizes) / len(sizes) < 424


def test_a_tenth_of_the_records_repeat_an_earlier_one_byte_by_byte() -> None:
    first: dict[bytes, bytes] = {}
    repeats = 0
    for name, value in SMALL.records():
        repeats += name in first
        assert first.setdefault(name, value) == value
    assert 0.08 < repeats / SMALL.count < 0.12
    assert len(first) == SMALL.unique == SMALL.count - repeats


def test_the_keys_are_those_of_the_records_each_once() -> None:
    keys = list(SMALL.keys())
    assert len(keys) == SMALL.unique
    assert set(keys) == {name for name, _ in SMALL.records()}


def test_later_leads_are_none_of_those_before() -> None:
    later = Workload(1, 2_000, first=SMALL.unique)
    assert set(later.keys()) == {name for name, _ in later.records()} == {name for name, _ in later.unique_records()}
    assert not set(later.keys()) & set(SMALL.keys())
    assert min(later.keys()) > max(SMALL.keys())
    assert later.key(SMALL.unique) == next(later.keys())


def test_an_empty_workload_has_no_leads() -> None:
    assert Workload(1, 0).unique == 0
    assert list(Workload(1, 0).records()) == []


def test_an_output_with_each_lead_once_has_no_flaws() -> None:
    assert SMALL.flaws(list(SMALL.keys())[::-1]) == ""


def test_lost_repeated_and_unknown_leads_are_flaws() -> None:
    keys: list[bytes | None] = [*SMALL.keys()]
    assert SMALL.flaws(keys[3:]) == "3 leads lost"
    assert SMALL.flaws(keys + keys[:2]) == "2 leads repeated"
    assert SMALL.flaws([*keys, None, b"default/x"]) == "2 leads unknown"
    assert SMALL.flaws([*keys[1:], b"default/x", b"default/x"]) == "1 leads lost, 1 leads repeated, 1 leads unknown"


def test_ids_are_ordered_by_time_or_random() -> None:
    ordered = [SMALL.message_id(number) for number in range(100)]
    assert ordered == sorted(ordered)
    mixed = [Workload(1, 5_000, random_ids=True).message_id(number) for number in range(100)]
    assert mixed != sorted(mixed)
    assert {UUID(one).version for one in ordered} == {7}
    assert {UUID(one).version for one in mixed} == {4}
