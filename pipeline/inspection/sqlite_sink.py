"""Whether a SQLite file can be the CRM: the lock of a writer is taken, the tables are looked at, nothing is written."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.machine import exists, writable
from pipeline.sinks.sqlite_schema import CONTACTS, INSERTS, PUT_OFFSET, create

__all__ = ["check"]

#: Workers hold the lock for a moment with every batch.
PATIENCE_S = 5.0

_USUAL = "See that it is a file that the workers' user may write, its directory too, or set LEADS_SINK_URL."
_ADVICE = {
    "SQLITE_BUSY": "Another program holds its lock: end the transaction, or the program.",
    "SQLITE_CORRUPT": "It is damaged: bring back a copy, or save what `sqlite3 FILE .recover` finds.",
}
_ANOTHER = "Set LEADS_SINK_URL to a database of its own, or rename that table."

#: What is written to each table, as a worker does.
_STATEMENTS = {"lead": INSERTS[1], "contact": CONTACTS[1], "stream_offset": PUT_OFFSET}
#: Columns of `lead` that a former version did not have; the first worker adds them.
_NEW = {"id", "contact"}


class _Column(NamedTuple):
    name: str
    is_needed: bool


def check(path: Path) -> str:
    """What is well with the database at `path`; one that is not there is not made.

    Raises:
        SinkUnusable: workers cannot write it.
    """
    if _is_there(path):
        is_former = _look(path)
        what = "; its tables are of a former version, which the first worker brings up to date" if is_former else ""
        return f"the database {path} can be written{what}"
    log = path.with_name(f"{path.name}-wal")
    if exists(log) and log.stat().st_size:
        raise SinkUnusable(f"{path} is gone, and {log.name}, which has rows, is there", "Bring the database back.")
    target = Path(os.path.realpath(path))
    if path.is_symlink() and not exists(target.parent):
        raise SinkUnusable(f"{path} is a link to {target}, whose directory is not there", _USUAL)
    _require_directory(target, "made")
    return f"{path} is not there yet; the first worker makes it"


def _is_there(path: Path) -> bool:
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    except OSError as error:  # links in a circle, a name that is too long, a disk that fails
        raise SinkUnusable(f"the database {path} cannot be opened: {error.strerror}", _USUAL) from None
    if kind not in (stat.S_IFREG, stat.S_IFDIR):  # of a directory SQLite says it itself
        raise SinkUnusable(f"{path} is not a file", _USUAL)
    return True


def _require_directory(path: Path, what: str) -> None:
    if (why := writable(path.parent)) is not None:
        raise SinkUnusable(f"{path} cannot be {what}: {why}", _USUAL)


def _look(path: Path) -> bool:
    """Whether its tables are of a former version."""
    try:
        with _writing(path) as connection, closing(sqlite3.connect(":memory:")) as model:
            create(model)
            # All of them, before one is told of: each may raise.
            former = [_is_former(path, table, connection, model) for table in _STATEMENTS]
    except sqlite3.Error as error:
        raise _explained(path, getattr(error, "sqlite_errorname", type(error).__name__)) from None
    _require_directory(Path(os.path.realpath(path)), "written")  # its log stands beside it, not beside a link to it
    return any(former)


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that may write, and does not."""
    with closing(
        sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE_S, isolation_level=None)
    ) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")


def _is_former(path: Path, table: str, connection: sqlite3.Connection, model: sqlite3.Connection) -> bool:
    """Whether the table is of a former version; a table that is not there is made by the first worker."""
    found, wanted = _columns(connection, table), {column.name for column in _columns(model, table)}
    if not found:
        return False
    missing = wanted - {column.name for column in found}
    if table == "lead" and "contact" in missing <= _NEW:
        return True
    if missing:
        raise _another(path, table, f"it lacks {_listed(missing)}")
    if needed := {column.name for column in found if column.is_needed} - wanted:
        raise _another(path, table, f"it needs {_listed(needed)} in every row")
    statement = _STATEMENTS[table]
    try:
        # Compiled, not run: that takes every column and constraint that the statement names.
        connection.execute(f"EXPLAIN {statement}", [None] * statement.count("?"))
    except sqlite3.OperationalError as error:
        raise _another(path, table, str(error)) from None
    return False


def _columns(connection: sqlite3.Connection, table: str) -> list[_Column]:
    rows = connection.execute('SELECT name, "notnull", dflt_value, pk FROM pragma_table_info(?)', (table,))
    return [_Column(name, bool(not_null) and default is None and not key) for name, not_null, default, key in rows]


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


def _another(path: Path, table: str, why: str) -> SinkUnusable:
    return SinkUnusable(f"{path} has a table {table} that is not the CRM's: {why}", _ANOTHER, status=os.EX_CONFIG)


def _explained(path: Path, name: str) -> SinkUnusable:
    if name == "SQLITE_NOTADB":
        return SinkUnusable(f"{path} is no SQLite database", "Set LEADS_SINK_URL to another file.", status=os.EX_CONFIG)
    # SQLITE_READONLY of SQLITE_READONLY_DIRECTORY, and the like.
    kind = next((kind for kind in _ADVICE if name.startswith(kind)), "")
    return SinkUnusable(f"the database {path} cannot be written: {name}", _ADVICE.get(kind, _USUAL))
