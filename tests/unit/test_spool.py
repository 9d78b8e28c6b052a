"""The spool: on the disk when it says so, bounded, in order, shared by processes, and empty when it was emptied."""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.spool import Backlog, SpoolError, SpoolWriter, Turn, holds, look, spool_path

MAX_BYTES = 1 << 30
MARK = b"jane.secret@example.com"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return spool_path(tmp_path)


async def put(writer: SpoolWriter, *values: bytes, headers: Any = ()) -> list[Exception | None]:
    """Put leads one after the other, at once, and wait for all answers."""
    told = [asyncio.get_running_loop().create_future() for _ in values]
    for value, future in zip(values, told, strict=True):
        writer.put(b"default/" + value[:20], value, headers, future.set_result)
        assert not future.done()
    return list(await asyncio.gather(*told))


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Nobody else can write meanwhile."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")


def on_disk(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in path.parent.iterdir())


class TestWriting:
    async def test_what_is_told_is_there_for_everybody_and_for_nobody_else_to_read(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        assert not path.exists()
        assert await put(writer, b"one", b"two") == [None, None]
        found = look(path)
        assert (found.depth, found.head) == (2, 1)
        assert 0 <= found.age_s < 60
        assert holds(path, b"default/one")
        assert not holds(path, b"default/on")
        await writer.close()
        assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}

    async def test_nothing_is_in_a_spool_that_is_not_there(self, path: Path) -> None:
        assert look(path) == (0, None, 0.0)
        assert not holds(path, b"default/one")
        assert Backlog(path).read(0) == []
        assert list(path.parent.iterdir()) == []

    async def test_all_that_wait_go_into_one_transaction(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"first")
        with closing(sqlite3.connect(path)) as connection:
            before = connection.execute("PRAGMA data_version").fetchone()
            with locked(path):
                putting = asyncio.ensure_future(put(writer, *(b"lead %d" % number for number in range(1234))))
                await asyncio.sleep(0)
            # The first group began before the rest had come: it may have been one lead, or all of them.
            assert await putting == [None] * 1234
            [groups] = connection.execute("SELECT count(DISTINCT spooled_at_ms) FROM lead WHERE id > 1").fetchone()
            assert groups <= 2
            assert connection.execute("PRAGMA data_version").fetchone() != before
        assert look(path).depth == 1235

    async def test_order_headers_and_bytes_stay(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        values = [b"%03d \x00\xff" % number for number in range(700)]
        await put(writer, *values[:1], headers=[("suspect", b"\x00honeypot\xff")])
        await put(writer, *values[1:])
        backlog = Backlog(path)
        first = backlog.read(0)
        rest = backlog.read(first[-1].id)
        assert [lead.value for lead in [*first, *rest]] == values
        assert [lead.key for lead in first[:2]] == [b"default/000 \x00\xff", b"default/001 \x00\xff"]
        assert first[0].headers == [("suspect", b"\x00honeypot\xff")]
        assert first[1].headers == []
        assert backlog.read(rest[-1].id) == []

    async def test_a_chunk_is_bounded_in_bytes_and_never_empty(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, *[bytes([number]) * 200_000 for number in range(4)], bytes(300_000))
        backlog, after, sizes = Backlog(path), 0, []
        while chunk := backlog.read(after):
            after = chunk[-1].id
            sizes.append(len(chunk))
        assert sizes == [2, 2, 1]

    async def test_a_thread_that_cannot_be_started(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start")))
            [error] = await put(writer, b"one")
        assert str(error) == "no thread can be started"
        assert await put(writer, b"two") == [None]

    async def test_what_waits_in_memory_is_bounded(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES, waiting_max_bytes=10_000)
        errors = await put(writer, *[bytes([65 + number]) * 4000 for number in range(4)])
        assert [type(error) for error in errors] == [type(None), type(None), SpoolError, SpoolError]
        assert await put(writer, b"again") == [None]


class TestFull:
    async def test_what_does_not_fit_is_refused_and_what_was_told_stays(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=100_000)
        accepted = 0
        while (await put(writer, b"%03d " % accepted + bytes(9_000)))[0] is None:
            accepted += 1
        assert 3 < accepted < 12
        assert path.stat().st_size <= 100_000
        assert "full" in str(writer.flaw)
        backlog = Backlog(path)
        found = backlog.read(0)
        assert len(found) == look(path).depth == accepted
        backlog.delete([lead.id for lead in found])
        assert await put(writer, bytes(9_000)) == [None]
        assert writer.flaw is None

    async def test_a_transaction_that_fails_is_told_to_all_of_it_and_leaves_nothing(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"first")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TRIGGER t BEFORE UPDATE ON tally BEGIN SELECT raise(ABORT, 'no'); END")
        errors = await put(writer, MARK, b"another")
        assert [type(error) for error in errors] == [SpoolError] * 2
        assert str(errors[0]) == "SQLite says SQLITE_CONSTRAINT_TRIGGER"
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TRIGGER t")
        assert await put(writer, b"third") == [None]
        assert [lead.value for lead in Backlog(path).read(0)] == [b"first", b"third"]

    async def test_a_file_that_is_no_spool(self, path: Path, caplog: pytest.LogCaptureFixture) -> None:
        path.write_bytes(b"no database at all" * 1000)
        [error] = await put(SpoolWriter(path, max_bytes=MAX_BYTES), MARK)
        assert str(error) == "SQLite says SQLITE_NOTADB"
        for asked in (lambda: look(path), lambda: holds(path, MARK), lambda: Backlog(path).read(0)):
            with pytest.raises(SpoolError):
                asked()
        assert MARK.decode() not in caplog.text

    async def test_a_directory_that_is_not_there(self, tmp_path: Path) -> None:
        [error] = await put(SpoolWriter(spool_path(tmp_path / "gone"), max_bytes=MAX_BYTES), b"one")
        assert str(error) == "No such file or directory"

    async def test_a_file_that_was_removed_is_made_again(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"one")
        for one in path.parent.iterdir():
            one.unlink()
        assert await put(writer, b"two") == [None]
        assert [lead.value for lead in Backlog(path).read(0)] == [b"two"]


class TestSending:
    async def test_what_is_deleted_is_gone_from_the_disk_and_no_id_comes_again(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, *[MARK * 30 + b" %d" % number for number in range(300)])
        backlog = Backlog(path)
        ids = [lead.id for lead in backlog.read(0)]
        backlog.delete(ids)
        backlog.delete(ids)
        backlog.tidy()
        assert look(path) == (0, None, 0.0)
        assert MARK not in on_disk(path)
        assert path.stat().st_size < 15 * 4096
        await put(writer, b"next")
        assert look(path)[:2] == (1, ids[-1] + 1)

    async def test_what_comes_meanwhile_is_not_deleted(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"one")
        backlog = Backlog(path)
        ids = [lead.id for lead in backlog.read(0)]
        await put(writer, b"two")
        backlog.delete(ids)
        assert [lead.value for lead in backlog.read(0)] == [b"two"]

    async def test_what_is_deleted_are_the_leads_of_the_file_they_were_read_from(self, path: Path) -> None:
        """The operator moves it away while its leads are on their way: a new file counts from 1 again."""
        writer, backlog = SpoolWriter(path, max_bytes=MAX_BYTES), Backlog(path)
        await put(writer, b"one", b"two")
        ids = [lead.id for lead in backlog.read(0)]
        for file in [*path.parent.glob(f"{path.name}*")]:
            file.rename(file.with_name(f"old-{file.name}"))
        assert await put(writer, b"three", b"four") == [None, None]
        assert backlog.read(1) == []
        backlog.delete(ids)
        assert [lead.value for lead in backlog.read(0)] == [b"three", b"four"]

    async def test_a_log_without_its_file_is_not_taken_for_that_of_a_new_one(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"one")
        path.rename(path.with_name("moved"))
        [error] = await put(writer, b"two")
        assert "spool.sqlite3-wal, in which there may be leads" in str(error)

    async def test_a_damaged_row_is_an_error_of_the_spool(self, path: Path) -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        await put(writer, b"one")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE lead SET headers = x'c1'")
        with pytest.raises(SpoolError, match="a row of it is damaged"):
            Backlog(path).read(0)

    def test_what_the_disk_says_of_the_file_is_an_error_of_the_spool(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: Path) -> bool:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "exists", broken)
        for ask in (lambda: look(path), lambda: holds(path, b"a/b")):
            with pytest.raises(SpoolError, match="Input/output error"):
                ask()

    def test_one_has_the_turn_at_a_time(self, path: Path) -> None:
        one, other = Turn(path), Turn(path)
        assert one.take()
        assert not other.take()
        one.pass_on()
        assert other.take()


def _put_many(path: Path, start: Any, name: bytes) -> None:
    async def run() -> None:
        writer = SpoolWriter(path, max_bytes=MAX_BYTES)
        start.wait()
        for number in range(50):
            assert await put(writer, name + b" %d" % number) == [None]
        await writer.close()

    asyncio.run(run())


def test_two_processes_make_one_spool_and_share_it(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    processes = [context.Process(target=_put_many, args=(path, start, name)) for name in (b"a", b"b")]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    values = [lead.value for lead in Backlog(path).read(0)]
    assert len(values) == look(path).depth == 100
    for name in (b"a", b"b"):
        assert [value for value in values if value.startswith(name)] == [name + b" %d" % n for n in range(50)]
    assert {one.name for one in path.parent.iterdir()} <= {
        path.name, f"{path.name}-wal", f"{path.name}-shm", "spool.queue"
    }  # fmt: skip
