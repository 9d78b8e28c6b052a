"""The report of a comparison: the table, the JSON, the plot and the page; and what the command refuses."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.commands.compare import compare
from pipeline.lab import bars
from pipeline.lab.compare import COLUMNS, write
from pipeline.lab.compare_contenders import AUTO_COMMIT, CONTENDERS, FULL, OURS_EXACTLY_ONCE, STOCK, Contender
from pipeline.lab.compare_measures import Accepted, CatchUp, Measures, Spread
from pipeline.lab.compare_plot import panels
from pipeline.lab.compare_report import Report, costs, flaws, losses, notes, rows, table
from pipeline.lab.compare_result import OUR_TOOL, SCRIPT, Repair, Result
from pipeline.lab.compare_schedule import plan

VOID = {"meta", "link", "br", "img", "hr", "input"}


def result(contender: Contender, *, lost: int = 0, doubled: int = 0, again: float | None = 3.0) -> Result:
    measures = Measures(
        accepted=10_000,
        written=10_000 - lost,
        lost=lost,
        doubled=doubled,
        again_per_kill=again,
        kills=6,
        ended=2,
        unread=0,
        first_write=Spread(5, 9.5 if contender.is_ours else 8.5, 12.0),
        lag_zero=Spread(5, 10.5, 13.0),
        cpu_s_per_million=2_000.0,
        catch_ups=[CatchUp(9.5, 10.5)],
        lost_after={"stop": lost} if lost else {},
    )
    mended = Repair(OUR_TOOL if contender.is_ours else SCRIPT, 1.2, 0.1 if lost else 0.0, lost)
    return Result(contender, measures, 60.0, mended, 0, doubled, 130.0)


def report(*, full: bool = False) -> Report:
    who = (*CONTENDERS, FULL) if full else CONTENDERS
    results = [
        result(one) if one.is_ours else result(one, lost=12 if one is AUTO_COMMIT else 310, doubled=791) for one in who
    ]
    machine = {"cpus": 2, "python": "3.11.9", "platform": "Linux"}
    versions = {"lead-pipeline": "0.1.0"}
    schedule = plan(1, leads=10_000, kills=6)
    at, rate = datetime(2026, 11, 25, tzinfo=UTC), schedule.rate
    return Report(at, 1, 10_000, 6, 5_000, schedule.seconds, rate, schedule.faults, machine, versions, results)


class TestWords:
    def test_each_measure_has_a_cell_for_each_contender(self) -> None:
        for row in rows(report().results):
            assert len(row.cells) == len(CONTENDERS)

    def test_the_table_says_what_was_lost_and_doubled(self) -> None:
        cells = {row.measured: row.cells for row in rows(report().results)}
        assert cells["data loss"] == ["12 (0.12%)", "310 (3.10%)", "0", "0"]
        assert cells["duplicate execution"] == ["791", "791", "0", "0"]
        assert cells["repair"][:1] == ["1.2 s + 0.1 s"]
        assert cells["still wrong after it"] == ["791 doubled", "791 doubled", "0", "0"]

    def test_a_catch_up_that_never_came_is_told(self) -> None:
        one = result(STOCK)
        spreads = {"lag_zero": Spread(2, 9.0, 9.0, 1), "first_write": Spread(1, None, None, 1)}
        never = replace(one, measures=replace(one.measures, **spreads))
        cells = {row.measured: row.cells for row in rows([never])}
        assert cells["catch-up, lag 0"] == ["9.0 / 9.0 s, 1 never"]
        assert cells["catch-up, first write"] == ["never"]

    def test_the_terminal_gets_every_cell(self) -> None:
        console = Console(width=120, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
        console.print(table(report()))
        shown = console.export_text()
        for row in rows(report().results):
            for cell in row.cells:
                assert cell in shown

    def test_where_ours_takes_more_it_stands_there(self) -> None:
        found = costs(report().results)
        assert found == [
            f"{name}: 9.5 s to the first write after a kill (median); auto-commit: 8.5."
            for name in ("checkpoint, at least once", "checkpoint, exactly once")
        ]

    def test_what_is_no_better_nor_worse_is_no_cost(self) -> None:
        same = [result(OURS_EXACTLY_ONCE), replace(result(OURS_EXACTLY_ONCE), contender=AUTO_COMMIT)]
        assert costs(same) == []

    def test_a_lead_that_ours_loses_or_doubles_is_a_flaw(self) -> None:
        assert flaws(report().results) == []
        assert flaws([result(OURS_EXACTLY_ONCE, lost=1)]) == ["checkpoint, exactly once lost 1 and doubled 0 leads."]
        assert flaws([result(OURS_EXACTLY_ONCE, doubled=2)])

    def test_an_audit_that_says_something_else_is_a_flaw(self) -> None:
        one = result(OURS_EXACTLY_ONCE)
        assert "do not agree" in flaws([replace(one, repair=replace(one.repair, agrees=False))])[0]

    def test_where_leads_were_lost_is_told(self) -> None:
        measures = replace(result(STOCK).measures, lost_after={"kill": 1, "stop": 3, "start": 2, "none": 1})
        assert losses(measures).startswith("3 while the database was stopped, 2 when the database was back, ")

    def test_what_was_not_killed_and_what_stayed_unread_is_noted(self) -> None:
        assert notes(report(full=True)) == []
        one = result(STOCK)
        odd = replace(one, measures=replace(one.measures, unread=7, kills=5))
        fewer, unread = notes(replace(report(), results=[odd]))
        assert fewer == "stock Faust: 5 of 6 kills; else the worker had just ended by itself."
        assert "7 records" in unread


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is written, with five contenders; drawing takes a second."""
    directory = tmp_path_factory.mktemp("compare")
    write(report(full=True), directory)
    return directory


class TestFiles:
    def test_the_json_has_everything(self) -> None:
        told = json.loads(json.dumps(report().as_json()))
        assert list(told["contenders"]) == [one.id for one in CONTENDERS]
        assert told["contenders"]["auto-commit"]["lost"] == 12
        assert told["contenders"]["exactly-once"]["repair"]["tool"] == OUR_TOOL
        assert told["faults"][0].keys() == {"at_s", "kind", "slot"}
        assert told["command"] == "leads compare --seed 1 --leads 10000 --kills 6"

    def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(self, files: Path) -> None:
        text = (files / "compare.html").read_text()
        _Balanced().feed(text)
        assert "://" not in text
        assert not re.search(r"<script|@import|url\((?!#)", text)
        assert set(re.findall(r'(?:href|src)="([^"#][^"]*)"', text)) == {"data:,"}
        ids = re.findall(r'\bid="([^"]*)"', text)
        wide, narrow = (set(re.findall(r'clipPath id="([^"]*)"', part)) for part in text.split('class="narrow"'))
        assert ids
        assert not wide & narrow
        for contender in CONTENDERS:
            assert contender.title in text

    def test_the_plot_is_an_svg_with_texts_and_nothing_from_elsewhere(self, files: Path) -> None:
        text = (files / "compare.svg").read_text()
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert set(re.findall(r'"(https?://[^"]*)"', text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        said = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("text"))
        assert "leads lost" in said
        assert "310" in said

    def test_the_same_results_give_the_same_plot(self, files: Path) -> None:
        again = bars.svg(panels(report(full=True).results), columns=COLUMNS)
        assert bars.standalone(again) == (files / "compare.svg").read_text()

    def test_nothing_measured_is_drawn_too(self) -> None:
        one = result(AUTO_COMMIT, again=None)
        empty = Spread(0, None, None)
        measures = replace(one.measures, first_write=empty, lag_zero=empty)
        none = replace(one, backlog_cpu_s_per_million=None, measures=measures)
        assert "–" in bars.svg(panels([none]), columns=3)


class _Balanced(HTMLParser):
    """Raises when an element is not closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def close(self) -> None:
        super().close()
        assert not self.open


class TestCommand:
    def test_a_missing_matplotlib_is_said_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bars, "find_spec", lambda name: None)
        done = CliRunner().invoke(compare, [])
        assert done.exit_code == 78
        assert "pip install matplotlib" in done.output

    def test_a_directory_that_cannot_be_made_is_said_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        done = CliRunner().invoke(compare, ["--out", str(tmp_path / "file" / "out")])
        assert done.exit_code == 73
        assert "cannot be made" in done.output


def test_accepted_is_small() -> None:
    """A million of them are kept at once."""
    assert not hasattr(Accepted(0, 0, 0.0), "__dict__")
