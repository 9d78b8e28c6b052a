"""The table `lead` of the SQLite CRM: what it is, how it becomes that, and the statements on it."""

from __future__ import annotations

import sqlite3

__all__ = ["FIND", "INSERTS", "ROWS_AT_ONCE", "create"]

# STRICT came with SQLite 3.37; the table is the same without it.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

_CREATE = f"""
CREATE TABLE IF NOT EXISTS lead (
    id               INTEGER PRIMARY KEY, -- what the CRM calls it
    tenant           TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    email            TEXT,
    phone            TEXT,
    name             TEXT,
    company          TEXT,
    source           TEXT,
    campaign         TEXT,
    captured_at      TEXT,             -- UTC, by the clock of the sender
    fields           TEXT NOT NULL,    -- a JSON object
    source_partition INTEGER NOT NULL, -- where the lead stands in lead-accepted
    source_offset    INTEGER NOT NULL,
    written_at       TEXT NOT NULL,    -- UTC
    UNIQUE (tenant, message_id)
) {_STRICT}
"""

_COLUMNS = """tenant, message_id, email, phone, name, company, source, campaign, captured_at, fields,
              source_partition, source_offset, written_at"""

#: The first tables had no `id`: their rows have only the number that SQLite gives by itself, and may give anew.
_FIRST_COLUMNS = {name.strip() for name in _COLUMNS.split(",")}
_FROM_FIRST = (
    "ALTER TABLE lead RENAME TO lead_without_id",
    _CREATE,
    f"INSERT INTO lead (id, {_COLUMNS}) SELECT rowid, {_COLUMNS} FROM lead_without_id",
    "DROP TABLE lead_without_id",
)

# Only a conflict of the name is a lead that is already there. A conflict of any other constraint, which somebody may
# have added, is an error: otherwise it would drop a lead in silence.
_ONCE = "ON CONFLICT (tenant, message_id) DO NOTHING"
_ROW = f"({', '.join('?' * len(_FIRST_COLUMNS))})"
#: Rows of one statement. The largest stays well below the 32,766 parameters that SQLite allows.
ROWS_AT_ONCE = (500, 50, 5, 1)
#: Number of rows -> the statement that inserts them; the parameters are the columns from `tenant` to `written_at`.
INSERTS = {n: f"INSERT INTO lead ({_COLUMNS}) VALUES {', '.join([_ROW] * n)} {_ONCE}" for n in ROWS_AT_ONCE}

FIND = "SELECT id, written_at FROM lead WHERE tenant = ? AND message_id = ?"


def create(connection: sqlite3.Connection) -> None:
    """Create the table, or bring one of a former version up to date, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    found = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('lead')")}
    for statement in _FROM_FIRST if found == _FIRST_COLUMNS else [_CREATE]:
        connection.execute(statement)
    connection.execute("COMMIT")
