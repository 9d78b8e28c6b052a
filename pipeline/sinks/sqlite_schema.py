"""The tables of the SQLite CRM: what they are, how they become that, and the statements on them."""

from __future__ import annotations

import sqlite3

from pipeline.lead import Lead
from pipeline.sinks.contact import address

__all__ = [
    "ADD_OFFSET",
    "CONTACTS",
    "FIND",
    "INSERTS",
    "LAST_ID",
    "NEW",
    "OFFSET",
    "PUT_OFFSET",
    "ROWS_AT_ONCE",
    "STEP",
    "create",
]

# STRICT came with SQLite 3.37; the table is the same without it.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

_CREATE = f"""
CREATE TABLE IF NOT EXISTS lead (
    id               INTEGER PRIMARY KEY, -- what the CRM calls it
    tenant           TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    contact          TEXT NOT NULL,    -- the address of the contact whose lead it is
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
_CREATE_CONTACT = f"""
CREATE TABLE IF NOT EXISTS contact (
    tenant      TEXT NOT NULL,
    address     TEXT NOT NULL,    -- the normalised email, else the normalised phone number
    first_seen  TEXT NOT NULL,    -- UTC, by the broker's clock
    last_seen   TEXT NOT NULL,
    submissions INTEGER NOT NULL, -- rows in `lead`
    name        TEXT,             -- as the last lead that has one says
    company     TEXT,
    PRIMARY KEY (tenant, address)
) {_STRICT}
"""
# How far each consumer group has come: moved in the transaction of the rows, and only there.
_CREATE_OFFSET = f"""
CREATE TABLE IF NOT EXISTS stream_offset (
    consumer_group TEXT NOT NULL,
    topic          TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    next_offset    INTEGER NOT NULL,
    log_id         TEXT NOT NULL,    -- of the topic
    last_offset    INTEGER,          -- the record before `next_offset`, to know its log again
    last_time_ms   INTEGER,
    last_key       BLOB,
    PRIMARY KEY (consumer_group, topic, partition)
) {_STRICT}
"""

_COLUMNS = """tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields,
              source_partition, source_offset, written_at"""

_NAMES = [name.strip() for name in _COLUMNS.split(",")]

# Only a conflict of the name is a lead that is already there. A conflict of any other constraint, which somebody may
# have added, is an error: otherwise it would drop a lead in silence.
_ONCE = "ON CONFLICT (tenant, message_id) DO NOTHING"
_ROW = f"({', '.join('?' * len(_NAMES))})"
#: Rows of one statement. The largest stays well below the 32,766 parameters that SQLite allows.
ROWS_AT_ONCE = (500, 50, 5, 1)
#: Number of rows -> the statement that inserts them; the parameters are the columns from `tenant` to `written_at`.
INSERTS = {n: f"INSERT INTO lead ({_COLUMNS}) VALUES {', '.join([_ROW] * n)} {_ONCE}" for n in ROWS_AT_ONCE}

FIND = "SELECT id, written_at FROM lead WHERE tenant = ? AND message_id = ?"
#: Ids rise, and one transaction writes at a time: the rows that it has inserted are those above the last id of before.
LAST_ID = "SELECT coalesce(max(id), 0) FROM lead"
NEW = "SELECT source_partition, source_offset FROM lead WHERE id > ?"

_CONTACTS = """
INSERT INTO contact (tenant, address, first_seen, last_seen, submissions, name, company) VALUES {rows}
ON CONFLICT (tenant, address) DO UPDATE SET
    first_seen = min(first_seen, excluded.first_seen),
    last_seen = max(last_seen, excluded.last_seen),
    submissions = submissions + excluded.submissions,
    name = CASE WHEN excluded.last_seen >= last_seen THEN coalesce(excluded.name, name)
                ELSE coalesce(name, excluded.name) END,
    company = CASE WHEN excluded.last_seen >= last_seen THEN coalesce(excluded.company, company)
                   ELSE coalesce(company, excluded.company) END
"""
#: Likewise; the parameters are a `Contact`'s members. Times are text of one length, so that they compare as times.
CONTACTS = {n: _CONTACTS.format(rows=", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * n)) for n in ROWS_AT_ONCE}

_LANE = "consumer_group = ? AND topic = ? AND partition = ?"
OFFSET = f"SELECT next_offset, log_id, last_offset, last_time_ms, last_key FROM stream_offset WHERE {_LANE}"
ADD_OFFSET = "INSERT INTO stream_offset VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
PUT_OFFSET = "INSERT OR REPLACE INTO stream_offset VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
#: The fence: of two writers at one position one moves it, and the other finds no row.
STEP = f"""
UPDATE stream_offset SET next_offset = ?, log_id = ?, last_offset = ?, last_time_ms = ?, last_key = ?
WHERE {_LANE} AND next_offset = ?
"""


def create(connection: sqlite3.Connection) -> None:
    """Create the tables, or bring those of a former version up to date, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        columns = [name for (name,) in connection.execute("SELECT name FROM pragma_table_info('lead')")]
        is_former = bool(columns) and "contact" not in columns
        if is_former:
            connection.execute("ALTER TABLE lead RENAME TO former_lead")
        for statement in (_CREATE, _CREATE_CONTACT, _CREATE_OFFSET):
            connection.execute(statement)
        if is_former:
            _take_over(connection, columns)
            connection.execute("DROP TABLE former_lead")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _take_over(connection: sqlite3.Connection, columns: list[str]) -> None:
    """The rows of before there were contacts. The very first tables had no `id`, only the number that SQLite gives."""
    kept = ", ".join(name for name in _NAMES if name != "contact")
    number = "id" if "id" in columns else "rowid"
    connection.create_function("contact_of", 2, _contact_of, deterministic=True)
    connection.execute(
        f"INSERT INTO lead (id, contact, {kept}) SELECT {number}, contact_of(email, phone), {kept} FROM former_lead"
    )
    # When they were captured by the broker's clock is not known any more; they were written soon after.
    connection.execute("""
        INSERT INTO contact (tenant, address, first_seen, last_seen, submissions, name, company)
        SELECT tenant, contact, min(written_at), max(written_at), count(*), NULL, NULL FROM lead GROUP BY 1, 2
    """)
    for column in ("name", "company"):
        connection.execute(f"""
            UPDATE contact SET {column} = last.{column} FROM (
                SELECT tenant, contact, {column}, max(written_at) FROM lead WHERE {column} IS NOT NULL GROUP BY 1, 2
            ) AS last WHERE last.tenant = contact.tenant AND last.contact = contact.address
        """)


def _contact_of(email: str | None, phone: str | None) -> str:
    return address(Lead(message_id="-", email=email, phone=phone))
