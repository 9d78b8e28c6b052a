"""PostgreSQL keeps the contract of the sinks; and what is particular to it. On a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from pipeline.embedded import Postgres, free_port
from pipeline.lead import Lead
from pipeline.sinks.contact import Contact
from pipeline.sinks.postgresql import PostgreSQLSink
from tests.unit.sink_contract import SinkContract, lead_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), port=free_port()) as server:
        yield server


class PostgreSQLStore:
    """A database of the server; the outage is one that nobody may connect to."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self.url = server.url.rpartition("/")[0] + f"/{name}"

    def sink(self) -> PostgreSQLSink:
        return PostgreSQLSink(self.url)

    async def query(self, sql: str, *arguments: Any) -> list[Any]:
        connection = await asyncpg.connect(self.url)
        try:
            return list(await connection.fetch(sql, *arguments))
        finally:
            await connection.close()

    async def rows(self) -> list[tuple[Lead, int, int]]:
        found = await self.query("SELECT * FROM lead ORDER BY source_offset")
        return [(lead_of(row), row["source_partition"], row["source_offset"]) for row in found]

    async def contacts(self) -> list[Contact]:
        found = await self.query("""
            SELECT tenant, address, (extract(epoch FROM first_seen) * 1000)::bigint,
                   (extract(epoch FROM last_seen) * 1000)::bigint, submissions, name, company
            FROM contact ORDER BY tenant COLLATE "C", address COLLATE "C"
        """)
        return [Contact(*row) for row in found]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        await execute(self.server, f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        await execute(
            self.server, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname='{self.name}'"
        )
        yield
        await execute(self.server, f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    async def refuse(self, message_id: str) -> None:
        await self.query("""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = 'check_violation'; END $$;
        """)
        await self.query(f"""
            CREATE TRIGGER refuse_{message_id} BEFORE INSERT ON lead FOR EACH ROW
            WHEN (NEW.message_id = '{message_id}') EXECUTE FUNCTION refuse()
        """)


async def execute(server: Postgres, sql: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


class TestPostgreSQL(SinkContract):
    @pytest.fixture
    async def store(self, server: Postgres, request: pytest.FixtureRequest) -> PostgreSQLStore:
        name = f"test_{abs(hash(request.node.nodeid))}"
        await execute(server, f"CREATE DATABASE {name}")
        return PostgreSQLStore(server, name)
