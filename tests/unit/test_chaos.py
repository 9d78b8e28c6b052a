"""What a chaos run decides before it begins, and what it says when it is over."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline.commands.chaos import chaos
from pipeline.lab.chaos_report import ChaosPlan, Inflicted, Report
from pipeline.lab.crew import End
from pipeline.lab.faults import FAULTS, nodes_for, together, unfit
from pipeline.lab.installation import POSTGRESQL, SQLITE
from pipeline.lab.schedule import Planned
from pipeline.lab.small_disk import SmallDisk
from pipeline.lab.verdict import Kind, Verdict

ISSUE = {
    "kill-worker", "pause-worker", "rebalance", "kill-broker", "broker-away", "kill-leader", "stop-database",
    "kill-database", "wipe-state", "slow-network", "disk-full",
}  # fmt: skip
PLAN = ChaosPlan(
    seed=7, minutes=0.5, faults=("kill-worker", "disk-full"), guarantee="exactly-once", database=SQLITE, nodes=1,
    workers=2, rate=500.0,
)  # fmt: skip


class TestWhichFaultsFit:
    def test_all_have_names(self) -> None:
        assert FAULTS.keys() == ISSUE

    def test_all_of_them_can_run_with_what_is_the_default(self) -> None:
        nodes = nodes_for(tuple(FAULTS))
        assert nodes == 3
        assert unfit(tuple(FAULTS), nodes=nodes, database=POSTGRESQL).keys() <= {"disk-full"}

    def test_without_one_for_which_three_are_needed_there_is_one_broker(self) -> None:
        assert nodes_for(("kill-worker", "kill-broker")) == 1
        assert nodes_for(("kill-worker", "kill-leader")) == 3

    def test_what_does_not_fit_is_named_with_the_reason(self) -> None:
        found = unfit(("kill-leader", "kill-database", "kill-worker"), nodes=1, database=SQLITE)
        assert found == {"kill-leader": "it needs 3 brokers", "kill-database": "SQLite has no process to kill"}

    def test_a_disk_that_cannot_be_mounted_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert unfit(("disk-full",), nodes=1, database=SQLITE).keys() == {"disk-full"}
        assert SmallDisk.unfit()


class TestWhichFaultsRunTogether:
    def test_two_that_touch_different_things(self) -> None:
        assert together([FAULTS["kill-worker"]], FAULTS["stop-database"])
        assert together([FAULTS["slow-network"]], FAULTS["kill-leader"])

    def test_not_two_that_touch_the_same(self) -> None:
        assert not together([FAULTS["kill-worker"]], FAULTS["pause-worker"])
        assert not together([FAULTS["kill-broker"]], FAULTS["kill-leader"])

    def test_not_three(self) -> None:
        assert not together([FAULTS["kill-worker"], FAULTS["stop-database"]], FAULTS["kill-broker"])

    def test_nothing_beside_a_full_disk(self) -> None:
        assert not any(together([FAULTS["disk-full"]], fault) for fault in FAULTS.values())
        assert together([], FAULTS["disk-full"])


def report(*violations: Kind) -> Report:
    names = (
        "leads",
        "sent",
        "ok",
        "fail",
        "info",
        "repeats",
        "captured",
        "accepted",
        "rows",
        "dead letters",
        "spooled",
    )
    verdict = Verdict({name: 1000 + place for place, name in enumerate(names)})
    for kind in violations:
        verdict.add(kind, "lead 17 (x)")
    planned = Planned(0, 3.0, "kill-worker", 5)
    return Report(
        PLAN, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 71.25, "abc123", {"aiokafka": "1"}, {"cpus": 2}, [planned],
        {"disk-full": "only root"}, [Inflicted(planned, 3.1, 8.2, "worker-1")], [End(4.0, 1, 74)], verdict,
        {"looks": 4, "failed": 1, "records": 900},
    )  # fmt: skip


def text(of: Report) -> str:
    console = Console(width=100, record=True, file=StringIO())
    console.print(of.shown())
    return console.export_text()


class TestTheReport:
    def test_says_how_to_replay_it(self) -> None:
        assert PLAN.command() == (
            "leads chaos --seed 7 --minutes 0.5 --faults kill-worker,disk-full --guarantee exactly-once "
            "--database sqlite --nodes 1 --workers 2 --rate 500"
        )

    def test_what_it_says_is_a_command(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        plans: list[ChaosPlan] = []

        def note(plan: ChaosPlan, *given: object, **more: object) -> Report:
            plans.append(plan)
            return report()

        monkeypatch.setattr("pipeline.commands.chaos.run", note)
        monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path))
        done = CliRunner().invoke(chaos, PLAN.command().split()[2:])
        assert done.exit_code == 0, done.output
        assert plans == [PLAN]

    def test_has_seed_commit_versions_schedule_and_verdict(self, tmp_path: Path) -> None:
        path = report(Kind.LOST).write(tmp_path / "chaos")
        assert path.name == "20260102T030405Z-seed-7.json"
        found = json.loads(path.read_text())
        assert (found["seed"], found["commit"], found["versions"]) == (7, "abc123", {"aiokafka": "1"})
        assert found["schedule"] == [{"index": 0, "at_s": 3.0, "name": "kill-worker", "seed": 5}]
        assert found["faults"][0]["did"] == "worker-1"
        assert found["not_run"] == {"disk-full": "only root"}
        assert found["ended_by_themselves"] == [{"at_s": 4.0, "slot": 1, "status": 74}]
        assert found["verdict"]["violations"]["lost"] == 1
        assert found["verdict"]["examples"] == {"lost": ["lead 17 (x)"]}

    def test_shows_faults_counts_and_that_nothing_is_wrong(self) -> None:
        shown = " ".join(text(report()).split())
        assert "kill-worker 1 5.1 5.1" in shown
        assert "disk-full not run: only root" in shown
        assert "rows 1,008 in the CRM" in shown
        assert "0 lost 0 doubled 0 phantom 0 altered 0 checkpoint ahead 0 counter wrong" in shown
        assert "1,000 leads under 1 faults in 71 s: nothing is wrong." in shown
        assert "leads chaos --seed 7" in shown

    def test_shows_what_is_wrong(self) -> None:
        shown = text(report(*[Kind.LOST] * 12, Kind.COUNTER))
        assert "12 lost" in shown
        assert shown.count("lost: lead 17 (x)") == 10
        assert "lost: and 2 more" in shown
        assert "13 violations" in shown


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _data(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path / "var"))

    def test_ends_with_1_when_something_is_wrong_and_keeps_what_there_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        directories: list[Path] = []

        def note(plan: ChaosPlan, directory: Path, **more: object) -> Report:
            directories.append(directory)
            return report(Kind.LOST)

        monkeypatch.setattr("pipeline.commands.chaos.run", note)
        done = CliRunner().invoke(chaos, [])
        assert done.exit_code == 1
        (kept,) = directories
        assert str(kept) in done.output.replace("\n", "")
        kept.rmdir()

    def test_removes_what_there_is_when_nothing_is_wrong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        directories: list[Path] = []

        def note(plan: ChaosPlan, directory: Path, **more: object) -> Report:
            directories.append(directory)
            return report()

        monkeypatch.setattr("pipeline.commands.chaos.run", note)
        assert CliRunner().invoke(chaos, []).exit_code == 0
        assert not directories[0].exists()

    @pytest.mark.parametrize(
        "args, said",
        [
            (["--faults", "kill-workers"], "'kill-workers' is none of: kill-worker, pause-worker"),
            (["--minutes", "0"], "0"),
            (["--database", "oracle"], "oracle"),
        ],
    )
    def test_refuses_what_makes_no_sense(self, args: list[str], said: str) -> None:
        done = CliRunner().invoke(chaos, args)
        assert done.exit_code == 2
        assert said in done.output

    def test_refuses_to_keep_it_where_something_is(self, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept" / "x").touch()
        done = CliRunner().invoke(chaos, ["--keep", str(tmp_path / "kept")])
        assert done.exit_code == 2
        assert "is not empty" in done.output

    def test_names_every_fault_in_its_help(self) -> None:
        shown = CliRunner().invoke(chaos, ["--help"]).output
        assert all(name in shown for name in FAULTS)
