"""`leads check-sink` on a real PostgreSQL: it agrees with the sink about what can be written, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pipeline.embedded import Postgres, free_port
from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.sink import require_sink
from pipeline.settings import Settings
from pipeline.sinks.postgresql import PostgreSQLSink
from tests.unit.test_sink_check import check_sink

pytestmark = pytest.mark.integration

SECRET = "s3cret"
_numbers = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), port=free_port()) as server:
        yield server


def query(url: str, *statements: str) -> list[Any]:
    """Run these; returns the rows of the last one."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return [await connection.fetch(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


class Crm:
    """A database of its own, the one of a user without rights."""

    def __init__(self, server: Postgres) -> None:
        self.name = f"crm_{next(_numbers)}"
        self.root = server.url.rpartition("/")[0] + f"/{self.name}"
        self.url = f"postgresql://{self.name}@127.0.0.1:{server.port}/{self.name}"
        query(
            server.url,
            f"CREATE USER {self.name} PASSWORD '{SECRET}'",
            f"CREATE DATABASE {self.name}",
        )
        self.allow("ALL ON SCHEMA public")

    def allow(self, what: str) -> None:
        query(self.root, f"GRANT {what} TO {self.name}")

    def refuse(self, what: str) -> None:
        query(self.root, f"REVOKE {what} FROM PUBLIC, {self.name}")

    def make(self) -> None:
        """Let the owner of the database make the tables, who is somebody else."""
        assert asyncio.run(_writes(PostgreSQLSink(self.root)))

    def tables(self) -> list[Any]:
        return query(
            self.root, "SELECT oid, relname, xmin::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )

    def look(self) -> str:
        """What is said, or why it cannot be used. The sink agrees, and nothing has changed."""
        before = self.tables()
        try:
            found, is_well = asyncio.run(require_sink(self.settings)), True
        except SinkUnusable as error:
            found, is_well = f"{error.found} {error.advice} ({error.status})", False
        assert self.tables() == before
        assert SECRET not in found
        assert asyncio.run(_writes(PostgreSQLSink(self.url, password=SECRET))) is is_well
        return found

    @property
    def settings(self) -> Settings:
        return Settings.from_env(self.environ)

    @property
    def environ(self) -> dict[str, str]:
        return {"LEADS_SINK_URL": self.url, "LEADS_SINK_PASSWORD": SECRET}


async def _writes(sink: PostgreSQLSink) -> bool:
    """Whether the sink opens and takes an empty batch."""
    try:
        await sink.open()
        await sink.write([])
    except Exception:
        return False
    finally:
        await sink.close()
    return True


@pytest.fixture
def crm(server: Postgres) -> Crm:
    return Crm(server)


def test_an_empty_database_then_the_crm_s(crm: Crm) -> None:
    assert "can be written; the first worker makes its tables" in crm.look()
    assert crm.look().endswith("can be written")  # the sink has made them meanwhile
    done = check_sink(**crm.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"postgresql://{crm.url.rpartition('@')[2]} can be written.\n"


def test_no_right_to_make_tables(crm: Crm) -> None:
    crm.refuse("CREATE ON SCHEMA public")
    assert f"{crm.name} may not make tables in the schema public" in crm.look()


def test_tables_that_another_user_has_made(crm: Crm) -> None:
    crm.make()
    assert f"{crm.name} has not the right to SELECT on leads_schema" in crm.look()
    crm.allow("SELECT ON leads_schema")
    crm.allow("SELECT, INSERT, UPDATE ON lead, contact, stream_offset")
    assert crm.look().endswith("can be written")
    crm.refuse("CREATE ON SCHEMA public")  # which is for who makes them
    assert crm.look().endswith("can be written")


def test_a_table_of_somebody_else(crm: Crm) -> None:
    query(crm.root, "CREATE TABLE lead (id integer)")
    crm.allow("ALL ON lead")
    found = crm.look()
    assert "has tables that are not the CRM's: lead" in found
    assert found.endswith("(78)")


def test_a_newer_version_of_the_tables(crm: Crm) -> None:
    crm.make()
    query(crm.root, "UPDATE leads_schema SET version = 99")
    crm.allow("ALL ON ALL TABLES IN SCHEMA public")
    assert "has version 99 of the tables, and this program 1" in crm.look()


def test_transactions_that_only_read(crm: Crm) -> None:
    query(crm.root, f"ALTER DATABASE {crm.name} SET default_transaction_read_only = on")
    assert "is set so that transactions only read" in crm.look()


def test_a_wrong_password_is_no_text_of_the_driver(crm: Crm) -> None:
    done = check_sink("--json", **{**crm.environ, "LEADS_SINK_PASSWORD": f"{SECRET}-wrong"})
    assert (done.returncode, done.stderr) == (os.EX_CONFIG, "")
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert "InvalidPassword (28P01)" in told["found"]
    assert "LEADS_SINK_PASSWORD" in told["advice"]
    assert SECRET not in done.stdout


def test_no_such_database(crm: Crm) -> None:
    done = check_sink(**{**crm.environ, "LEADS_SINK_URL": crm.url + "x"})
    assert done.returncode == os.EX_CONFIG
    assert "There is no such database" in done.stderr


def test_a_server_that_is_frozen_and_one_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.sinks.postgresql.CONNECT_TIMEOUT_S", 0.5)
    with Postgres(tmp_path / "pg", port=free_port()) as own:
        settings = Settings.from_env({"LEADS_SINK_URL": own.url})
        own.pause()
        frozen = unusable(settings)
        own.resume()
    away = unusable(settings)
    assert "does not answer" in frozen.found
    assert "It hangs" in frozen.advice
    assert "nothing listens" in away.found
    assert (frozen.status, away.status) == (os.EX_UNAVAILABLE, os.EX_UNAVAILABLE)
    password = own.url.partition("leads:")[2].partition("@")[0]
    assert password
    assert password not in f"{frozen.found} {frozen.advice} {away.found} {away.advice}"


def unusable(settings: Settings) -> SinkUnusable:
    with pytest.raises(SinkUnusable) as error:
        asyncio.run(require_sink(settings))
    return error.value
