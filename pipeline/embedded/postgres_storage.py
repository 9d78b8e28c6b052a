"""What is on the disk before PostgreSQL starts: its password and its cluster of databases."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.embedded.account import Account
from pipeline.embedded.errors import PostgresError

__all__ = ["DATABASE", "PASSWORD_FILE", "STORAGE", "USER", "create_storage", "reachable"]

USER = "leads"
DATABASE = "leads"

#: Below the directory of the server: the cluster of databases, and the password of its only user.
STORAGE = "storage"
PASSWORD_FILE = "password"

# Two seconds on an idle machine.
_TOOL_TIMEOUT_S = 120.0


@contextmanager
def reachable(storage: Path, account: Account) -> Iterator[tuple[str, Sequence[int]]]:
    """A name of `storage` for a program of `account`, and the descriptors that this program must inherit for it.

    The account owns the directory, but need not be able to get there: pytest's directories and /root are closed to
    others. On Linux an open directory has a name of its own, which works whatever lies above the directory.
    """
    if account.uid is None or sys.platform != "linux":
        yield str(storage), []
        return
    opened = os.open(storage, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}", [opened]
    finally:
        os.close(opened)


def create_storage(directory: Path, programs: Path, account: Account, inherited: Collection[int]) -> None:
    """Make the password, the cluster and the database, unless they are there.

    The programs inherit the lock of the directory among `inherited`: should they outlive us, the next start waits.

    Raises:
        PostgresError: a program of PostgreSQL refuses, or takes more than 120 s.
        OSError: the directory cannot be written.
    """
    storage = directory / STORAGE
    if storage.exists():
        return
    unfinished = storage.with_suffix(".unfinished")
    if unfinished.exists():  # left by a start that was killed
        shutil.rmtree(unfinished)
    unfinished.mkdir(mode=0o700)
    account.own(unfinished)
    password = secrets.token_urlsafe(18)
    with reachable(unfinished, account) as (name, descriptors):
        for command, text in _commands(programs, name, password):
            _run(command, text, account, [*inherited, *descriptors])
    _write_secret(directory / PASSWORD_FILE, password)
    unfinished.rename(storage)


def _commands(programs: Path, storage: str, password: str) -> Iterator[tuple[list[str], str]]:
    """Each program with what it reads."""
    initdb, postgres = str(programs / "initdb"), str(programs / "postgres")
    access = ["--username", USER, "--pwfile=/dev/stdin", "--auth-local=reject", "--auth-host=scram-sha-256"]
    # Sorting by bytes is the same on every machine. What is written goes to the disk once, at the end.
    yield [initdb, "-D", storage, *access, "--encoding=UTF8", "--locale=C", "--no-sync"], f"{password}\n"
    single = [postgres, "--single", "-F", "-c", "exit_on_error=on", "-D", storage, "postgres"]
    yield single, f"CREATE DATABASE {DATABASE}\n"
    yield [initdb, "-D", storage, "--sync-only"], ""


def _run(command: Sequence[str], text: str, account: Account, inherited: Collection[int]) -> None:
    # A file and not a pipe: initdb opens its standard input once more, by name, and must own it for that.
    with tempfile.TemporaryFile("w+") as stdin:
        stdin.write(text)
        stdin.seek(0)
        account.own(stdin.fileno())
        try:
            done = subprocess.run(
                command,
                cwd="/",  # PostgreSQL before 16 goes back to where it was started, so it must be able to
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_TOOL_TIMEOUT_S,
                check=False,
                pass_fds=inherited,
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )
        except subprocess.TimeoutExpired:
            raise PostgresError(f"{command[0]} did not end within {_TOOL_TIMEOUT_S:g} s; is the disk slow?") from None
    if done.returncode != 0:
        raise PostgresError(f"{command[0]} cannot make a database, as user {account}: {done.stdout.strip()}")


def _write_secret(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(f"{text}\n")
