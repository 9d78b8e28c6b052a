"""The checker finds a planted violation of each kind, and nothing in a run in which all is well."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.chaos_leads import PER_CONTACT, REFUSED, ChaosLeads
from pipeline.lab.checker import Checker, Record, Row, ahead
from pipeline.lab.crm import Contact, SQLiteCrm
from pipeline.lab.history import Event, Outcome
from pipeline.lab.verdict import Kind, Verdict
from pipeline.lead import decode, encode, key
from pipeline.sinks import AcceptedLead
from pipeline.sinks.base import Checkpoint, Lane, RecordsRejected, StreamOffset
from pipeline.sinks.contact import address
from pipeline.sinks.sqlite import SQLiteSink

LEADS = ChaosLeads(7)
OTHERS = ChaosLeads(8)
COUNT = 240
REFUSED_ONE = next(number for number in range(COUNT) if LEADS.is_refused(number))


def row(number: int, leads: ChaosLeads = LEADS) -> Row:
    """The row of this lead as it should be."""
    lead = leads.lead(number)
    return Row(
        lead.tenant, lead.message_id, address(lead), lead.email, lead.phone, lead.name, lead.company, lead.source,
        lead.campaign, lead.captured_at, json.dumps(lead.fields),
    )  # fmt: skip


def ok(number: int) -> list[Event]:
    return [Event(number, 0.0, Outcome.SENT), Event(number, 0.1, Outcome.OK, 0, number)]


def unanswered(number: int, *outcomes: Outcome) -> list[Event]:
    return [event for outcome in outcomes for event in (Event(number, 0, Outcome.SENT), Event(number, 0, outcome))]


@dataclass
class Run:
    """What was observed, to be tampered with: all of `COUNT` leads answered 202 and in the CRM, one refused by it."""

    history: list[Event] = field(default_factory=lambda: [event for number in range(COUNT) for event in ok(number)])
    rows: dict[int, list[Row]] = field(
        default_factory=lambda: {n: [row(n)] for n in range(COUNT) if not LEADS.is_refused(n)}
    )
    letters: list[tuple[bytes, str]] = field(
        default_factory=lambda: [(key(LEADS.lead(n)), "rejected") for n in range(COUNT) if LEADS.is_refused(n)]
    )
    contacts: list[Contact] | None = None
    captured: list[int] = field(default_factory=lambda: list(range(COUNT)))
    accepted: list[int] = field(default_factory=lambda: list(range(COUNT)))
    checkpoint: int = COUNT
    answers: list[tuple[int, str, int | None]] = field(default_factory=list)

    def check(self) -> Verdict:
        """What the checker says of it."""
        checker = Checker(LEADS, {0: self.checkpoint})
        for event in self.history:
            checker.event(event)
        for offset, number in enumerate(self.captured):
            checker.captured(Record(0, offset, key(LEADS.lead(number))))
        for letter in self.letters:
            checker.letter(*letter)
        for one in [one for some in self.rows.values() for one in some]:
            checker.row(one)
        for contact in self._contacts() if self.contacts is None else self.contacts:
            checker.contact(*contact)
        for offset, number in enumerate(self.accepted):
            checker.accepted(Record(0, offset, key(LEADS.lead(number))))
        for answer in self.answers:
            checker.answer(*answer)
        return checker.verdict()

    def _contacts(self) -> list[Contact]:
        """As the rows say."""
        addresses = [one.contact for some in self.rows.values() for one in some[:1] if LEADS.number(one.message_id)]
        addresses += [self.rows[0][0].contact] if self.rows.get(0) else []
        return [Contact("default", of, addresses.count(of)) for of in dict.fromkeys(addresses)]


def kinds(verdict: Verdict) -> dict[Kind, int]:
    return verdict.violations


class TestARunInWhichAllIsWell:
    def test_is_clean(self) -> None:
        verdict = Run().check()
        assert verdict.is_clean, verdict.examples
        assert verdict.counts == {
            "leads": 240, "sent": 240, "ok": 240, "fail": 0, "info": 0, "repeats": 0, "captured": 240, "accepted": 240,
            "rows": 239, "dead letters": 1, "spooled": 0,
        }  # fmt: skip

    def test_repeats_retries_and_repeated_letters_are_no_violations(self) -> None:
        run = Run()
        run.history += ok(3) + unanswered(4, Outcome.FAIL, Outcome.INFO)
        run.captured += [3, 4, 4]
        run.accepted += [3]
        run.letters *= 2
        run.checkpoint += 1
        verdict = run.check()
        assert verdict.is_clean
        assert (verdict.counts["repeats"], verdict.counts["dead letters"]) == (3, 1)

    @pytest.mark.parametrize("is_there", [True, False])
    def test_what_was_spooled_must_be_there_as_everything_that_was_answered_202(self, is_there: bool) -> None:
        run = Run()
        run.history = [event for event in run.history if event.number != 5]
        run.history += [Event(5, 0.0, Outcome.SENT), Event(5, 0.1, Outcome.OK)]
        if not is_there:
            run.rows.pop(5)
        verdict = run.check()
        assert verdict.counts["spooled"] == 1
        assert (Kind.LOST in verdict.violations) is not is_there

    @pytest.mark.parametrize("is_there", [True, False])
    def test_an_answer_that_never_came_allows_both(self, is_there: bool) -> None:
        run = Run()
        run.history = [event for event in run.history if event.number != 5]
        run.history += unanswered(5, Outcome.INFO)
        if not is_there:
            run.rows.pop(5)
            run.captured.remove(5)
            run.accepted.remove(5)
            run.checkpoint -= 1
        assert run.check().is_clean

    @given(st.integers(0, 2**63), st.integers(0, 10**7))
    def test_whatever_the_seed_is(self, seed: int, number: int) -> None:
        leads = ChaosLeads(seed)
        lead = leads.lead(number)
        assert decode(encode(lead)) == lead
        assert leads.number(lead.message_id) == number
        assert leads.number_of(key(lead)) == number
        assert leads.contact_of(address(lead)) == number // PER_CONTACT
        assert (lead.campaign == REFUSED) is leads.is_refused(number)

    def test_leads_of_another_seed_are_not_taken_for_ours(self) -> None:
        assert [LEADS.number_of(key(OTHERS.lead(number))) for number in range(COUNT)] == [None] * COUNT
        assert [LEADS.number_of(one) for one in (None, b"", b"default/", b"x/y", b"default/\xff")] == [None] * 5


class TestLost:
    def test_in_no_row_and_no_dead_letter(self) -> None:
        run = Run()
        run.rows.pop(17)
        run.checkpoint = 0
        verdict = run.check()
        assert kinds(verdict) == {Kind.LOST: 1}
        (example,) = verdict.examples[Kind.LOST]
        assert example.startswith("lead 17 (")
        assert example.endswith("was answered 202, is in lead-captured (records: 1) and in lead-accepted")

    def test_by_the_broker(self) -> None:
        run = Run()
        run.rows.pop(17)
        run.captured.remove(17)
        run.accepted.remove(17)
        run.checkpoint -= 1
        assert run.check().examples[Kind.LOST][0].endswith("and is not in lead-captured")

    def test_a_dead_letter_that_is_not_there(self) -> None:
        run = Run()
        run.letters.clear()
        run.checkpoint = 0
        assert kinds(run.check()) == {Kind.LOST: 1}

    def test_one_ok_among_other_answers_is_enough(self) -> None:
        run = Run()
        run.history = [event for event in run.history if event.number != 17]
        run.history += unanswered(17, Outcome.INFO, Outcome.FAIL) + ok(17) + unanswered(17, Outcome.FAIL)
        run.rows.pop(17)
        run.checkpoint = 0
        assert kinds(run.check()) == {Kind.LOST: 1}


class TestDoubled:
    def test_two_rows_of_one_message_id(self) -> None:
        run = Run()
        run.rows[17] *= 3
        verdict = run.check()
        assert verdict.violations[Kind.DOUBLED] == 2
        assert verdict.examples[Kind.DOUBLED][0].startswith("lead 17 (")


class TestPhantom:
    def test_a_lead_of_nobody(self) -> None:
        run = Run()
        run.rows[COUNT] = [row(3, OTHERS)]
        assert run.check().violations[Kind.PHANTOM] == 1

    def test_a_dead_letter_of_nobody(self) -> None:
        run = Run()
        run.letters += [(b"default/x", "invalid"), (None, "invalid")]  # type: ignore[list-item]
        assert kinds(run.check()) == {Kind.PHANTOM: 2}

    def test_a_lead_that_was_never_sent(self) -> None:
        run = Run()
        run.rows[COUNT] = [row(COUNT)]
        verdict = run.check()
        assert kinds(verdict) == {Kind.PHANTOM: 1}
        assert verdict.examples[Kind.PHANTOM][0].endswith("was never sent")

    def test_a_lead_that_was_only_sent_where_nobody_listened(self) -> None:
        run = Run()
        run.rows[COUNT] = [row(COUNT)]
        run.history += unanswered(COUNT, Outcome.FAIL, Outcome.FAIL)
        verdict = run.check()
        assert kinds(verdict) == {Kind.PHANTOM: 1}
        assert verdict.examples[Kind.PHANTOM][0].endswith("was only sent where nobody listened")

    @pytest.mark.parametrize("outcomes", [[Outcome.INFO], [Outcome.FAIL, Outcome.INFO, Outcome.FAIL]])
    def test_but_not_one_that_may_have_been_taken(self, outcomes: list[Outcome]) -> None:
        run = Run()
        run.rows[COUNT] = [row(COUNT)]
        run.history += unanswered(COUNT, *outcomes)
        assert run.check().is_clean

    def test_nor_one_whose_answer_was_not_noted(self) -> None:
        run = Run()
        run.rows[COUNT] = [row(COUNT)]
        run.history += [Event(COUNT, 0.0, Outcome.SENT)]
        assert run.check().is_clean

    def test_nor_one_with_more_unanswered_sendings_than_are_counted(self) -> None:
        run = Run()
        run.rows[COUNT] = [row(COUNT)]
        run.history += unanswered(COUNT, *[Outcome.INFO] * 300, *[Outcome.FAIL] * 300)
        assert run.check().is_clean

    def test_a_contact_of_nobody(self) -> None:
        checker = Checker(LEADS, {})
        checker.contact("default", "somebody@else.example", 1)
        assert kinds(checker.verdict()) == {Kind.PHANTOM: 1}


class TestAltered:
    @pytest.mark.parametrize("column", [name for name in Row._fields if name not in ("tenant", "message_id")])
    def test_in_each_column(self, column: str) -> None:
        run = Run()
        sane = run.rows[17][0]
        wrong = {
            "captured_at": (sane.captured_at or pytest.fail("a lead without a time")) + timedelta(microseconds=1),
            "fields": sane.fields.replace("17", "18"),
        }
        run.rows[17] = [sane._replace(**{column: wrong.get(column, "contact-4@lab.example.com")})]
        run.contacts = []
        verdict = run.check()
        assert kinds(verdict) == {Kind.ALTERED: 1}
        assert verdict.examples[Kind.ALTERED][0].endswith(f"differs in {column}")

    @pytest.mark.parametrize("column", ["email", "name", "company", "captured_at"])
    def test_a_column_that_got_lost(self, column: str) -> None:
        run = Run()
        run.rows[17] = [run.rows[17][0]._replace(**{column: None})]
        assert kinds(run.check()) == {Kind.ALTERED: 1}

    def test_fields_that_are_no_json(self) -> None:
        run = Run()
        run.rows[17] = [run.rows[17][0]._replace(fields='{"a":')]
        assert kinds(run.check()) == {Kind.ALTERED: 1}


class TestACheckpointAhead:
    def test_of_a_record_that_is_nowhere(self) -> None:
        run = Run()
        run.rows.pop(17)
        assert kinds(run.check()) == {Kind.LOST: 1, Kind.AHEAD: 1}

    def test_also_of_a_lead_that_nobody_was_answered_for(self) -> None:
        run = Run()
        run.history = [event for event in run.history if event.number != 17]
        run.history += unanswered(17, Outcome.INFO)
        run.rows.pop(17)
        verdict = run.check()
        assert kinds(verdict) == {Kind.AHEAD: 1}
        assert "record 0/17 of lead-accepted" in verdict.examples[Kind.AHEAD][0]

    def test_that_was_found_during_the_run_and_again_at_its_end_is_one(self) -> None:
        checker, record = Checker(LEADS, {0: 1}), Record(0, 0, key(LEADS.lead(0)))
        checker.ahead(record)
        checker.accepted(record)
        assert kinds(checker.verdict()) == {Kind.AHEAD: 1}

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.booleans())), st.integers(0, 20))
    def test_is_exactly_what_lies_before_it_and_is_not_there(
        self, given_records: list[tuple[int, int, bool]], checkpoint: int
    ) -> None:
        records = [Record(p, offset, b"%d" % index) for index, (p, offset, _) in enumerate(given_records)]
        there = {b"%d" % index for index, (_, _, is_there) in enumerate(given_records) if is_there}
        found = ahead({0: checkpoint, 1: 0}, records, is_there=there.__contains__)
        assert found == [
            one for one in records if one.partition == 0 and one.offset < checkpoint and one.key not in there
        ]


class TestAWrongCounter:
    @pytest.mark.parametrize("submissions", [0, 3, 5])
    def test_of_a_contact(self, submissions: int) -> None:
        run = Run()
        of = row(17).contact
        run.contacts = [Contact("default", of, submissions)]
        verdict = run.check()
        assert kinds(verdict) == {Kind.COUNTER: 1}
        assert verdict.examples[Kind.COUNTER] == [f"contact 4 counts {submissions} leads, and has 4"]

    @pytest.mark.parametrize("times", [None, 0, 3])
    def test_of_the_times_that_a_lead_came(self, times: int | None) -> None:
        run = Run()
        run.captured += [17]
        run.answers = [(16, "written", 1), (17, "written", times)]
        assert kinds(run.check()) == {Kind.COUNTER: 1}

    def test_but_not_one_that_can_be(self) -> None:
        run = Run()
        run.captured += [17]
        run.answers = [(17, "written", 1), (17, "written", 2)]
        assert run.check().is_clean


class TestMore:
    def test_a_dead_letter_that_the_crm_would_have_taken(self) -> None:
        run = Run()
        run.letters += [(key(LEADS.lead(17)), "bug")]
        verdict = run.check()
        assert kinds(verdict) == {Kind.MISDIRECTED: 1}
        assert verdict.examples[Kind.MISDIRECTED][0].endswith("is a dead letter: bug")

    def test_a_row_of_a_lead_that_the_crm_refuses(self) -> None:
        run = Run()
        run.rows[REFUSED_ONE] = [row(REFUSED_ONE)]
        assert kinds(run.check()) == {Kind.MISDIRECTED: 1}

    def test_a_status_that_is_not_so(self) -> None:
        run = Run()
        run.answers = [(17, "pending", 1), (REFUSED_ONE, "written", 1), (REFUSED_ONE, "dead-lettered", 1)]
        assert kinds(run.check()) == {Kind.STATUS: 2}

    def test_what_does_not_come_to_rest(self) -> None:
        checker = Checker(LEADS, {})
        checker.stuck("worker-1 is not ready")
        assert kinds(checker.verdict()) == {Kind.STUCK: 1}

    def test_only_the_first_few_are_told_and_all_are_counted(self) -> None:
        run = Run()
        run.rows.clear()
        run.checkpoint = 0
        verdict = run.check()
        assert verdict.violations[Kind.LOST] == COUNT - 1
        assert len(verdict.examples[Kind.LOST]) == 10
        assert not verdict.as_json()["is_clean"]


class TestARealDatabase:
    """Planted in SQLite, into which the product's own sink has written, and read as the lab reads it."""

    @pytest.fixture
    async def written(self, tmp_path: Path) -> Path:
        path = tmp_path / "written.sqlite3"
        sink, lane = SQLiteSink(path), Lane("leads", "lead-accepted", 0)
        await sink.open()
        await SQLiteCrm(path).refuse()
        await sink.offsets({lane: StreamOffset(0, "log")})
        leads = [
            AcceptedLead(lead, 0, number, number, address(lead))
            for number, lead in enumerate(map(LEADS.lead, range(COUNT)))
        ]
        step = Checkpoint(lane, 0, StreamOffset(COUNT, "log"))
        with pytest.raises(RecordsRejected) as rejected:
            await sink.write(leads, step)
        assert list(rejected.value.reasons) == [REFUSED_ONE]
        await sink.write([one for one in leads if one.offset != REFUSED_ONE], step)
        await sink.close()
        return path

    @pytest.fixture
    def tampered(self, written: Path) -> Callable[..., Awaitable[Verdict]]:
        """Run statements in the database; returns what the checker says of it."""

        def tamper(*statements: str) -> Awaitable[Verdict]:
            with closing(sqlite3.connect(written)) as connection:
                for statement in statements:
                    connection.execute(statement)
                connection.commit()
            return self._check(SQLiteCrm(written))

        return tamper

    async def _check(self, crm: SQLiteCrm) -> Verdict:
        run = Run()
        checker = Checker(LEADS, await crm.checkpoints("leads"))
        for event in run.history:
            checker.event(event)
        for offset, number in enumerate(run.captured):
            checker.captured(Record(0, offset, key(LEADS.lead(number))))
        for letter in run.letters:
            checker.letter(*letter)
        async for one in crm.rows():
            checker.row(one)
        async for contact in crm.contacts():
            checker.contact(*contact)
        for offset, number in enumerate(run.accepted):
            checker.accepted(Record(0, offset, key(LEADS.lead(number))))
        return checker.verdict()

    async def test_that_nobody_has_touched_is_clean(self, tampered: Callable[..., Awaitable[Verdict]]) -> None:
        verdict = await tampered()
        assert verdict.is_clean, verdict.examples
        assert verdict.counts["rows"] == COUNT - 1

    async def test_knows_which_keys_have_a_row(self, written: Path) -> None:
        keys = [key(LEADS.lead(number)) for number in range(COUNT + 5)]
        there = await SQLiteCrm(written).present(keys)
        assert there == {name for number, name in enumerate(keys) if number < COUNT and number != REFUSED_ONE}

    @pytest.mark.parametrize(
        "statements, wanted",
        [
            (["DELETE FROM lead WHERE source_offset = 17"], {Kind.LOST: 1, Kind.AHEAD: 1, Kind.COUNTER: 1}),
            (["UPDATE lead SET name = 'X' WHERE source_offset = 17"], {Kind.ALTERED: 1}),
            (["UPDATE lead SET captured_at = NULL WHERE source_offset = 17"], {Kind.ALTERED: 1}),
            (["UPDATE lead SET fields = '{}' WHERE source_offset = 17"], {Kind.ALTERED: 1}),
            (["UPDATE contact SET submissions = 5 WHERE address = 'contact-4@lab.example'"], {Kind.COUNTER: 1}),
            (
                ["UPDATE lead SET message_id = 'x' WHERE source_offset = 17"],
                {Kind.LOST: 1, Kind.AHEAD: 1, Kind.PHANTOM: 1, Kind.COUNTER: 1},
            ),
            (
                [
                    "CREATE TABLE other AS SELECT * FROM lead",
                    "DROP TABLE lead",
                    "ALTER TABLE other RENAME TO lead",
                    "INSERT INTO lead SELECT * FROM lead WHERE source_offset = 17",
                ],
                {Kind.DOUBLED: 1, Kind.COUNTER: 1},
            ),
        ],
    )
    async def test_in_which_something_was_changed(
        self, tampered: Callable[..., Awaitable[Verdict]], statements: Sequence[str], wanted: dict[Kind, int]
    ) -> None:
        verdict = await tampered(*statements)
        assert verdict.violations == wanted, verdict.examples
