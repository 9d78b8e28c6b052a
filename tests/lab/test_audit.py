"""`leads audit`: no alarm of a system that runs, planted anomalies are found, and mending heals them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result

from pipeline import topics
from pipeline.commands.audit import audit as command
from pipeline.embedded import Postgres, free_port
from tests.integration.asking import post
from tests.integration.broker_side import delete_records, leads_in
from tests.integration.crm_side import let_in, refuse
from tests.integration.installation import Installation, key, lead, leads
from tests.integration.loading import LOAD_PER_S, loaded
from tests.integration.running import run

pytestmark = pytest.mark.integration


class CRM:
    """The database of the workers, changed behind their back."""

    def __init__(self, url: str) -> None:
        self.url = url

    def execute(self, sql: str) -> list[Any]:
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=30)) as connection, connection:
                return connection.execute(sql).fetchall()
        return asyncio.run(self._ask(sql))

    async def _ask(self, sql: str) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    def count(self) -> int:
        return int(self.execute("SELECT count(*) FROM lead")[0][0])

    def delete(self, message_id: str) -> None:
        """A lead and what its contact counts of it."""
        self.execute(f"UPDATE contact SET submissions = submissions - 1 WHERE address = '{message_id}@example.com'")
        self.execute(f"DELETE FROM lead WHERE message_id = '{message_id}'")


@pytest.fixture(params=["sqlite", "postgresql"])
def crm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CRM]:
    if request.param == "sqlite":
        yield CRM(f"sqlite:///{tmp_path / 'var' / 'crm.sqlite3'}")
        return
    with Postgres(tmp_path / "postgres", port=free_port()) as server:
        yield CRM(server.url)


def leads_audit(installation: Installation, *args: str, **settings: str) -> Result:
    """The command, in this process: Python takes longer to start than most audits."""
    environ = {**installation._settings, **settings}
    return CliRunner().invoke(command, args, env=environ, prog_name="leads audit", catch_exceptions=False)


def audit(installation: Installation, *args: str, status: int = 0, **settings: str) -> dict[str, Any]:
    """What it says, and that it says nothing else."""
    done = leads_audit(installation, "--json", *args, **settings)
    assert done.exit_code == status, done.output
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kinds(found: dict[str, Any]) -> dict[str, int]:
    """How many anomalies of each kind."""
    return {kind: count for kind, count in found["by_kind"].items() if count}


def listed(found: dict[str, Any], kind: str) -> set[str]:
    """The message ids of the listed anomalies of a kind."""
    return {one["message_id"] for one in found["listed"] if one["kind"] == kind}


@pytest.mark.parametrize(
    "crm,guarantee",
    [("sqlite", "exactly-once"), ("sqlite", "at-least-once"), ("postgresql", "exactly-once")],
    indirect=["crm"],
)
def test_no_false_alarm_under_load_and_kills(tmp_path: Path, crm: CRM, guarantee: str) -> None:
    settings = {"LEADS_SINK_URL": crm.url, "LEADS_GUARANTEE": guarantee, "LEADS_SESSION_TIMEOUT_S": "6"}
    with Installation(tmp_path, **settings) as installation:
        with loaded(installation) as (load, workers):
            for one in (lead("load-0000001", name="another"), lead("load-0000001")):
                post(workers[0], one)
            installation.produce_raw([(key(lead("no-lead")), b"no lead"), (None, b"{}")])
            for victim in workers:
                victim.kill()
                audit(installation)
                installation.worker()
                load.wait_for(LOAD_PER_S)
                audit(installation)
        installation.wait(installation.drained)
        found = audit(installation)
        assert found["reasons"] == {"id-conflict": 1, "invalid": 2}
        assert found["written"] == found["rows"] == crm.count() == len(load.sent)
        records = len(installation.records(topics.CAPTURED))
        assert found["records"] == records == found["written"] + found["duplicate"] + 3
        assert (found["pending"], found["forgotten"]) == (0, 0)


def test_planted_anomalies_are_found_and_mended(tmp_path: Path, crm: CRM) -> None:
    with Installation(tmp_path, LEADS_SINK_URL=crm.url) as installation:
        worker = installation.worker().wait_ready()
        sent = leads(200)
        installation.produce([*sent, *sent[:20]])
        installation.wait(installation.drained)
        assert audit(installation)["duplicate"] == 20
        assert worker.stop() == 0

        # Neither is ever read: one behind the back of dedupe, one behind that of the CRM's checkpoint.
        skipped, behind = leads_in(3, 5, "skipped"), leads_in(4, 4, "behind")
        installation.produce([*skipped, skipped[0]])
        skip(installation, topics.CAPTURED, "3")
        installation.produce(behind, topics.ACCEPTED)
        installation.produce(behind)
        skip(installation, topics.CAPTURED, "4")
        skip(installation, topics.ACCEPTED, "4")
        for number in range(3):
            crm.delete(f"m-{number:06d}")
        crm.execute("DELETE FROM lead WHERE message_id = 'm-000010'")
        crm.execute("UPDATE contact SET submissions = 7 WHERE address = 'm-000011@example.com'")
        crm.execute("UPDATE lead SET company = 'Edited' WHERE message_id = 'm-000012'")
        crm.execute(
            "INSERT INTO lead (tenant, message_id, contact, fields, source_partition, source_offset, written_at)"
            " VALUES ('default', 'phantom', 'nobody', '{}', 0, 9999, '2026-01-01T00:00:00Z')"
        )
        found = audit(installation, status=1)
        assert kinds(found) == {"lost": 5, "missing": 8, "differs": 1, "phantom": 1, "counter": 3}
        assert listed(found, "lost") == {one["message_id"] for one in skipped}
        gone = {f"m-{number:06d}" for number in (0, 1, 2, 10)}
        assert listed(found, "missing") == gone | {one["message_id"] for one in behind}
        assert listed(found, "differs") == {"m-000012"}
        assert listed(found, "phantom") == {"phantom"}
        assert listed(found, "counter") == {"m-000011", "phantom", None}  # that of m-000010 has no leads any more
        assert found["duplicate"] == 21
        places = {(one["partition"], one["offset"]) for one in found["listed"] if one["kind"] == "lost"}
        *firsts, _ = [r for r in installation.records(topics.CAPTURED) if r.partition == 3 and b"skipped" in r.key]
        assert places == {(3, one.offset) for one in firsts}, "and not the repeat of one"
        text = leads_audit(installation, "--limit", "1").stdout
        assert "18  anomalies: 5 lost, 8 missing, 1 differs, 1 phantom, 3 counter" in text
        assert "and 13 more of the same kinds" in text
        assert "@example.com" not in text

        before = installation.ends(topics.ACCEPTED)
        dry = audit(installation, "--mend", "--dry-run", status=1)
        assert (dry["mended"], dry["dry_run"]) == ({"sent": 13, "skipped": {}}, True)
        assert installation.ends(topics.ACCEPTED) == before
        assert audit(installation, "--mend", status=1)["mended"]["sent"] == 13
        # On their way: to mend once more sends nothing.
        again = audit(installation, "--mend", status=1)
        assert (kinds(again), again["mended"]["sent"]) == ({"differs": 1, "phantom": 1, "counter": 3}, 0)
        installation.worker().wait_ready()
        installation.wait(installation.drained)
        crm.execute("DELETE FROM lead WHERE message_id = 'phantom'")
        crm.execute("UPDATE lead SET company = 'Example Company' WHERE message_id = 'm-000012'")
        crm.execute(
            "UPDATE contact SET submissions = 1 WHERE address IN ('m-000010@example.com', 'm-000011@example.com')"
        )
        healed = audit(installation)
        assert (healed["written"], healed["rows"], healed["pending"]) == (209, 209, 0)


def skip(installation: Installation, topic: str, partition: str) -> None:
    """Go on at the end."""
    done = run(installation, "skip", topic, partition, "end")
    assert done.returncode == 0, done.stderr


def test_a_second_crm_is_judged_by_its_own_books(installation: Installation) -> None:
    installation.worker().wait_ready()
    path = installation.directory / "crm2.sqlite3"
    second = {
        "LEADS_APP_ID": "leads-crm2",
        "LEADS_AGENTS": "crm_sink",
        "LEADS_SINK_URL": f"sqlite:///{path}",
        "LEADS_DATA_DIR": str(installation.directory / "var2"),
    }
    other = installation.worker(**second).wait_ready()
    refuse(installation, "bad-%")
    sent, bad = leads(50), leads(5, "bad")
    installation.produce([*sent, *bad])
    installation.wait(installation.drained)
    installation.wait(lambda: installation.lag(topics.ACCEPTED, "leads-crm2") == 0)
    here, there = audit(installation), audit(installation, **second)
    assert (here["written"], here["reasons"], here["deduped_by"]) == (50, {"rejected": 5}, "leads")
    assert (there["written"], there["reasons"], there["deduped_by"]) == (55, {}, "leads")
    other.kill()
    installation.produce(more := leads(10, "more"))
    installation.wait(installation.drained)
    assert audit(installation)["written"] == 50 + len(more)
    assert audit(installation, **second)["pending"] == len(more)
    CRM(f"sqlite:///{path}").delete("m-000001")
    assert kinds(audit(installation, status=1, **second)) == {"missing": 1}
    audit(installation)
    let_in(installation)
    audit(installation, "--mend", **second)  # the first CRM has it already
    installation.wait(installation.drained)
    installation.worker(**second).wait_ready()
    installation.wait(lambda: installation.lag(topics.ACCEPTED, "leads-crm2") == 0)
    audit(installation)
    audit(installation, **second)


def test_a_part_of_the_log_and_every_record(installation: Installation) -> None:
    installation.worker().wait_ready()
    sent = leads_in(2, 30)
    installation.produce([*sent, *sent[:10], lead(sent[0]["message_id"], name="another"), *leads(20)])
    installation.wait(installation.drained)
    CRM(f"sqlite:///{installation.directory / 'var' / 'crm.sqlite3'}").delete(sent[25]["message_id"])
    assert audit(installation, "--partition", "2", "--from", "0", "--to", "25")["written"] == 25
    found = audit(installation, "--partition", "2", "--from", "20", "--to", "35", status=1)
    # The repeats are of leads before the range.
    assert (found["records"], found["written"], kinds(found)) == (15, 14, {"missing": 1})
    assert audit(installation, "--until", "1h")["records"] == 0
    assert audit(installation, "--since", "1h", status=1)["records"] == 61
    assert audit(installation, "--since", "2000-01-01", "--partition", "2", status=1)["duplicate"] == 10
    done = leads_audit(installation, "--records")
    *records, summary = map(json.loads, done.stdout.splitlines())
    assert (done.exit_code, len(records), summary["records"]) == (1, 61, 61)
    told = {(one["partition"], one["offset"]): one for one in records}
    assert len(told) == 61
    assert told[2, 3]["verdict"] == "written"
    assert (told[2, 33]["verdict"], told[2, 33]["of"]) == ("duplicate", {"partition": 2, "offset": 3})
    assert (told[2, 40]["verdict"], told[2, 40]["reason"]) == ("dead-lettered", "id-conflict")
    assert told[2, 25] == {"partition": 2, "offset": 25, "verdict": "missing"}


def test_what_retention_deleted_raises_no_alarm(installation: Installation) -> None:
    installation.worker().wait_ready()
    sent = leads_in(5, 20)
    installation.produce([*sent, lead(sent[0]["message_id"], name="another")])
    installation.wait(installation.drained)
    installation.wait(lambda: len(installation.dead_letters()) == 1)
    # Rows outlive lead-accepted, and those whose records are gone are no phantoms.
    delete_records(installation, topics.ACCEPTED, {5: 20})
    delete_records(installation, topics.CAPTURED, {5: 4})
    found = audit(installation)
    assert (found["written"], found["reasons"], found["rows"]) == (16, {"id-conflict": 1}, 20)
    delete_records(installation, topics.DEAD_LETTER, {5: 1})
    found = audit(installation)
    assert (found["written"], found["forgotten"]) == (16, 1)


def test_what_it_cannot_do_is_a_sentence(installation: Installation) -> None:
    def refused(*args: str, **settings: str) -> tuple[int, str]:
        done = leads_audit(installation, *args, **settings)
        assert done.stdout == ""
        return done.exit_code, done.stderr.splitlines()[-1]

    status, said = refused()
    assert (status, "No worker has started yet" in said) == (69, True)
    installation.create_topics()
    # A new broker makes its topic of offsets when it is first asked for a group.
    installation.wait(lambda: leads_audit(installation).exit_code == 0)
    assert audit(installation)["records"] == 0
    assert leads_audit(installation).stdout.endswith("The books balance.\n")
    assert refused("--from", "3")[0] == refused("--dry-run")[0] == refused("--since", "x")[0] == 2
    assert refused("--partition", "99")[0] == refused("--deduped-by", "nobody")[0] == 64
    assert refused(LEADS_AGENTS="dedupe")[0] == 78
    assert refused(LEADS_SINK_URL="memory:")[0] == 78
    away = "postgresql://leads:hunter2@127.0.0.1:1/leads"
    status, said = refused(LEADS_SINK_URL=away)
    assert (status, "cannot be read: ConnectionRefusedError" in said, "hunter2" in said) == (69, True, False)
    broken = installation.directory / "broken"
    broken.write_text("no database, but long enough to be taken for one" * 100)
    assert "SQLITE_NOTADB" in refused(LEADS_SINK_URL=f"sqlite:///{broken}")[1]

    worker = installation.worker().wait_ready()
    installation.produce(leads(10))
    installation.wait(installation.drained)
    status, said = refused(LEADS_SINK_URL=f"sqlite:///{installation.directory / 'elsewhere'}")
    assert (status, "has not the tables of one" in said) == (78, True)
    assert not (installation.directory / "elsewhere").exists()
    worker.kill()
    installation.broker.kill()
    status, said = refused()
    assert (status, "cannot be reached" in said) == (69, True)
