"""PostgreSQL keeps the contract of the sinks; and what is particular to it. On a real server."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import asyncpg
import pytest

from pipeline.embedded import Postgres, free_port
from pipeline.lab.peers import quix_table
from pipeline.lab.peers.quix_table import QuixTableSink
from pipeline.lead import Lead
from pipeline.sinks import AcceptedLead, Fenced, RecordsRejected, SinkUnavailable, SinkUnusable
from pipeline.sinks.contact import Contact
from pipeline.sinks.postgresql import SCHEMA_LOCK, PostgreSQLSink
from tests.unit.sink_contract import LANE, SECRET, SinkContract, accepted, at, batch, lead_of, step

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

    async def refuse(self, message_id: str, how: str = "") -> None:
        await self.query("""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = 'check_violation'; END $$;
        """)
        await self.query(f"""
            CREATE TRIGGER refuse_{message_id} BEFORE INSERT ON lead FOR EACH ROW
            WHEN (NEW.message_id {how or f"= '{message_id}'"}) EXECUTE FUNCTION refuse()
        """)

    async def trigger(self, does: str, message_id: str, *, late: bool = False) -> None:
        """Something else that happens when the lead of this name is inserted, or at the end of its transaction."""
        await self.query(f"""
            CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does} RETURN NEW; END $$;
        """)
        kind, deferred = ("TRIGGER does BEFORE", "")
        if late:
            kind, deferred = "CONSTRAINT TRIGGER does AFTER", "INITIALLY DEFERRED"
        await self.query(f"""
            CREATE {kind} INSERT ON lead {deferred} FOR EACH ROW
            WHEN (NEW.message_id = '{message_id}') EXECUTE FUNCTION does()
        """)


@asynccontextmanager
async def held(store: PostgreSQLStore, lock: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold an advisory lock; gives what returns when somebody waits for it."""
    connection = await asyncpg.connect(store.url)
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"

    async def until_waited_for() -> None:
        while not await connection.fetch(waiting):
            await connection.execute("SELECT pg_sleep(0.01)")

    await connection.execute("SELECT pg_advisory_lock($1)", lock)
    yield until_waited_for
    await connection.close()


async def ends_when_cancelled(task: asyncio.Task[Any], server: Postgres) -> None:
    """See that it ends while the server answers nothing."""
    server.pause()
    try:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()
    finally:
        server.resume()


async def refused(sink: PostgreSQLSink, leads: Sequence[AcceptedLead], indexes: list[int]) -> None:
    """See that these are named and the others can be written."""
    with pytest.raises(RecordsRejected) as rejection:
        await sink.write(leads)
    assert sorted(rejection.value.reasons) == indexes
    assert SECRET not in f"{rejection.value} {rejection.value.reasons}"
    others = [lead for index, lead in enumerate(leads) if index not in indexes]
    assert await sink.write(others) == len(others)
    await sink.close()


def one_of(message_id: str, email: str) -> AcceptedLead:
    """A lead of this contact."""
    return AcceptedLead(Lead(message_id=message_id, email=email), 0, next(_offsets), 1_767_600_000_000, email)


_offsets = count()


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

    async def test_who_is_cancelled_does_not_wait_for_a_frozen_server(
        self, server: Postgres, store: PostgreSQLStore
    ) -> None:
        sink = store.sink()
        await sink.offsets({LANE: at(0)})
        server.pause()
        try:
            writes = [asyncio.create_task(sink.write(batch(n), step(0, n + 1))) for n in range(2)]
            find = asyncio.create_task(sink.find("acme", "m1"))
            await asyncio.wait({*writes, find}, timeout=0.5)  # they hang: there is nothing to wait for
            for task in (*writes, find):
                task.cancel()
            done, _ = await asyncio.wait({*writes, find}, timeout=5)
            assert len(done) == 3
            await asyncio.wait_for(sink.close(), timeout=5)
        finally:
            server.resume()
        # Whatever the server did of it when it went on: the step and its row, or neither.
        ((moved, rows),) = await store.query("SELECT next_offset > 0, (SELECT count(*) FROM lead) FROM stream_offset")
        assert rows == int(moved)
        await sink.close()

    async def test_nor_while_the_tables_are_made(self, server: Postgres, store: PostgreSQLStore) -> None:
        sink = store.sink()
        async with held(store, SCHEMA_LOCK) as until_waited_for:
            opening = asyncio.create_task(sink.open())
            await until_waited_for()
            await ends_when_cancelled(opening, server)
        await sink.open()
        await sink.close()

    async def test_nor_while_refused_records_are_looked_for(self, server: Postgres, store: PostgreSQLStore) -> None:
        sink = store.sink()
        await sink.open()
        await store.refuse("m2")
        await store.query("CREATE SEQUENCE tries")
        await store.trigger("IF nextval('tries') > 1 THEN PERFORM pg_advisory_xact_lock(7); END IF;", "m1")
        async with held(store, 7) as until_waited_for:
            write = asyncio.create_task(sink.write(batch(1, 2)))
            await until_waited_for()
            await ends_when_cancelled(write, server)
        assert await sink.write(batch(1)) == 1
        await sink.close()

    async def test_a_worker_that_is_frozen_holds_no_lock(self, server: Postgres, store: PostgreSQLStore) -> None:
        frozen, other = store.sink(), store.sink()
        await frozen.offsets({LANE: at(0)})
        await frozen.write(batch(1), step(0, 2))
        held = await store.query("SELECT state FROM pg_stat_activity WHERE application_name = 'leads'")
        assert {row["state"] for row in held} == {"idle"}
        await other.write(batch(2), step(2, 3))
        for one in (frozen, other):
            await one.close()

    @pytest.mark.parametrize(
        "url", ["postgresql://leads:wrong-password@{host}", "postgresql://nobody:x@{host}", "postgresql://leads@{host}"]
    )
    async def test_a_wrong_user_is_said_without_a_name_or_a_password(self, store: PostgreSQLStore, url: str) -> None:
        sink = PostgreSQLSink(url.format(host=store.url.partition("@")[2]))
        with pytest.raises(SinkUnavailable) as failure:
            await sink.open()
        assert not {"wrong-password", "nobody", "leads"} & set(str(failure.value).split())
        await sink.close()

    async def test_an_option_that_cannot_be_is_not_waited_for(self, store: PostgreSQLStore) -> None:
        sink = PostgreSQLSink(f"{store.url}?sslmode=bogus")
        with pytest.raises(SinkUnusable, match="an option of LEADS_SINK_URL"):
            await sink.open()
        await sink.close()

    async def test_refused_leads_deadlock_nobody(self, server: Postgres, store: PostgreSQLStore) -> None:
        """Whoever looks for them writes and rolls back again and again, while others write the same contacts."""
        await store.query("SELECT 1")
        prepared = store.sink()
        await prepared.open()
        await prepared.close()
        await store.refuse("bad", "LIKE 'bad%'")

        async def write(number: int) -> None:
            sink = store.sink()
            for turn in range(20):
                # The same few contacts, in another order each time.
                some = [
                    one_of(f"{number}-{turn}-{n}", f"c{(n * (3 + number) + turn) % 40}@x.example") for n in range(40)
                ]
                some.insert(30, one_of(f"bad-{number}-{turn}", "c1@x.example"))
                with pytest.raises(RecordsRejected) as refusal:
                    await sink.write(some)
                assert list(refusal.value.reasons) == [30]
                assert await sink.write([*some[:30], *some[31:]]) == 40
            await sink.close()

        await asyncio.gather(*(write(number) for number in range(4)))
        ((deadlocks, submissions),) = await store.query(
            "SELECT deadlocks, (SELECT sum(submissions) FROM contact) FROM pg_stat_database WHERE datname = $1",
            store.name,
        )
        assert (deadlocks, submissions) == (0, 4 * 20 * 40)

    async def test_a_rule_for_contacts_is_a_reason_too(self, store: PostgreSQLStore) -> None:
        sink = store.sink()
        await sink.open()
        await store.query("ALTER TABLE contact ADD CONSTRAINT no_x CHECK (address NOT LIKE 'x%')")
        some = [one_of("1", "a@x.example"), one_of("2", "x@x.example"), one_of("3", "b@x.example")]
        with pytest.raises(RecordsRejected) as refusal:
            await sink.write(some)
        assert refusal.value.reasons == {1: "CheckViolation (23514) constraint no_x"}
        await sink.close()

    async def test_the_password_may_come_apart_from_the_url(self, store: PostgreSQLStore) -> None:
        user, _, rest = store.url.partition("@")
        sink = PostgreSQLSink(f"postgresql://leads@{rest}", password=user.rpartition(":")[2])
        assert await sink.write(batch(1)) == 1
        await sink.close()

    async def test_what_is_confirmed_is_on_the_disk_whatever_is_set(
        self, server: Postgres, store: PostgreSQLStore
    ) -> None:
        await execute(server, f"ALTER DATABASE {store.name} SET synchronous_commit = off")
        sink = store.sink()
        async with sink._connection() as connection:
            assert await connection.fetchval("SHOW synchronous_commit") == "on"
        await sink.close()

    @pytest.mark.parametrize("code", ["CRM01", "P0001", "P0004", "38000", "21000", "54000"])
    async def test_a_trigger_may_refuse_with_any_code(self, store: PostgreSQLStore, code: str) -> None:
        sink = store.sink()
        await sink.open()
        await store.trigger(f"RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = '{code}';", "m2")
        await refused(sink, batch(1, 2, 3), [1])

    async def test_what_is_checked_at_the_end_of_a_transaction_is_found_too(self, store: PostgreSQLStore) -> None:
        sink = store.sink()
        await sink.open()
        await store.trigger(
            "RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = 'check_violation';", "m2", late=True
        )
        await refused(sink, batch(1, 2, 3), [1])

    async def test_of_two_that_exclude_each_other_the_first_one_stays(self, store: PostgreSQLStore) -> None:
        sink = store.sink()
        await sink.open()
        await store.query("ALTER TABLE lead ADD UNIQUE (phone)")
        phones = {2: "1", 5: "1"}
        await refused(sink, [accepted(number, phone=phones.get(number)) for number in range(8)], [5])

    async def test_an_error_that_nobody_has_thought_of_quotes_no_record(self, store: PostgreSQLStore) -> None:
        sink = store.sink()
        await sink.open()
        await store.trigger("RAISE EXCEPTION 'no % here', NEW.email USING ERRCODE = '0A000';", "m2")
        with pytest.raises(Exception, match="0A000") as failure:
            await sink.write(batch(1, 2))
        assert SECRET not in "".join(traceback.format_exception(failure.value))
        assert await sink.write(batch(1)) == 1
        await sink.close()

    async def test_who_may_only_write_the_tables_need_not_make_them(self, store: PostgreSQLStore) -> None:
        owner = store.sink()
        await owner.open()
        await store.query("CREATE ROLE writer LOGIN PASSWORD 'writer'")
        await store.query("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO writer")
        sink = PostgreSQLSink(f"postgresql://writer:writer@{store.url.partition('@')[2]}")
        await sink.offsets({LANE: at(0)})
        assert await sink.write(batch(0, 1), step(0, 2)) == 2
        for one in (owner, sink):
            await one.close()

    async def test_tables_of_others_and_of_a_newer_version_are_not_touched(self, store: PostgreSQLStore) -> None:
        await store.query("CREATE TABLE lead (x integer)")
        sink = store.sink()
        with pytest.raises(SinkUnusable):
            await sink.write(batch(1))
        assert await store.query("SELECT 1 FROM pg_tables WHERE tablename = 'contact'") == []
        await store.query("DROP TABLE lead")
        assert await sink.write(batch(1)) == 1
        await store.query("UPDATE leads_schema SET version = 99")
        newer = store.sink()
        with pytest.raises(SinkUnusable, match="version 99"):
            await newer.open()
        for one in (sink, newer):
            await one.close()

    async def test_the_fence_alone_keeps_rows_single_where_no_key_does(self, store: PostgreSQLStore) -> None:
        sink = QuixTableSink(store.url)
        await sink.offsets({LANE: at(0)})
        await store.query(quix_table.CREATE)
        assert await sink.write(batch(0, 1, 2), step(0, 3)) == 3
        with pytest.raises(Fenced):
            await sink.write(batch(0, 1, 2), step(0, 3))
        rows = await store.query(f"SELECT message_id FROM {quix_table.TABLE}")
        assert [row["message_id"] for row in rows] == [one.lead.message_id for one in batch(0, 1, 2)]
        assert await store.query("SELECT 1 FROM lead") == []
        await sink.close()
