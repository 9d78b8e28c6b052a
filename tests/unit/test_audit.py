"""What became of every record (pure): against a model that simulates the pipeline, and planted anomalies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit.books import OTHER, Books
from pipeline.audit.judgement import Judged, Verdict, judge
from pipeline.audit.names import KEY_SIZE_BYTES, NAME_SIZE_BYTES, Names
from pipeline.audit.outcome import Outcome, tally
from pipeline.audit.store import Sieve, Store
from pipeline.dead_letters import BUG, ID_CONFLICT, INVALID, REJECTED, Letter
from pipeline.dedupe import decide
from pipeline.lead import InvalidLead, decode
from pipeline.topics import ACCEPTED, CAPTURED
from tests.unit.engine import record

PARTITIONS = 2
WINDOW_MS = 1000.0
SALT = b"salt"


def value(message_id: str, version: int = 0, **members: Any) -> bytes:
    return json.dumps({"message_id": message_id, "tenant": "t", "phone": "1", "n": version, **members}).encode()


def captured(offset: int, message_id: str = "a", version: int = 0, *, partition: int = 0, **members: Any) -> Any:
    """A record of lead-captured."""
    return record(
        offset, key=f"t/{message_id}".encode(), value=value(message_id, version, **members), partition=partition
    )


def columns(message_id: str, version: int = 0) -> tuple[Any, ...]:
    """A row as the CRM has it."""
    return ("t", message_id, None, "1", None, None, None, None, json.dumps({"n": version}))


def row_of(one: Any) -> tuple[Any, ...]:
    """The row that the sink makes of a record."""
    lead = decode(one.value)
    texts = (lead.email, lead.phone, lead.name, lead.company, lead.source, lead.campaign)
    return (lead.tenant, lead.message_id, *texts, json.dumps(lead.fields))


def letter(one: Any, reason: str, *, topic: str = CAPTURED, group: str = "leads", offset: int | None = None) -> Any:
    place = one.partition, one.offset if offset is None else offset
    return Letter(reason, group, topic, *place, one.partition, 0, 0), one.key, one.value


def books(
    records: Iterable[Any],
    *,
    rows: Iterable[Sequence[Any]] = (),
    letters: Iterable[Any] = (),
    ahead: Iterable[Any] = (),
    passed: Iterable[Any] = (),
    later: Iterable[Any] = (),
    reached: Mapping[int, int] | int = 100,
    forgotten: int = 0,
    is_whole: bool = True,
) -> Books:
    numbers = range(PARTITIONS)
    found = Books(
        names=Names(SALT),
        group="leads",
        is_whole=is_whole,
        reached=dict.fromkeys(numbers, reached) if isinstance(reached, int) else reached,
        forgotten=dict.fromkeys(numbers, forgotten),
        wanted=None if is_whole else Sieve(),
    )
    found.capture(records)
    found.capture_later(later)
    found.accept(ahead)
    if gone := list(passed):
        only = Sieve()
        for one in gone:
            only.add(found.names.record(one.key, one.value))
        found.accept(gone, only=only)
    for one in letters:
        found.letter(*one)
    for row in rows:
        found.row("contact", row)
    return found


def verdicts(found: Books) -> dict[Any, Any]:
    """By offset (or partition and offset) the verdict and what it names; rows are under None."""
    told: dict[Any, Any] = {}
    for one in judge(found):
        place = one.place if one.place is None or one.place[0] else one.place[1]
        assert place not in told or place is None, "exactly one verdict"
        of = one.of if isinstance(one.of, str | tuple) else None
        told[place] = one.verdict if of is None else (one.verdict, of)
    return told


class TestOneRecord:
    def test_written(self) -> None:
        assert verdicts(books([captured(3)], rows=[columns("a")])) == {3: "written"}

    def test_written_before_the_checkpoint_says_so(self) -> None:
        assert verdicts(books([captured(3)], rows=[columns("a")], reached=3)) == {3: "written"}

    def test_written_whatever_the_order_of_its_members_and_its_time(self) -> None:
        other = record(3, key=b"t/a", value=b'{"n":0,"captured_at":"2026-01-01T00:00:00Z","phone":"1","tenant":"t",'
                       b'"message_id":"a"}')  # fmt: skip
        assert verdicts(books([other], rows=[columns("a")])) == {3: "written"}

    def test_pending_in_front(self) -> None:
        assert verdicts(books([captured(3)], reached=3)) == {3: "pending"}
        assert verdicts(books([captured(3)], reached={})) == {3: "pending"}

    def test_pending_behind_the_checkpoint_of_the_crm(self) -> None:
        assert verdicts(books([captured(3)], ahead=[captured(77)])) == {3: "pending"}
        assert verdicts(books([captured(3)], ahead=[captured(77, version=1)])) == {3: "lost"}

    def test_lost_and_missing(self) -> None:
        assert verdicts(books([captured(3)])) == {3: "lost"}
        assert verdicts(books([captured(3)], passed=[captured(2)])) == {3: "missing"}

    def test_dead_lettered_by_dedupe_and_by_the_crm(self) -> None:
        one = captured(3)
        assert verdicts(books([one], letters=[letter(one, BUG)])) == {3: ("dead-lettered", BUG)}
        assert verdicts(books([one], letters=[letter(one, BUG, group="front")])) == {3: ("dead-lettered", BUG)}
        refused = letter(one, REJECTED, topic=ACCEPTED, offset=9)
        assert verdicts(books([one], letters=[refused])) == {3: ("dead-lettered", REJECTED)}
        unknown = letter(one, "x" * 200)
        assert verdicts(books([one], letters=[unknown])) == {3: ("dead-lettered", OTHER)}

    def test_letters_that_say_nothing_of_it(self) -> None:
        one = captured(3)
        of_another_crm = letter(one, REJECTED, topic=ACCEPTED, group="leads-crm2")
        of_another_log = letter(captured(3, version=1), ID_CONFLICT)
        of_another_record = letter(captured(4), ID_CONFLICT)
        of_another_topic = letter(one, BUG, topic="else")
        found = [of_another_crm, of_another_log, of_another_record, of_another_topic]
        assert verdicts(books([one], letters=found)) == {3: "lost"}

    def test_written_after_a_replay(self) -> None:
        one = captured(3)
        found = books([one], rows=[columns("a")], letters=[letter(one, BUG), letter(one, REJECTED, topic=ACCEPTED)])
        assert verdicts(found) == {3: "written"}

    def test_what_is_no_lead(self) -> None:
        for junk in (record(3, key=None, value=None), record(3, key=b"t/a", value=b"\xff"), record(3, value=b"{}")):
            assert verdicts(books([junk])) == {3: "lost"}
            assert verdicts(books([junk], letters=[letter(junk, INVALID)])) == {3: ("dead-lettered", INVALID)}
            refused = letter(junk, INVALID, topic=ACCEPTED)
            assert verdicts(books([junk], letters=[refused])) == {3: ("dead-lettered", INVALID)}

    def test_a_key_that_is_not_its_own_does_not_find_the_row(self) -> None:
        other = record(3, key=b"t/b", value=value("a"))
        assert verdicts(books([other, captured(4)], rows=[columns("a")])) == {3: "lost", 4: "written"}

    def test_the_row_has_other_content(self) -> None:
        assert verdicts(books([captured(3)], rows=[columns("a", 1)])) == {3: "differs"}
        broken = (*columns("a")[:-1], "no JSON")
        assert verdicts(books([captured(3)], rows=[broken])) == {3: "differs"}

    def test_forgotten(self) -> None:
        assert verdicts(books([captured(3), captured(4, "b")], forgotten=4)) == {3: "forgotten", 4: "lost"}
        assert verdicts(books([captured(3)], rows=[columns("a")], forgotten=4)) == {3: "written"}


class TestSeveralRecords:
    def test_duplicates_name_the_first_one(self) -> None:
        found = books([captured(3), captured(5), captured(7), captured(4, "b")], rows=[columns("a"), columns("b")])
        assert verdicts(found) == {3: "written", 5: ("duplicate", (0, 3)), 7: ("duplicate", (0, 3)), 4: "written"}

    def test_a_duplicate_of_what_is_lost_is_told_once(self) -> None:
        assert verdicts(books([captured(3), captured(5)])) == {3: "lost", 5: ("duplicate", (0, 3))}

    def test_another_lead_under_one_id(self) -> None:
        first, other, again = captured(3), captured(5, version=1), captured(7, version=1)
        letters = [letter(other, ID_CONFLICT), letter(again, ID_CONFLICT)]
        conflict = ("dead-lettered", ID_CONFLICT)
        found = books([first, other, again], rows=[columns("a")], letters=letters)
        assert verdicts(found) == {3: "written", 5: conflict, 7: conflict}
        assert verdicts(books([first, other], rows=[columns("a")])) == {3: "written", 5: "differs"}

    def test_what_dedupe_has_not_passed_is_pending_though_it_looks_like_a_repeat(self) -> None:
        assert verdicts(books([captured(3), captured(5)], rows=[columns("a")], reached=5)) == {
            3: "written",
            5: "pending",
        }

    def test_a_bug_then_a_repeat_that_is_written(self) -> None:
        first, second = captured(3), captured(5)
        found = books([first, second], rows=[columns("a")], letters=[letter(first, BUG)])
        assert verdicts(found) == {3: ("dead-lettered", BUG), 5: "written"}

    def test_one_id_in_two_partitions(self) -> None:
        found = books([captured(9), captured(3, partition=1)], rows=[columns("a")])
        assert verdicts(found) == {9: "written", (1, 3): ("duplicate", (0, 9))}


class TestRows:
    def test_a_phantom_is_told_only_of_the_whole(self) -> None:
        assert verdicts(books([], rows=[columns("a")])) == {None: "phantom"}
        assert verdicts(books([], rows=[columns("a")], is_whole=False)) == {}

    def test_what_was_captured_meanwhile_explains_its_row(self) -> None:
        assert verdicts(books([], rows=[columns("a")], later=[captured(9)])) == {}

    def test_two_rows_with_one_id(self) -> None:
        assert verdicts(books([captured(3)], rows=[columns("a"), columns("a")])) == {3: "written", None: "doubled"}

    def test_counters(self) -> None:
        found = Books()
        for contact in ("ada", "ada", "ben"):
            found.row(contact, columns("a"))
        found.counters.contact(found.names.contact("t", "ada"), 2)
        assert not found.counters.agree
        found.counters.contact(found.names.contact("t", "ben"), 1)
        assert found.counters.agree
        # The sum is right, and both are wrong.
        found.counters.contact(found.names.contact("t", "ben"), 1)
        found.counters.contact(found.names.contact("t", "ada"), -1)
        assert not found.counters.agree


class TestRemedies:
    def mendable(self, found: Books) -> dict[int, list[int]]:
        return {number: sorted(offsets) for number, offsets in tally(judge(found), limit=9).mendable.items()}

    def test_lost_and_missing_are_sent_again_once(self) -> None:
        found = books([captured(3), captured(5), captured(4, "b", partition=1)], passed=[captured(4, "b")])
        assert self.mendable(found) == {0: [3], 1: [4]}

    def test_of_two_leads_with_one_id_the_first(self) -> None:
        assert self.mendable(books([captured(3), captured(5, version=1)])) == {0: [3]}

    def test_none_while_another_one_with_its_id_is_on_its_way(self) -> None:
        assert self.mendable(books([captured(3), captured(5, version=1)], ahead=[captured(1, version=1)])) == {}
        assert self.mendable(books([captured(3), captured(5, version=1)], reached=4)) == {}

    def test_a_row_that_differs_is_nothing_to_send(self) -> None:
        assert self.mendable(books([captured(3)], rows=[columns("a", 1)])) == {}


def test_of_every_kind_some_are_kept_and_all_are_counted() -> None:
    found = tally(judge(books([captured(n, f"m{n}") for n in range(50)], rows=[columns("x")])), limit=3)
    assert (found.records, found.anomalies, found.counts[Verdict.LOST], len(found.listed)) == (50, 51, 50, 4)
    assert (found.mendable_count, len(found.places())) == (50, 3)


def test_a_sieve_lets_through_what_was_put_in_and_little_else() -> None:
    names = Names(SALT)
    sieve = Sieve()
    for number in range(1000):
        sieve.add(names.key(b"%d" % number))
    assert all(names.key(b"%d" % number) in sieve for number in range(1000))
    assert sum(names.key(b"other %d" % number) in sieve for number in range(10_000)) < 10


def test_names_are_others_in_every_run() -> None:
    assert Names().key(b"a") != Names().key(b"a")
    assert len(Names().key(b"a")) == KEY_SIZE_BYTES
    assert len(Names().record(b"a", b"")) == NAME_SIZE_BYTES
    assert Names(SALT).contact("a", "b/c") != Names(SALT).contact("a/b", "c")


def test_a_lead_takes_few_bytes() -> None:
    count = 100_000
    store, rows = Store("HQ"), Store()
    for number in range(count):
        name = number.to_bytes(8, "little") + bytes(10)
        store.add(name, 0, number)
        rows.add(name)
    assert len(store) == len(rows) == count
    # 28 for the record, 18 for its row, and what growing arrays leave free: 10 million are half a GiB.
    assert (store.size_bytes + rows.size_bytes) / count < 54


# --- A naive model of the pipeline, and the books kept of its traces.


@dataclass
class Model:
    """The pipeline as its parts say they are: `decide` itself, a list as lead-accepted, a dict as the CRM."""

    captured: list[Any] = field(default_factory=list)
    accepted: list[Any] = field(default_factory=list)
    letters: list[Any] = field(default_factory=list)
    rows: dict[bytes, Any] = field(default_factory=dict)
    seen: dict[bytes, bytes] = field(default_factory=dict)
    deduped: int = 0
    written: int = 0
    #: The CRM refuses leads with these ids.
    refuses: frozenset[str] = frozenset()

    def dedupe(self, count: int, *, dies: bool) -> None:
        batch = self.captured[self.deduped : self.deduped + count]
        decision = decide(batch, self.seen, window_ms=WINDOW_MS)
        self.accepted += decision.forward
        self.letters += [letter(r, why) for r, why, _ in decision.rejected]
        if not dies:  # else it is read again
            self.seen |= decision.learned
            self.deduped += len(batch)

    def sink(self, count: int, *, dies: bool) -> None:
        batch = self.accepted[self.written : self.written + count]
        for one in batch:
            if one.key.decode().split("/")[1] in self.refuses:
                self.letters.append(letter(one, REJECTED, topic=ACCEPTED))
            else:
                self.rows.setdefault(one.key, one)
        if not dies:
            self.written += len(batch)

    def mend(self) -> None:
        found = tally(judge(self.books()), limit=9)
        self.accepted += [self.captured[offset] for offset in found.mendable.get(0, ())]

    def books(self) -> Books:
        return books(
            self.captured,
            rows=[row_of(one) for one in self.rows.values()],
            letters=self.letters,
            ahead=self.accepted[self.written :],
            passed=self.accepted[: self.written],
            reached=self.deduped,
        )


LEADS = st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.booleans())
STEPS = st.lists(
    st.tuples(st.sampled_from(["capture", "dedupe", "sink"]), st.lists(LEADS, min_size=1, max_size=4), st.booleans()),
    max_size=30,
)


def run(steps: Any, refuses: frozenset[str], *, far_apart: bool = False) -> Model:
    model = Model(refuses=refuses)
    for kind, leads, dies in steps:
        if kind == "capture":
            for message_id, version, is_lead in leads:
                one = captured(len(model.captured), message_id, version)
                time_ms = one.offset * (WINDOW_MS if far_apart else 1)
                model.captured.append(one if is_lead else record(one.offset, key=one.key, value=b"no lead"))
                model.captured[-1] = record(
                    one.offset, key=one.key, value=model.captured[-1].value, time_ms=int(time_ms)
                )
        elif kind == "dedupe":
            model.dedupe(len(leads), dies=dies)
        else:
            model.sink(len(leads), dies=dies)
    return model


REFUSES = st.sampled_from([frozenset[str](), frozenset("a"), frozenset("ab")])


@given(STEPS, REFUSES)
@settings(max_examples=100, deadline=None)
def test_a_pipeline_that_does_what_it_says_has_no_anomalies(steps: Any, refuses: frozenset[str]) -> None:
    model = run(steps, refuses)
    found = tally(judge(model.books()), limit=9)
    assert found.anomalies == 0, found
    assert found.records == len(model.captured)
    assert found.counts[Verdict.WRITTEN] == len(model.rows)


@given(STEPS, REFUSES)
@settings(max_examples=100, deadline=None)
def test_beyond_the_window_only_another_lead_under_a_known_id_is_an_anomaly(
    steps: Any, refuses: frozenset[str]
) -> None:
    """It is forwarded then, and the key of the CRM drops it: the audit says so."""
    model = run(steps, refuses, far_apart=True)
    found = tally(judge(model.books()), limit=9)
    assert found.anomalies == found.counts[Verdict.DIFFERS]
    contents = Counter(one.key for one in {(r.key, r.value): r for r in model.accepted}.values())
    assert not found.counts[Verdict.DIFFERS] or max(contents.values()) > 1


def is_lead(value: bytes | None) -> bool:
    try:
        decode(value)
    except InvalidLead:
        return False
    return True


@given(STEPS, REFUSES, st.data())
@settings(max_examples=100, deadline=None)
def test_what_is_taken_away_is_found_and_sending_it_again_mends_it(
    steps: Any, refuses: frozenset[str], data: st.DataObject
) -> None:
    model = run(steps, refuses)
    taken = data.draw(st.sets(st.sampled_from(sorted(model.rows)))) if model.rows else set()
    before = tally(judge(model.books()), limit=9)
    for key in taken:
        del model.rows[key]
    found = tally(judge(model.books()), limit=9)
    # One that is still on its way to the CRM once more comes by itself.
    coming = {one.key for one in model.accepted[model.written :]}
    # Not of what is no lead: another record with its key may still wait for `dedupe`.
    deduped = {one.key for one in model.captured[: model.deduped] if is_lead(one.value)}
    surely = (taken - coming) & deduped
    refused = {one[1] for one in model.letters if one[0].topic == ACCEPTED}
    gone = {model.captured[one.place[1]].key for one in judge(model.books()) if one.verdict is Verdict.MISSING
            and one.place}  # fmt: skip
    assert gone == surely - refused
    assert found.anomalies == before.anomalies + len(gone)
    model.mend()
    # The next audit mends what waited for another lead with its id, which was on its way.
    model.dedupe(len(model.captured), dies=False)
    model.sink(len(model.accepted), dies=False)
    model.mend()
    assert tally(judge(model.books()), limit=9).anomalies == 0
    model.sink(len(model.accepted), dies=False)
    assert tally(judge(model.books()), limit=9).anomalies == 0


def test_the_model_in_a_case_that_can_be_read() -> None:
    model = run([("capture", [("a", 0, True), ("a", 0, True), ("a", 1, True), ("b", 0, False)], False),
                 ("dedupe", [("a", 0, True)] * 4, True), ("dedupe", [("a", 0, True)] * 4, False),
                 ("sink", [("a", 0, True)] * 4, False)], frozenset())  # fmt: skip
    assert len(model.accepted) == 2
    assert verdicts(model.books()) == {
        0: "written",
        1: ("duplicate", (0, 0)),
        2: ("dead-lettered", ID_CONFLICT),
        3: ("dead-lettered", INVALID),
    }


def test_a_part_of_the_log_needs_few_rows() -> None:
    found = books([captured(3)], rows=[columns("a"), *(columns(f"x{n}") for n in range(1000))], is_whole=False)
    assert verdicts(found) == {3: "written"}
    assert len(found.rows) < 10


@pytest.mark.parametrize("limit", [0, 1])
def test_the_list_is_bounded(limit: int) -> None:
    outcome = Outcome()
    outcome.add([Judged(Verdict.LOST, (0, n)) for n in range(3)], limit=limit)
    assert (len(outcome.listed), outcome.anomalies) == (limit, 3)
