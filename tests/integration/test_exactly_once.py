"""One row for each record of lead-accepted, whatever happens to the workers, and without the help of the key.

The key of `lead` filters repeats, and would hide them. Here a trigger gives every row another name, so that nothing is
ever a repeat: only the offsets, moved in the transaction of the rows, keep a record from being written twice.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pipeline.embedded import Postgres, free_port
from pipeline.lab.proxy import Proxy
from pipeline.sinks import Sink, sink_for
from pipeline.topics import ACCEPTED
from tests.integration.installation import Installation
from tests.integration.loading import LOAD_PER_S, loaded

pytestmark = pytest.mark.integration

PLACES = "SELECT source_partition, source_offset FROM lead"
SUBMISSIONS = "SELECT coalesce(sum(submissions), 0) FROM contact"


class SQLiteCRM:
    """The default."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "var" / "crm.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def drop_key(self) -> None:
        self._execute("""
            CREATE TRIGGER no_key AFTER INSERT ON lead
            BEGIN UPDATE lead SET message_id = NEW.message_id || '#' || NEW.id WHERE id = NEW.id; END
        """)

    def query(self, sql: str) -> list[Any]:
        return self._execute(sql)

    def _execute(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            return connection.execute(sql).fetchall()


class PostgreSQLCRM:
    """A server behind a proxy."""

    def __init__(self, server: Postgres, proxy: Proxy) -> None:
        self.server = server
        self.url = server.url.replace(str(server.port), str(proxy.port))

    def drop_key(self) -> None:
        self.query("""
            CREATE FUNCTION no_key() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.message_id := NEW.message_id || '#' || NEW.id; RETURN NEW; END $$;
            CREATE TRIGGER no_key BEFORE INSERT ON lead FOR EACH ROW EXECUTE FUNCTION no_key();
        """)

    def query(self, sql: str) -> list[Any]:
        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self.server.url)
            try:
                if sql.lstrip().startswith("CREATE"):
                    return [await connection.execute(sql)]
                return [tuple(row) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(ask())


CRM = SQLiteCRM | PostgreSQLCRM


def prepared(crm: CRM) -> None:
    """Make the tables, as the first worker would, and take the key away."""

    async def make(sink: Sink) -> None:
        await sink.open()
        await sink.close()

    asyncio.run(make(sink_for(crm.url)))
    crm.drop_key()


def doubled(installation: Installation, crm: CRM) -> int:
    """How many rows are too many, once every record is written."""
    installation.wait(lambda: installation.lag(ACCEPTED) == 0)
    records = Counter((record.partition, record.offset) for record in installation.records(ACCEPTED))
    rows = Counter(crm.query(PLACES))
    assert rows.keys() == records.keys(), installation.logs()
    ((submissions,),) = crm.query(SUBMISSIONS)
    assert submissions == rows.total()
    return rows.total() - records.total()


@pytest.fixture(params=["sqlite", "postgresql"])
def crm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CRM]:
    if request.param == "sqlite":
        yield SQLiteCRM(tmp_path)
        return
    with Postgres(tmp_path / "postgres", port=free_port()) as server, Proxy(server.port) as proxy:
        yield PostgreSQLCRM(server, proxy)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "postgres", port=free_port()) as server:
        yield server


def sinking(tmp_path: Path, crm: CRM, **settings: str) -> Installation:
    """An installation whose workers only write the CRM."""
    return Installation(tmp_path, LEADS_SINK_URL=crm.url, LEADS_AGENTS="crm_sink", **settings)


def test_kills_zombies_and_rebalances_write_each_record_once(tmp_path: Path, crm: CRM) -> None:
    with sinking(tmp_path, crm) as installation:
        prepared(crm)
        with loaded(installation, topic=ACCEPTED) as (load, workers):
            zombie, killed = workers
            zombie.signal(signal.SIGSTOP)
            assignments = killed.text().count("Worker ready")
            installation.wait(lambda: killed.text().count("Worker ready") > assignments)
            load.wait_for(LOAD_PER_S)
            zombie.signal(signal.SIGCONT)
            load.wait_for(LOAD_PER_S // 2)
            for _ in range(3):
                killed.kill()
                killed = installation.worker().wait_ready()
                load.wait_for(LOAD_PER_S // 2)
            assert installation.worker().wait_ready().stop() == 0
            load.wait_for(LOAD_PER_S // 2)
        assert doubled(installation, crm) == 0
        assert zombie.process.poll() is None


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_answers_that_get_lost(tmp_path: Path, server: Postgres, guarantee: str) -> None:
    """The rows are committed, and the connection is cut before anybody knows. At least once then writes them again,
    which shows that this test would notice.
    """
    with Proxy(server.port) as proxy:
        crm = PostgreSQLCRM(server, proxy)
        with sinking(tmp_path, crm, LEADS_GUARANTEE=guarantee) as installation:
            prepared(crm)
            with loaded(installation, 1, topic=ACCEPTED) as (load, (worker,)):
                for _ in range(5):
                    proxy.answers_to_lose = 3
                    installation.wait(lambda: proxy.answers_to_lose == 0)
                    proxy.cut()
                    load.wait_for(LOAD_PER_S // 2)
            rows_too_many = doubled(installation, crm)
            assert proxy.answers_lost == 15
            assert rows_too_many == 0 if guarantee == "exactly-once" else rows_too_many > 0
            assert worker.process.poll() is None


def test_a_killed_database_and_one_that_is_away(tmp_path: Path, server: Postgres) -> None:
    with Proxy(server.port) as proxy:
        crm = PostgreSQLCRM(server, proxy)
        with sinking(tmp_path, crm) as installation:
            prepared(crm)
            with loaded(installation, topic=ACCEPTED) as (load, workers):
                for _ in range(2):
                    server.kill()
                    load.wait_for(LOAD_PER_S // 2)
                    server.start()
                    load.wait_for(LOAD_PER_S // 2)
            assert doubled(installation, crm) == 0
            assert [worker.process.poll() for worker in workers] == [None, None]


def test_a_rebalance_does_not_wait_for_a_database_that_does_not_answer(tmp_path: Path, server: Postgres) -> None:
    with Proxy(server.port) as proxy:
        crm = PostgreSQLCRM(server, proxy)
        with sinking(tmp_path, crm) as installation:
            prepared(crm)
            with loaded(installation, 1, topic=ACCEPTED) as (load, (first,)):
                assignments = first.text().count("Worker ready")
                server.pause()
                second = installation.worker()
                installation.wait(lambda: "Worker ready" in second.text())
                installation.wait(lambda: first.text().count("Worker ready") > assignments)
                server.resume()
                load.wait_for(LOAD_PER_S // 2)
            assert doubled(installation, crm) == 0
            assert [first.process.poll(), second.process.poll()] == [None, None]


def test_a_database_that_is_another_one_gets_every_lead(tmp_path: Path) -> None:
    """Moved away by somebody while workers write to it: SQLite itself then loses what is only in its log."""
    with Installation(tmp_path) as installation:
        crm = SQLiteCRM(tmp_path)
        with loaded(installation) as (load, _):
            crm.path.rename(crm.path.with_name("moved.sqlite3"))
            load.wait_for(LOAD_PER_S)
            for worker in installation.workers[:2]:
                assert worker.process.wait(timeout=60) not in (0, 78)
            for _ in range(2):
                installation.worker().wait_ready()
            load.wait_for(LOAD_PER_S)
        installation.assert_once(load.sent)
