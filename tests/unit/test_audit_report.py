"""What an audit says, which records it means, and what it sends again (pure); the settings that it refuses."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audit.crms import crm_for
from pipeline.audit.judgement import Judged, Verdict
from pipeline.audit.mending import Mended, mend, why_not
from pipeline.audit.outcome import Outcome, WrongCounter
from pipeline.audit.report import Report, record_as_json
from pipeline.audit.span import GAP_MAX_OFFSETS, Range, runs
from pipeline.commands.audit import audit
from pipeline.dead_letters import REJECTED
from pipeline.inspection.errors import Unavailable
from pipeline.letters.originals import BATCH_MAX_LEADS, Original
from pipeline.settings import Settings
from pipeline.spool import Waiting
from tests.unit.engine import record

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def report(*verdicts: Judged, limit: int = 9, **members: Any) -> Report:
    outcome = Outcome()
    outcome.add(verdicts, limit=limit)
    return replace(Report("leads", at=AT), outcome=outcome, **members)


BALANCED = [
    Judged(Verdict.WRITTEN, (3, 7)),
    Judged(Verdict.DUPLICATE, (3, 9), (3, 7)),
    Judged(Verdict.DEAD_LETTERED, (3, 10), REJECTED),
    Judged(Verdict.PENDING, (3, 11)),
]


def test_books_that_balance() -> None:
    *counts, last = list(report(*BALANCED, rows_count=1, seconds=2.0).lines())
    assert last == "The books balance."
    assert [line.split() for line in counts[1:]] == [
        ["1", "written:", "in", "the", "CRM"],
        ["1", "duplicate:", "repeats", "of", "these", "leads"],
        ["1", "dead-lettered:", "1", "rejected"],
        ["1", "pending:", "on", "their", "way"],
    ]
    assert counts[0].startswith("leads: 4 of lead-captured (every record) and 1 rows of the CRM")
    found = report(*BALANCED).as_json()
    assert (found["records"], found["anomalies"], found["listed"], found["mended"]) == (4, 0, [], None)
    assert (found["dead_lettered"], found["reasons"]) == (1, {"rejected": 1})


def test_what_waits_in_the_spool_is_told_and_is_no_anomaly() -> None:
    found = report(*BALANCED, spooled=Waiting(1234, 7, 65.0))
    *_, line, last = found.lines()
    assert line.split(maxsplit=1) == [
        "1,234",
        "spooled: in the spool of this machine, the oldest for 1 min 5 s, and in no topic yet",
    ]
    assert last == "The books balance."
    assert (found.as_json()["spooled"], found.left) == ({"depth": 1234, "age_s": 65.0}, 0)
    assert report(*BALANCED).as_json()["spooled"] == {"depth": 0, "age_s": 0.0}


def test_anomalies_are_listed_by_place_and_name_and_nothing_else_of_a_lead() -> None:
    found = report(
        *BALANCED,
        Judged(Verdict.LOST, (3, 12), b"n" * 18, is_mendable=True),
        Judged(Verdict.DIFFERS, (3, 13)),
        Judged(Verdict.PHANTOM, None, b"k" * 10),
        keys={(3, 12): b"default/m-1", (3, 13): b"\x1b]0;owned"},
        rows={b"k" * 10: ("default", "\x1b[2J")},
    )
    found.outcome.wrong(WrongCounter("default", None, 3, 0), limit=9)
    *_, lost, differs, phantom, counter = list(found.lines())
    assert lost.startswith("lost     lead-captured 3 12       default/m-1: passed by dedupe")
    assert differs.startswith("differs  lead-captured 3 13       –: the row with its id has other content")
    assert phantom.startswith("phantom  (a row)                  default/\\u001b[2J: a row of the CRM")
    assert counter.startswith("counter  (a contact)              (of default, without leads): its contact counts 3 ")
    assert all(line.isprintable() for line in found.lines())
    shown = found.as_json()
    assert shown["by_kind"] == {"lost": 1, "missing": 0, "differs": 1, "phantom": 1, "doubled": 0, "counter": 1}
    assert [one["mendable"] for one in shown["listed"]] == [True, False, False, False]
    assert (shown["listed"][0]["tenant"], shown["listed"][1]["tenant"]) == ("default", None)
    json.dumps(shown)


def test_what_is_not_listed_is_counted() -> None:
    found = report(*(Judged(Verdict.LOST, (0, n), b"n") for n in range(10)), limit=2)
    *_, last = list(found.lines())
    assert last == "and 8 more of the same kinds (see --limit)."


def test_what_is_sent_is_no_anomaly_any_more_unless_it_only_would_be() -> None:
    found = report(*(Judged(Verdict.LOST, (0, n), b"n", is_mendable=True) for n in range(3)), mended=Mended(sent=2))
    assert found.left == 1
    assert list(found.lines())[-1] == "2 records sent to lead-accepted."
    dry = replace(found, is_dry_run=True)
    assert (dry.left, list(dry.lines())[-1]) == (3, "2 records would be sent to lead-accepted, none was.")


def test_the_verdict_on_one_record() -> None:
    assert [record_as_json(one) for one in BALANCED[1:3]] == [
        {"partition": 3, "offset": 9, "verdict": "duplicate", "of": {"partition": 3, "offset": 7}},
        {"partition": 3, "offset": 10, "verdict": "dead-lettered", "reason": "rejected"},
    ]
    assert record_as_json(Judged(Verdict.LOST, (3, 12), b"n")) == {"partition": 3, "offset": 12, "verdict": "lost"}


@pytest.mark.parametrize(
    "meant,since,until,span",
    [
        (Range(), None, None, (10, 20)),
        (Range(start=12), None, None, (12, 20)),
        (Range(start=3, end=15), None, None, (10, 15)),
        (Range(end=3), None, None, (10, 10)),
        (Range(start=30), None, None, (20, 20)),
        (Range(since_ms=1.0), 14, None, (14, 20)),
        (Range(since_ms=1.0), None, None, (20, 20)),
        (Range(until_ms=1.0), None, 14, (10, 14)),
        (Range(until_ms=1.0), None, None, (10, 20)),
        (Range(since_ms=2.0, until_ms=1.0), 15, 12, (15, 15)),
    ],
)
def test_what_is_meant_of_a_log(meant: Range, since: int | None, until: int | None, span: tuple[int, int]) -> None:
    assert meant.within(10, 20, since=since, until=until) == span
    assert meant.is_everything is (meant == Range())


@given(st.sets(st.integers(0, 20 * GAP_MAX_OFFSETS)))
def test_runs_meet_every_offset_and_no_long_gap(offsets: set[int]) -> None:
    found = runs(sorted(offsets))
    assert all(any(start <= one < end for start, end in found) for one in offsets)
    assert all(start in offsets and end - 1 in offsets and start < end for start, end in found)
    assert all(before[1] + GAP_MAX_OFFSETS <= behind[0] for before, behind in pairwise(found))


def lead(number: int) -> Any:
    value = {"message_id": f"m-{number}", "tenant": "default", "phone": "1"}
    return record(number, key=b"default/m-%d" % number, value=json.dumps(value).encode(), headers=[("a", b"b")])


async def test_records_are_sent_as_they_were_in_batches() -> None:
    batches: list[Sequence[Original]] = []
    mended = Mended()

    async def append(records: Sequence[Original]) -> None:
        batches.append(list(records))

    async def some() -> AsyncIterator[Sequence[Any]]:
        yield [lead(n) for n in range(BATCH_MAX_LEADS + 1)]
        yield [record(8, key=b"default/other", value=lead(1).value), record(9)]

    await mend(some(), append, mended)
    assert [len(one) for one in batches] == [BATCH_MAX_LEADS, 1]
    assert batches[1][0] == (0, lead(500).key, lead(500).value, (("a", b"b"),))
    assert mended.skipped == {"its key is not tenant/message_id": 1, "it has neither key nor value": 1}


def test_what_is_no_lead_is_sent_and_so_dead_lettered() -> None:
    assert why_not(record(1, key=b"a/b", value=b"no lead")) is None


def test_an_app_without_a_crm_that_can_be_read() -> None:
    for environ, why in (
        ({"LEADS_AGENTS": "dedupe"}, "writes no CRM"),
        ({"LEADS_SINK_URL": "memory:"}, "in the memory of a worker"),
        ({"LEADS_SINK_URL": "mysql://root:hunter2@host/x"}, "LEADS_SINK_URL cannot be used"),
    ):
        with pytest.raises(Unavailable, match=why) as error:
            crm_for(Settings.from_env(environ))
        assert error.value.exit_code == 78
        assert "hunter2" not in error.value.message


@pytest.mark.parametrize("args", [["--from", "3"], ["--to", "3"], ["--dry-run"], ["--since", "x"], ["--limit", "-1"]])
def test_options_that_do_not_fit(args: list[str]) -> None:
    assert CliRunner().invoke(audit, args).exit_code == 2
