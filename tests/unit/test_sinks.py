"""Every sink that needs no server keeps the contract; and what is particular to SQLite."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.lead import Lead
from pipeline.settings import Settings
from pipeline.sinks import (
    AcceptedLead,
    Lane,
    RecordsRejected,
    Sink,
    SinkUnavailable,
    SinkUnusable,
    StreamOffset,
    WrittenLead,
    sink_for,
    sqlite,
)
from pipeline.sinks.contact import Contact
from pipeline.sinks.memory import MemorySink
from pipeline.sinks.sqlite import SQLiteSink
from tests.unit.sink_contract import LANE, SECRET, SinkContract, Store, accepted, at, batch, lead_of, step

FIRST_TABLE = """
CREATE TABLE lead (
    tenant TEXT NOT NULL, message_id TEXT NOT NULL, email TEXT, phone TEXT, name TEXT, company TEXT, source TEXT,
    campaign TEXT, captured_at TEXT, fields TEXT NOT NULL, source_partition INTEGER NOT NULL,
    source_offset INTEGER NOT NULL, written_at TEXT NOT NULL, PRIMARY KEY (tenant, message_id)
) STRICT
"""


class MemoryStore:
    """Sinks that share their rows, as sinks on one server do."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], AcceptedLead] = {}
        self._times: dict[tuple[str, str], datetime] = {}
        self._contacts: dict[tuple[str, str], Contact] = {}
        self._lanes: dict[Lane, StreamOffset] = {}
        self._sinks: list[MemorySink] = []
        self._refused: set[str] = set()

    def sink(self) -> Sink:
        sink = MemorySink(reject=lambda accepted: "refused" if accepted.lead.message_id in self._refused else None)
        sink.rows, sink.times, sink.contacts, sink.lanes = self._rows, self._times, self._contacts, self._lanes
        self._sinks.append(sink)
        return sink

    async def rows(self) -> list[tuple[Lead, int, int]]:
        found = [(row.lead, row.partition, row.offset) for row in self._rows.values()]
        return sorted(found, key=lambda row: row[2])

    async def contacts(self) -> list[Contact]:
        return [self._contacts[name] for name in sorted(self._contacts)]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        for sink in self._sinks:
            sink.unavailable = 1000
        yield
        for sink in self._sinks:
            sink.unavailable = 0

    async def refuse(self, message_id: str) -> None:
        self._refused.add(message_id)


class SQLiteStore:
    """A file; the outage is another process that holds the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def sink(self) -> SQLiteSink:
        return SQLiteSink(self.path)

    async def rows(self) -> list[tuple[Lead, int, int]]:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            found = connection.execute("SELECT * FROM lead ORDER BY source_offset").fetchall()
        return [(lead_of(row), row["source_partition"], row["source_offset"]) for row in found]

    async def contacts(self) -> list[Contact]:
        with closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute("""
                SELECT tenant, address, first_seen, last_seen, submissions, name, company FROM contact ORDER BY 1, 2
            """).fetchall()
        return [Contact(row[0], row[1], _ms(row[2]), _ms(row[3]), *row[4:]) for row in found]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")

    async def refuse(self, message_id: str) -> None:
        self.execute(
            f"CREATE TRIGGER refuse_{message_id} BEFORE INSERT ON lead WHEN NEW.message_id = '{message_id}'"
            f" BEGIN SELECT RAISE(ABORT, 'refused {SECRET}'); END"
        )

    def execute(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()


class TestMemory(SinkContract):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestSQLite(SinkContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SQLiteStore:
        return SQLiteStore(tmp_path / "crm.sqlite3")

    async def test_it_is_wal_and_strict(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        assert store.execute("PRAGMA journal_mode") == [("wal",)]
        [(sql,)] = store.execute("SELECT sql FROM sqlite_schema WHERE name = 'lead'")
        assert ("STRICT" in sql) == (sqlite3.sqlite_version_info >= (3, 37))

    async def test_times_are_utc_text(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        await sink.write([accepted(1, captured_at="2026-01-31T14:00:00+02:00")])
        assert store.execute("SELECT captured_at FROM lead") == [("2026-01-31T12:00:00.000000Z",)]

    @pytest.mark.parametrize("replace", [False, True])
    async def test_a_file_that_was_deleted_or_replaced_is_opened_again(
        self, sink: SQLiteSink, store: SQLiteStore, replace: bool
    ) -> None:
        await sink.write(batch(1))
        _unlink(store.path)
        if replace:
            other = store.sink()
            await other.write(batch(7))
            await other.close()
        assert await sink.write(batch(2)) == 1
        assert [offset for _, _, offset in await store.rows()] == ([2, 7] if replace else [2])

    async def test_a_file_that_is_moved_takes_along_what_was_committed(
        self, sink: SQLiteSink, store: SQLiteStore
    ) -> None:
        """What is committed may be in the log alone, which stays where it was and belongs to the next file there."""
        other = SQLiteSink(store.path)
        await sink.write(batch(1))
        await other.write(batch(2))
        moved = store.path.rename(store.path.with_name("moved.sqlite3"))
        assert await sink.write(batch(3)) == 1
        assert await other.write(batch(4)) == 1
        await other.close()
        await sink.close()
        assert sorted(offset for _, _, offset in await SQLiteStore(moved).rows()) == [1, 2]
        assert sorted(offset for _, _, offset in await store.rows()) == [3, 4]

    async def test_so_it_does_when_the_sink_is_closed_next(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        await sink.write(batch(1))
        moved = store.path.rename(store.path.with_name("moved.sqlite3"))
        await sink.close()
        assert [offset for _, _, offset in await SQLiteStore(moved).rows()] == [1]
        assert not store.path.exists()

    async def test_a_log_without_its_database_is_not_thrown_away(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        """As a worker that was killed after its database was moved leaves it; SQLite would remove it."""
        await sink.write(batch(1))
        log = store.path.with_name("crm.sqlite3-wal")
        left = log.read_bytes()
        _unlink(store.path)
        log.write_bytes(left)
        fresh = SQLiteSink(store.path)
        with pytest.raises(SinkUnavailable, match="is gone and crm"):
            await fresh.write(batch(2))
        assert log.read_bytes() == left

    async def test_a_log_that_was_deleted_is_noticed(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        await sink.write(batch(1))
        store.path.with_name("crm.sqlite3-wal").unlink()
        assert await sink.write(batch(2)) == 1
        assert [offset for _, _, offset in await store.rows()] == [1, 2]

    async def test_a_file_that_vanishes_during_a_write_is_written_again(
        self, sink: SQLiteSink, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        insert = sqlite.insert

        def insert_and_lose_the_file(*arguments: Any) -> int:
            new = insert(*arguments)
            _unlink(store.path)
            return new

        monkeypatch.setattr(sqlite, "insert", insert_and_lose_the_file)
        with pytest.raises(SinkUnavailable, match="replaced"):
            await sink.write(batch(1))
        monkeypatch.undo()
        assert await sink.write(batch(1)) == 1
        assert len(await store.rows()) == 1

    async def test_the_loop_runs_while_the_file_is_locked(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        async with store.outage():
            write = asyncio.create_task(sink.write(batch(1)))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not write.done()
            with pytest.raises(SinkUnavailable, match="SQLITE_BUSY"):
                await write

    async def test_a_write_that_was_cancelled_while_it_waits_ends_by_itself(
        self, sink: SQLiteSink, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, go_on = threading.Event(), threading.Event()
        insert = sqlite.insert

        def insert_slowly(*arguments: Any) -> int:
            begun.set()
            go_on.wait(60)
            return insert(*arguments)

        monkeypatch.setattr(sqlite, "insert", insert_slowly)
        write = asyncio.create_task(sink.write(batch(1)))
        await asyncio.to_thread(begun.wait, 60)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        following = asyncio.create_task(sink.write(batch(1, 2)))
        go_on.set()
        assert await following == 1
        assert len(await store.rows()) == 2

    async def test_no_room_is_unavailable_and_passes(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        await sink.write(batch(0))
        with _files_limited_to(store.path.with_name("crm.sqlite3-wal").stat().st_size), pytest.raises(SinkUnavailable):
            await sink.write(batch(*range(1, 2000)))
        assert len(await store.rows()) == 1
        assert await sink.write(batch(*range(1, 2000))) == 1999

    async def test_a_constraint_of_somebody_else_is_no_duplicate(self, sink: SQLiteSink, store: SQLiteStore) -> None:
        store.execute("CREATE UNIQUE INDEX one_row_per_company ON lead (company)")
        with pytest.raises(RecordsRejected) as rejection:
            await sink.write([accepted(1, company="a"), accepted(2, company="b"), accepted(3, company="a")])
        assert rejection.value.reasons == {2: "SQLITE_CONSTRAINT_UNIQUE"}

    @pytest.mark.parametrize("how", ["ABORT", "FAIL", "ROLLBACK"])
    async def test_a_trigger_may_refuse_in_any_way(self, sink: SQLiteSink, store: SQLiteStore, how: str) -> None:
        await sink.offsets({LANE: at(0)})
        store.execute(f"""
            CREATE TRIGGER refuse BEFORE INSERT ON lead WHEN NEW.message_id IN ('m1', 'm3')
            BEGIN SELECT RAISE({how}, 'no'); END
        """)
        with pytest.raises(RecordsRejected) as rejection:
            await sink.write(batch(0, 1, 2, 3, 4), step(0, 5))
        assert sorted(rejection.value.reasons) == [1, 3]
        assert await store.rows() == []
        assert await sink.write(batch(0, 2, 4), step(0, 5)) == 3

    @pytest.mark.parametrize("table", ["lead (id INTEGER)", "lead (contact TEXT)", "contact (id INTEGER)"])
    async def test_a_table_of_another_shape_is_no_crm(self, store: SQLiteStore, table: str) -> None:
        store.execute(f"CREATE TABLE {table}")
        sink = store.sink()
        with pytest.raises(SinkUnusable):
            await sink.write(batch(1))
        await sink.close()
        assert store.execute("SELECT count(*) FROM sqlite_master WHERE sql LIKE '%former%'") == [(0,)]

    async def test_a_table_of_the_first_version_keeps_its_rows_and_gets_an_id(self, store: SQLiteStore) -> None:
        store.execute(FIRST_TABLE)
        for number in (7, 8):
            store.execute(
                "INSERT INTO lead (tenant, message_id, phone, fields, source_partition, source_offset, written_at)"
                f" VALUES ('acme', 'm{number}', '1', '{{}}', 3, {number}, '2026-01-31T12:00:00.000000Z')"
            )
        store.execute("DELETE FROM lead WHERE message_id = 'm7'")
        sinks = [store.sink(), store.sink()]

        async def opened(sink: Sink) -> None:
            # Of two that change the file at once one may be told that it is busy. It tries again, as the delivery does.
            while True:
                with suppress(SinkUnavailable):
                    return await sink.open()

        await asyncio.gather(*map(opened, sinks))
        assert await sinks[0].write([accepted(8), accepted(9)]) == 1
        assert [offset for _, _, offset in await store.rows()] == [8, 9]
        found = await sinks[1].find("acme", "m8")
        assert found == WrittenLead("2", datetime(2026, 1, 31, 12, tzinfo=UTC))
        former, new = await store.contacts()
        assert [(former.address, former.submissions), (new.address, new.submissions)] == [("1", 1), (SECRET, 1)]
        for sink in sinks:
            await sink.close()

    async def test_nothing_can_be_found_where_there_is_no_database(self, store: SQLiteStore) -> None:
        sink = store.sink()
        with pytest.raises(SinkUnavailable, match="SQLITE_CANTOPEN"):
            await sink.find("acme", "m1")
        assert not store.path.exists()
        await sink.close()

    @pytest.mark.parametrize("found", ["PRAGMA user_version = 1", "CREATE TABLE lead (tenant TEXT, message_id TEXT)"])
    async def test_nor_before_its_tables_are_made(self, store: SQLiteStore, found: str) -> None:
        store.execute(found)
        sink = store.sink()
        with pytest.raises(SinkUnavailable, match="not there yet"):
            await sink.find("acme", "m1")
        await sink.close()

    @pytest.mark.parametrize("place", ["", "file/crm.sqlite3"])
    async def test_a_path_that_cannot_be_opened_is_unavailable(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").touch()
        sink = SQLiteSink(tmp_path / place)
        with pytest.raises(SinkUnavailable):
            await sink.open()
        await sink.close()

    async def test_processes_that_start_at_once(self, store: SQLiteStore) -> None:
        program = (
            "import asyncio, sys, pathlib\n"
            "from pipeline.sinks.sqlite import SQLiteSink\n"
            "from pipeline.sinks import SinkUnavailable\n"
            "from tests.unit.sink_contract import batch\n"
            "async def main():\n"
            "    sink = SQLiteSink(pathlib.Path(sys.argv[1]))\n"
            "    sys.stdin.readline()\n"
            "    while True:\n"
            "        try:\n"
            "            return await sink.write(batch(*range(int(sys.argv[2]), int(sys.argv[2]) + 50)))\n"
            "        except SinkUnavailable: pass\n"
            "asyncio.run(main())\n"
        )
        starting = [
            asyncio.create_subprocess_exec(
                sys.executable, "-c", program, str(store.path), str(first), stdin=asyncio.subprocess.PIPE
            )
            for first in range(0, 100, 25)
        ]
        processes = await asyncio.gather(*starting)
        await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
        assert [process.returncode for process in processes] == [0, 0, 0, 0]
        assert len(await store.rows()) == 125


def _unlink(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


@contextmanager
def _files_limited_to(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestURL:
    async def test_relative_and_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for url, path in (("sqlite:///a/b.db", tmp_path / "a/b.db"), (f"sqlite:///{tmp_path}/c.db", tmp_path / "c.db")):
            sink = sink_for(url)
            await sink.open()
            await sink.close()
            assert path.exists()

    def test_the_default_has_a_sink(self) -> None:
        assert isinstance(sink_for(Settings().crm_url), SQLiteSink)
        assert isinstance(sink_for("memory:"), MemorySink)

    @pytest.mark.parametrize("url", ["", "oracle://me:hunter2@host", "sqlite:", "sqlite://x", "sqlite:///", "memory:x"])
    def test_what_is_no_url_of_a_sink(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"sqlite:|memory:") as failure:
            sink_for(url)
        assert "hunter2" not in str(failure.value)

    @pytest.mark.parametrize("host", ["a..b", "a" * 64, "h:99999"])
    def test_what_is_no_host(self, host: str) -> None:
        with pytest.raises(ValueError, match="write it as postgresql://"):
            sink_for(f"postgresql://u@{host}/crm")


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
