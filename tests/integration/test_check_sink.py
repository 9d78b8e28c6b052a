"""`leads check-sink` on a real PostgreSQL: it agrees with the sink about what can be written, and changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pipeline.embedded import Postgres, free_port
from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.sink import require_sink
from pipeline.settings import Settings
from pipeline.sinks import SinkUnavailable
from pipeline.sinks import SinkUnusable as InvalidSink
from pipeline.sinks.postgresql import PostgreSQLSink
from pipeline.sinks.postgresql_rows import COLUMNS
from tests.unit.sink_contract import LANE, accepted, at
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
        query(self.root, "TRUNCATE lead")

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
    """Whether the sink opens, takes a lead and can be put somewhere."""
    try:
        await sink.open()
        await sink.offsets({LANE: at(0)})
        await sink.write([accepted(1)])
        await sink.put_offset(LANE, at(0))
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


@pytest.mark.parametrize(
    "change, why",
    [
        ("ALTER TABLE lead DROP COLUMN company", "has tables that are not the CRM's: UndefinedColumn (42703)"),
        ("ALTER TABLE lead DROP CONSTRAINT lead_name", "has tables that are not the CRM's: InvalidColumnReference"),
        ("ALTER TABLE lead ALTER source_offset TYPE text", "has tables that are not the CRM's: UndefinedFunction"),
        ("ALTER TABLE lead ADD COLUMN vat text NOT NULL", "has a table lead that is not the CRM's: it needs vat"),
        ("DROP TABLE contact", "says that it has the CRM's tables, and lacks contact"),
        ("ALTER TABLE leads_schema RENAME version TO name", "has a table leads_schema that is not the CRM's: Undefin"),
        ("ALTER TABLE leads_schema ALTER version TYPE text", "has a table leads_schema that is not the CRM's: its v"),
    ],
)
def test_tables_that_somebody_has_changed(crm: Crm, change: str, why: str) -> None:
    crm.make()
    query(crm.root, change)
    crm.allow("ALL ON ALL TABLES IN SCHEMA public")
    found = crm.look()
    assert why in found
    assert found.endswith("(78)")


def test_changes_that_do_no_harm(crm: Crm) -> None:
    crm.make()
    query(crm.root, "ALTER TABLE lead ADD COLUMN owner text", "ALTER TABLE contact ADD COLUMN n int NOT NULL DEFAULT 0")
    crm.allow("SELECT ON leads_schema")
    crm.allow("SELECT, INSERT, UPDATE ON contact, stream_offset")
    crm.allow(f"SELECT, INSERT ({', '.join(COLUMNS)}) ON lead")
    assert crm.look().endswith("can be written")


def test_one_right_is_lacking(crm: Crm) -> None:
    crm.make()
    crm.allow("ALL ON ALL TABLES IN SCHEMA public")
    crm.refuse("UPDATE ON stream_offset")
    assert "has not the right to UPDATE on stream_offset" in crm.look()


def test_tables_in_a_schema_behind_the_one_of_the_user(crm: Crm) -> None:
    query(crm.root, "CREATE TABLE lead (id integer)", f"CREATE SCHEMA AUTHORIZATION {crm.name}")
    assert crm.look().endswith("the first worker makes its tables")
    assert crm.look().endswith("can be written")


def test_no_schema_that_the_user_may_use_is_waited_for(crm: Crm) -> None:
    crm.make()
    query(crm.root, f"ALTER ROLE {crm.name} SET search_path = nowhere")
    assert "may not make tables in the schema (none in the search_path)" in crm.look()
    with pytest.raises(SinkUnavailable, match="InvalidSchemaName"):
        asyncio.run(PostgreSQLSink(crm.url, password=SECRET).open())


def test_options_that_are_wrong_end_a_worker(crm: Crm) -> None:
    url = f"{crm.url}?sslmode=bogus"
    done = check_sink(**{**crm.environ, "LEADS_SINK_URL": url})
    assert done.returncode == os.EX_CONFIG
    assert "its options are wrong" in done.stderr
    with pytest.raises(InvalidSink, match="an option of LEADS_SINK_URL"):
        asyncio.run(PostgreSQLSink(url, password=SECRET).open())
    done = check_sink(**{**crm.environ, "LEADS_SINK_URL": f"{crm.url}?sslmode=verify-full&sslrootcert=/gone"})
    assert done.returncode == os.EX_UNAVAILABLE
    assert "a file that postgresql://127.0.0.1" in done.stderr


def test_a_certificate_that_is_not_trusted(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *files, "-subj", "/CN=localhost"]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    tls = f"sslmode=verify-full&sslrootcert={tmp_path / 'cert.pem'}"  # of another host

    async def shakes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # PostgreSQL's question for TLS
        writer.write(b"S")
        with suppress(OSError):  # the client hangs up
            await writer.start_tls(context)
        writer.close()

    async def look() -> SinkUnusable:
        server = await asyncio.start_server(shakes, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        settings = Settings.from_env({"LEADS_SINK_URL": f"postgresql://u@127.0.0.1:{port}/crm?{tls}"})
        with pytest.raises(SinkUnusable) as error:
            await require_sink(settings)
        server.close()
        return error.value

    found = asyncio.run(look())
    assert "cannot be reached by TLS: CERTIFICATE_VERIFY_FAILED" in found.found
    assert "sslrootcert" in found.advice


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
