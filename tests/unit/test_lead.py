"""What a lead is, and that nothing else becomes one."""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.lead import (
    LEAD_SIZE_MAX_BYTES,
    NESTING_MAX_LEVELS,
    InvalidLead,
    Lead,
    LeadTooLarge,
    _complete,
    _completed,
    content_hash,
    decode,
    encode,
    key,
    parse,
)

MINIMAL = {"message_id": "m1", "email": "jane@example.com"}


def body(**members: Any) -> bytes:
    return json.dumps(MINIMAL | members).encode()


def refusal(given: Any) -> InvalidLead:
    with pytest.raises(InvalidLead) as failure:
        parse(given)
    return failure.value


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
ids = texts.filter(lambda text: text.isprintable() and text == text.strip() and "/" not in text and text.strip("."))
times = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
leads = st.fixed_dictionaries(
    {"message_id": ids, "email": texts.filter(lambda text: not text.isspace())},
    optional={
        "tenant": st.from_regex(r"\A[A-Za-z0-9_-]{1,64}\Z"),
        "phone": texts,
        "name": texts,
        "company": texts,
        "source": texts,
        "campaign": texts,
        "captured_at": times.map(datetime.isoformat),
        "fields": st.dictionaries(texts, values, max_size=4),
    },
)
members_unknown = st.dictionaries(texts.filter(lambda name: name not in Lead.__struct_fields__), values, max_size=3)


class TestProperties:
    @given(leads, members_unknown)
    def test_what_is_parsed_survives_the_topic(self, members: dict[str, Any], unknown: dict[str, Any]) -> None:
        unknown = {name: value for name, value in unknown.items() if name not in members.get("fields", {})}
        lead = parse(json.dumps(members | unknown).encode())
        assert decode(encode(lead)) == lead
        assert encode(decode(encode(lead))) == encode(lead)
        assert lead.fields == members.get("fields", {}) | unknown
        assert parse(members | unknown, message_id=lead.message_id).fields == lead.fields

    @given(leads, st.dictionaries(st.sampled_from(Lead.__struct_fields__) | texts, values | texts, max_size=3), times)
    def test_the_short_way_finds_the_same(self, members: dict[str, Any], more: dict[str, Any], time: datetime) -> None:
        given_bytes = json.dumps({"captured_at": time.isoformat()} | members | more).encode()
        lead = _complete(given_bytes)
        if lead is not None:
            assert encode(lead) == encode(_completed(given_bytes, None))
        elif not more:
            assert "captured_at" in members or refusal(given_bytes)

    @given(leads, st.randoms(use_true_random=False), times)
    def test_the_hash_does_not_see_order_or_time(self, members: dict[str, Any], random: Any, time: datetime) -> None:
        again = _shuffled(members, random) | {"captured_at": time.isoformat()}
        assert content_hash(parse(members)) == content_hash(parse(json.dumps(again).encode()))

    @given(leads, st.sampled_from(["email", "phone", "name", "company", "source", "campaign", "message_id"]))
    def test_the_hash_sees_every_other_member(self, members: dict[str, Any], name: str) -> None:
        other = members | {name: members.get(name, "") + "x"}
        assert content_hash(parse(members)) != content_hash(parse(other))

    @given(st.binary(max_size=200))
    @example(b"")
    @example(b"null")
    @example(b"\xef\xbb\xbf{}")
    @example(b'{"message_id":"a","email":"\xed\xa0\x80"}')
    @example(b'{"message_id":"a","email":"\\ud800"}')
    @example(b'{"message_id":"a","email":"e","n":' + b"9" * 5000 + b"}")
    @example(b'{"message_id":"a","email":"e","n":' + b"[" * 30_000)
    @example(b'{"message_id":"a","email":"e","n":' + b"[" * 30_000 + b"]" * 30_000 + b"}")
    @example(b'{"message_id":"a","email":"e","n":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}")
    def test_bytes_are_a_lead_or_an_invalid_lead(self, given_bytes: bytes) -> None:
        check_either(given_bytes)

    @given(st.dictionaries(st.sampled_from(Lead.__struct_fields__) | texts, values | texts, max_size=6))
    def test_objects_are_a_lead_or_an_invalid_lead(self, members: dict[str, Any]) -> None:
        check_either(json.dumps(members).encode())


def check_either(given_bytes: bytes) -> None:
    for call in (parse, decode):
        try:
            lead = call(given_bytes)
        except InvalidLead as failure:
            assert failure.reason  # noqa: PT017
        else:
            assert decode(encode(lead)) == lead
            assert len(content_hash(lead)) == 8


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: _shuffled(value[name], random) for name in names}
    return [_shuffled(item, random) for item in value] if isinstance(value, list) else value


class TestParse:
    def test_what_is_missing_is_made(self) -> None:
        before = datetime.now(UTC)
        lead = parse(b'{"email":"jane@example.com"}')
        assert uuid.UUID(lead.message_id).version == 7
        assert lead.tenant == "default"
        assert lead.captured_at is not None
        assert before <= lead.captured_at <= datetime.now(UTC)

    def test_the_id_beside_the_lead(self) -> None:
        assert parse(b'{"phone":"1"}', message_id="beside").message_id == "beside"
        assert parse(body(), message_id="m1").message_id == "m1"
        with pytest.raises(InvalidLead, match="Idempotency-Key") as failure:
            parse(body(), message_id="m2")
        assert failure.value.field == "message_id"

    @pytest.mark.parametrize("beside", ["", " a", "a/b", "a\nb", "x" * 129, "\udcff"])
    def test_a_bad_id_beside_the_lead(self, beside: str) -> None:
        with pytest.raises(InvalidLead) as failure:
            parse(b'{"phone":"1"}', message_id=beside)
        assert failure.value.field == "message_id"

    def test_unknown_names_go_into_fields(self) -> None:
        lead = parse(body(utm="x", score=5, fields={"page": "/"}))
        assert lead.fields == {"utm": "x", "score": 5, "page": "/"}

    def test_a_name_given_twice_is_refused_and_not_overwritten(self) -> None:
        failure = refusal(body(utm="top", fields={"utm": "nested"}))
        assert failure.field == "fields.utm"
        assert "top" not in failure.reason.replace("at the top", "")

    def test_empty_and_null_are_not_there(self) -> None:
        lead = parse(body(phone="", name=None, company="", captured_at=None, fields=None, other=None))
        assert (lead.phone, lead.name, lead.company, lead.fields) == (None, None, None, {"other": None})
        assert json.loads(encode(parse(body(name="")))).keys() == {"message_id", "tenant", "email", "captured_at"}

    @pytest.mark.parametrize(
        "members,field",
        [
            ({"email": None}, "email"),
            ({"email": "", "phone": ""}, "email"),
            ({"email": "  "}, "email"),
            ({"email": 5}, "email"),
            ({"email": ["a"]}, "email"),
            ({"email": "x" * 321}, "email"),
            ({"phone": "x" * 65}, "phone"),
            ({"name": "x" * 513}, "name"),
            ({"message_id": ""}, "message_id"),
            ({"message_id": 7}, "message_id"),
            ({"message_id": "x" * 129}, "message_id"),
            ({"message_id": "a/b"}, "message_id"),
            ({"message_id": "a\x7fb"}, "message_id"),
            ({"message_id": "a\u2028b"}, "message_id"),
            ({"message_id": " a"}, "message_id"),
            ({"message_id": ".."}, "message_id"),
            ({"tenant": ""}, "tenant"),
            ({"tenant": None}, "tenant"),
            ({"tenant": "a/b"}, "tenant"),
            ({"tenant": "a\n"}, "tenant"),
            ({"tenant": "x" * 65}, "tenant"),
            ({"tenant": "."}, "tenant"),
            ({"captured_at": ""}, "captured_at"),
            ({"captured_at": "yesterday"}, "captured_at"),
            ({"captured_at": "2026-01-31T12:00:00"}, "captured_at"),
            ({"captured_at": 1_700_000_000}, "captured_at"),
            ({"captured_at": "0001-01-01T00:00:00+14:00"}, "captured_at"),
            ({"fields": []}, "fields"),
            ({"fields": [], "other": 1}, "fields"),
            ({"name": "a\0b"}, "name"),
            ({"fields": {"a": [{"b": "\0"}]}}, "fields"),
            ({"fields": {"a": [{"\0": 1}]}}, "fields"),
            ({"other\0": 1}, "fields"),
        ],
    )
    def test_what_is_refused_is_named(self, members: dict[str, Any], field: str) -> None:
        assert refusal(body(**members)).field == field
        assert refusal(MINIMAL | members).field in (field, None)

    def test_an_escaped_backslash_is_no_nul(self) -> None:
        assert decode(b'{"message_id":"m","email":"e","name":"\\\\u0000"}').name == "\\u0000"

    @pytest.mark.parametrize("given", [b"1e999", b"NaN", b"Infinity", b"-Infinity", b'"\\ud800"', b'"\\udc00x"', b"01"])
    def test_what_is_no_json_value(self, given: bytes) -> None:
        refusal(b'{"email":"e","n":' + given + b"}")

    @pytest.mark.parametrize(
        "value",
        [float("nan"), float("inf"), "\ud800", object(), {"\ud800": 1}, [10**5000], "\0", (1, [float("nan")])],
        ids=range(8),
    )
    def test_what_no_json_can_express(self, value: Any) -> None:
        refusal(MINIMAL | {"other": value})

    def test_a_cycle(self) -> None:
        cycle: list[Any] = []
        cycle.append(cycle)
        refusal(MINIMAL | {"other": cycle})

    def test_nesting(self) -> None:
        for levels, allowed in ((NESTING_MAX_LEVELS - 1, True), (NESTING_MAX_LEVELS, False)):
            given = b'{"message_id":"m","email":"e","fields":{"a":' + b"[" * levels + b"]" * levels + b"}}"
            for call in (parse, decode):
                if allowed:
                    assert content_hash(call(given))
                else:
                    with pytest.raises(InvalidLead, match="nested"):
                        call(given)

    def test_every_depth_around_the_recursion_limit(self) -> None:
        for levels in range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 20):
            refusal(b'{"message_id":"m","email":"e","a":' + b"[" * levels + b"]" * levels + b"}")

    def test_no_value_of_a_field_is_in_an_error(self) -> None:
        secret = "s3cret"
        for members in ({"email": [secret]}, {"tenant": f"{secret}/"}, {"captured_at": secret}, {"name": secret * 200}):
            failure = refusal(body(**members))
            assert secret not in f"{failure} {failure.reason} {failure.__cause__}"


class TestSize:
    def test_the_largest(self) -> None:
        room = LEAD_SIZE_MAX_BYTES - len(encode(parse(body(other="", captured_at="2026-01-31T12:00:00Z"))))
        lead = parse(body(other="x" * room, captured_at="2026-01-31T12:00:00Z"))
        assert len(encode(lead)) == LEAD_SIZE_MAX_BYTES
        assert decode(encode(lead)) == lead
        with pytest.raises(LeadTooLarge):
            parse(MINIMAL | {"other": "x" * (room + 1), "captured_at": "2026-01-31T12:00:00Z"})

    def test_what_grows_when_it_is_encoded_is_refused_before_it_is_accepted(self) -> None:
        given = b'{"message_id":"m","email":"e","n":[' + b",".join([b"1e15"] * 10_000) + b"]}"
        assert len(given) < LEAD_SIZE_MAX_BYTES
        with pytest.raises(LeadTooLarge):
            parse(given)

    def test_both_ways_in_are_bounded(self) -> None:
        for call in (parse, decode):
            with pytest.raises(LeadTooLarge):
                call(b" " * LEAD_SIZE_MAX_BYTES + body())


class TestRecord:
    def test_key(self) -> None:
        assert key(parse(body(tenant="acme", message_id="é 1"))) == "acme/é 1".encode()

    def test_the_hash_is_stable(self) -> None:
        # Tables keep hashes for the length of the window: another value here makes conflicts of all duplicates.
        lead = parse(body(tenant="acme", name="Jané", score=1.5, fields={"b": 1, "a": [None, True]}))
        content = (
            '{"message_id":"m1","tenant":"acme","email":"jane@example.com","name":"Jané",'
            '"fields":{"a":[null,true],"b":1,"score":1.5}}'
        )
        assert content_hash(lead) == blake2b(content.encode(), digest_size=8).digest()
        assert content_hash(lead).hex() == "df69ee9be686cb6b"

    def test_the_hash_does_not_see_which_way_an_empty_member_was_given(self) -> None:
        assert content_hash(parse(body(name="", fields={}))) == content_hash(parse(body()))

    def test_a_record_of_somebody_else(self) -> None:
        lead = decode(b'{"message_id":"m","phone":"1","email":"","utm":"x"}')
        assert (lead.email, lead.fields, lead.captured_at) == (None, {"utm": "x"}, None)

    @pytest.mark.parametrize("value", [None, b"", b'{"email":"e"}', b'{"email":"e","message_id":null}'])
    def test_a_record_that_is_no_lead(self, value: bytes | None) -> None:
        with pytest.raises(InvalidLead):
            decode(value)


@pytest.mark.parametrize(
    "body, words",
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"email":"a"', "is not complete"),
        (b'{"name":"\\ud83d', "is not complete"),
        (b'{"email":"a","name":"\\ud800"}', "half of a surrogate pair"),
        (b'{"email":"a","name":"\\uD83D\\uDE00 \\ud800"}', "half of a surrogate pair"),
    ],
)
def test_what_is_called_truncated_is_told_apart(body: bytes, words: str) -> None:
    with pytest.raises(InvalidLead, match=words):
        parse(body)
