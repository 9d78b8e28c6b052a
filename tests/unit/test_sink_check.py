"""Whether a SQLite file can be the CRM: `leads doctor` and `leads check-sink` see it, and change nothing."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.inspection import sqlite_sink
from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.findings import Level
from pipeline.inspection.sink import sink
from pipeline.settings import Settings
from pipeline.sinks import SinkUnavailable
from pipeline.sinks.sqlite import SQLiteSink

NOT_OURS = "has a table {} that is not the CRM's: {}"


def look(path: Path) -> Any:
    """What `leads doctor` says of the database at `path`; whatever it is, nothing near it has changed after."""
    before = state(path.parent)
    finding = asyncio.run(sink(Settings.from_env({"LEADS_SINK_URL": f"sqlite:///{path}"})))
    assert state(path.parent) == before
    assert bool(finding.advice) == (finding.level is not Level.OK)
    return finding


def state(directory: Path) -> dict[str, bytes]:
    """Every file in it."""
    return {file.name: file.read_bytes() for file in directory.iterdir() if file.is_file()}


@contextmanager
def database(path: Path, *statements: str) -> Iterator[sqlite3.Connection]:
    """A connection to a database in which these were run."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
        yield connection


def make(path: Path) -> None:
    """The CRM's database, as a worker makes it."""

    async def make() -> None:
        made = SQLiteSink(path)
        await made.open()
        await made.close()

    asyncio.run(make())


def test_a_database_of_somebody_else_gets_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "crm.sqlite3"
    with database(path, "CREATE TABLE invoice (id INTEGER)"):
        pass
    finding = look(path)
    assert (finding.level, finding.found) == (Level.OK, f"the database {path} can be written")
    with database(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "crm").touch()
    assert look(tmp_path / "crm").level is Level.OK


def test_the_crm_itself(tmp_path: Path) -> None:
    make(tmp_path / "crm")
    assert look(tmp_path / "crm").found == f"the database {tmp_path / 'crm'} can be written"


def test_one_of_a_former_version_is_left_to_the_first_worker(tmp_path: Path) -> None:
    path = tmp_path / "crm"
    make(path)
    with database(path, "ALTER TABLE lead DROP COLUMN contact", "DROP TABLE contact", "DROP TABLE stream_offset"):
        pass
    finding = look(path)
    assert finding.level is Level.OK
    assert "of a former version" in finding.found
    make(path)
    assert look(path).found.endswith("can be written")


@pytest.mark.parametrize(
    "statement, why",
    [
        ("CREATE TABLE lead (id INTEGER, contact TEXT)", NOT_OURS.format("lead", "it lacks campaign, captured_at")),
        ("CREATE TABLE contact (name TEXT)", NOT_OURS.format("contact", "it lacks address, company")),
        ("CREATE VIEW stream_offset AS SELECT 1 AS a", NOT_OURS.format("stream_offset", "it lacks")),
    ],
)
def test_tables_of_somebody_else(tmp_path: Path, statement: str, why: str) -> None:
    with database(tmp_path / "crm", statement):
        pass
    finding = look(tmp_path / "crm")
    assert finding.level is Level.PROBLEM
    assert why in finding.found


@pytest.mark.parametrize(
    "change, why",
    [
        ("ALTER TABLE stream_offset ADD COLUMN more TEXT", "table stream_offset has 9 columns but 8 values"),
        ("ALTER TABLE lead DROP COLUMN phone", "it lacks phone"),
    ],
)
def test_tables_that_somebody_has_changed(tmp_path: Path, change: str, why: str) -> None:
    make(tmp_path / "crm")
    with database(tmp_path / "crm", change):
        pass
    assert why in look(tmp_path / "crm").found


def test_a_column_that_every_row_must_have_and_a_name_that_may_come_twice(tmp_path: Path) -> None:
    make(tmp_path / "crm")
    with database(tmp_path / "crm") as connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'lead'").fetchone()
    for name, other, why in (
        ("a", sql.replace("tenant ", "vat TEXT NOT NULL, tenant ", 1), "it needs vat in every row"),
        ("b", sql.replace("UNIQUE (tenant, message_id)", "CHECK (true)"), "does not match any PRIMARY KEY or UNIQUE"),
    ):
        with database(tmp_path / name, other):
            pass
        assert why in look(tmp_path / name).found


def test_a_column_that_need_not_be_there_does_no_harm(tmp_path: Path) -> None:
    make(tmp_path / "crm")
    with database(tmp_path / "crm", "ALTER TABLE lead ADD COLUMN owner TEXT"):
        pass
    assert look(tmp_path / "crm").level is Level.OK


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "crm").write_text("name;email\n" * 200)
    assert "is no SQLite database" in look(tmp_path / "crm").found
    (tmp_path / "directory").mkdir()
    assert "SQLITE_CANTOPEN" in look(tmp_path / "directory").found


def test_one_that_another_program_has_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_sink, "PATIENCE_S", 0.05)
    path = tmp_path / "crm"
    with database(path, "CREATE TABLE a (a)", "BEGIN IMMEDIATE") as connection:
        finding = look(path)
        connection.execute("ROLLBACK")
    assert "SQLITE_BUSY" in finding.found
    assert "lock" in finding.advice
    assert look(path).level is Level.OK


def test_one_that_is_gone_and_has_left_its_log(tmp_path: Path) -> None:
    (tmp_path / "crm-wal").write_bytes(b"rows")
    assert "crm-wal, which has rows, is there" in look(tmp_path / "crm").found


def test_a_path_that_leads_nowhere_and_what_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "crm")
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path / "circle", "cannot be opened: Too many levels of symbolic links"),
        (tmp_path / "circle" / "crm", "cannot be opened: Too many levels of symbolic links"),
        (tmp_path / ("a" * 300), "cannot be opened: File name too long"),
        (tmp_path / "nowhere", f"is a link to {tmp_path / 'gone' / 'crm'}, whose directory is not there"),
        (tmp_path / "pipe", "is not a file"),
        (Path("/dev/full"), "is not a file"),
    ):
        with pytest.raises(SinkUnusable, match=why):
            sqlite_sink.check(path)
        with pytest.raises(SinkUnavailable):
            make(path)


def test_a_link_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "crm")
    assert look(path).found.endswith("is not there yet; the first worker makes it")
    make(path)
    assert look(path).found == f"the database {path} can be written"


def check_sink(*args: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`leads check-sink` as a program."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "check-sink", *args],
        env={**inherited, **settings}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "crm"
    good = check_sink(LEADS_SINK_URL=f"sqlite:///{path}")
    assert (good.returncode, good.stdout, good.stderr) == (
        0,
        f"{path} is not there yet; the first worker makes it.\n",
        "",
    )
    path.write_text("no database, " * 100)
    bad = check_sink("--json", LEADS_SINK_URL=f"sqlite:///{path}")
    assert (bad.returncode, bad.stderr) == (os.EX_CONFIG, "")
    assert json.loads(bad.stdout) == {
        "sink": f"sqlite:///{path}",
        "ok": False,
        "found": f"{path} is no SQLite database",
        "advice": "Set LEADS_SINK_URL to another file.",
    }
    assert check_sink(LEADS_SINK_URL=f"sqlite:///{tmp_path}").returncode == os.EX_UNAVAILABLE


def test_the_command_with_a_sink_that_does_not_exist_and_its_password() -> None:
    for args in ((), ("--json",)):
        done = check_sink(*args, LEADS_SINK_URL="mysql://user:s3cret@host/crm")
        assert done.returncode == os.EX_CONFIG
        assert "LEADS_SINK_URL cannot be used: no sink has such a URL" in done.stdout + done.stderr
        assert "s3cret" not in done.stdout + done.stderr


def test_what_the_locale_cannot_say_is_escaped(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "check-sink"],
        env={**os.environ, "LEADS_SINK_URL": f"sqlite:///{tmp_path}/kühe✓", "PYTHONIOENCODING": "latin-1"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"k\xfche\\u2713 is not there yet" in done.stdout
