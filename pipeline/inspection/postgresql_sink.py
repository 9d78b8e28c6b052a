"""Whether a PostgreSQL database can be the CRM: asked as a worker would connect, in a transaction that only reads."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from pipeline.inspection.errors import SinkUnusable
from pipeline.showing import without_secrets
from pipeline.sinks.postgresql import VERSION, PostgreSQLSink
from pipeline.sinks.postgresql_errors import reason
from pipeline.sinks.postgresql_rows import COLUMNS, STATEMENTS

__all__ = ["check"]

#: The rights that a worker needs on each table.
_RIGHTS = {
    "leads_schema": ("SELECT",),
    "lead": ("SELECT", "INSERT"),
    "contact": ("SELECT", "INSERT", "UPDATE"),
    "stream_offset": ("SELECT", "INSERT", "UPDATE"),
}

_SERVER = """
SELECT pg_is_in_recovery() AS is_standby, current_setting('default_transaction_read_only') = 'on' AS is_read_only,
       current_user AS role, current_schema() AS schema,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create
"""
# In the schema where workers make them, and not in one behind it in the search path.
_TABLES = """
SELECT relname AS name, has_table_privilege(oid, 'SELECT') AS "SELECT", has_table_privilege(oid, 'INSERT') AS "INSERT",
       has_table_privilege(oid, 'UPDATE') AS "UPDATE"
FROM pg_class WHERE relname = ANY ($1::text[]) AND relnamespace = to_regnamespace(quote_ident(current_schema()))
"""
_NEEDED = """
SELECT relname AS name, attname AS column FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relname = ANY ($1::text[]) AND relnamespace = to_regnamespace(quote_ident(current_schema()))
      AND attnum > 0 AND NOT attisdropped AND attnotnull AND NOT atthasdef AND attidentity = ''
"""
#: Columns that must have a value, of those that workers give one.
_GIVEN = {
    "lead": set(COLUMNS),
    "contact": {"tenant", "address", "first_seen", "last_seen", "submissions"},
    "stream_offset": {"consumer_group", "topic", "partition", "next_offset", "log_id"},
}

_ANOTHER = "Set LEADS_SINK_URL to a database of its own, or rename"
_RUNS = "See that it runs, and that LEADS_SINK_URL names it."
#: By the beginning of the SQLSTATE: what to do, and whether what is set is wrong.
_ADVICE = {
    "28": ("Check the user in LEADS_SINK_URL, and LEADS_SINK_PASSWORD or LEADS_SINK_PASSWORD_FILE.", os.EX_CONFIG),
    "3D000": ("There is no such database: make it, or correct LEADS_SINK_URL.", os.EX_CONFIG),
    "42501": ("Give this user the right to CONNECT to the database.", os.EX_UNAVAILABLE),
    "53300": ("Raise max_connections of the server, or end clients that it can do without.", os.EX_UNAVAILABLE),
    "57P03": ("It is starting or stopping: try again in a moment.", os.EX_UNAVAILABLE),
}


async def check(sink: PostgreSQLSink, url: str) -> str:
    """What is well with the database of `sink`, whose URL is `url`.

    Raises:
        SinkUnusable: workers cannot write it.
    """
    name = without_secrets(url)
    try:
        # The sink's own way to connect, without what it makes on its first connection.
        pool = await sink.new_pool(1)
        try:
            async with pool.acquire() as connection, connection.transaction(readonly=True):
                return f"{name} can be written{await _look(name, connection)}"
        finally:
            pool.terminate()
    except SinkUnusable:
        raise
    except Exception as error:
        # Whatever the driver finds; of its text nothing is told, which may hold the password.
        raise _explained(name, error) from None


async def _look(name: str, connection: Any) -> str:
    server = await connection.fetchrow(_SERVER)
    _require_writable(name, server)
    tables = {row["name"]: row for row in await connection.fetch(_TABLES, list(_RIGHTS))}
    if (version := await _version(name, server, connection, tables)) is None:
        _require_create(name, server)
        _require_room(name, sorted(tables.keys() - {"leads_schema"}))
        return "; the first worker makes its tables"
    _require_version(name, version, [table for table in _RIGHTS if table not in tables])
    await _require_statements(name, server, connection, tables)
    for row in await connection.fetch(_NEEDED, list(_GIVEN)):
        if row["column"] not in _GIVEN[row["name"]]:
            raise _another(name, row["name"], f"it needs {row['column']} in every row")
    return ""


async def _version(name: str, server: Any, connection: Any, tables: Mapping[str, Mapping[str, Any]]) -> int | None:
    """That of the tables; None before they are made."""
    if "leads_schema" not in tables:
        return None
    try:
        found = await connection.fetchval("SELECT max(version) FROM leads_schema")
    except asyncpg.InsufficientPrivilegeError:
        _require_rights(name, server, {"leads_schema": tables["leads_schema"]})
        raise
    except asyncpg.SyntaxOrAccessError as error:
        raise _another(name, "leads_schema", reason(error)) from None
    if not isinstance(found, int | None):
        raise _another(name, "leads_schema", "its version is no number")
    return found


async def _require_statements(name: str, server: Any, connection: Any, tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Plan what a worker executes: that takes its tables, columns, constraints and rights, and changes nothing."""
    for statement, parameters in STATEMENTS:
        try:
            await connection.fetch(f"EXPLAIN {statement}", *[None] * parameters)
        except asyncpg.InsufficientPrivilegeError:
            _require_rights(name, server, tables)
            raise
        except asyncpg.SyntaxOrAccessError as error:  # no such column, another type, no such constraint
            found = f"{name} has tables that are not the CRM's: {reason(error)}"
            raise SinkUnusable(found, f"{_ANOTHER} them.", status=os.EX_CONFIG) from None


def _require_writable(name: str, server: Mapping[str, Any]) -> None:
    if server["is_standby"]:
        raise SinkUnusable(f"{name} is a standby, and can only be read", "Set LEADS_SINK_URL to the primary.")
    if server["is_read_only"]:
        advice = "Set default_transaction_read_only to off for this user and database."
        raise SinkUnusable(f"{name} is set so that transactions only read", advice)


def _require_create(name: str, server: Mapping[str, Any]) -> None:
    if not server["may_create"]:
        schema = server["schema"] or "(none in the search_path)"
        raise SinkUnusable(
            f"{name}: {server['role']} may not make tables in the schema {schema}",
            f"Run GRANT USAGE, CREATE ON SCHEMA {server['schema'] or 'public'} TO {server['role']}.",
        )


def _require_rights(name: str, server: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> None:
    for table, row in tables.items():
        if lacking := [right for right in _RIGHTS[table] if not row[right]]:
            raise SinkUnusable(
                f"{name}: {server['role']} has not the right to {' and '.join(lacking)} on {table}",
                f"Run GRANT {', '.join(lacking)} ON {table} TO {server['role']}.",
            )


def _require_room(name: str, taken: Sequence[str]) -> None:
    if taken:
        found = f"{name} has tables that are not the CRM's: {', '.join(taken)}"
        raise SinkUnusable(found, f"{_ANOTHER} them.", status=os.EX_CONFIG)


def _another(name: str, table: str, why: str) -> SinkUnusable:
    found = f"{name} has a table {table} that is not the CRM's: {why}"
    return SinkUnusable(found, f"{_ANOTHER} that table.", status=os.EX_CONFIG)


def _require_version(name: str, version: int, missing: Sequence[str]) -> None:
    if version > VERSION:
        raise SinkUnusable(
            f"{name} has version {version} of the tables, and this program {VERSION}",
            "Use a newer version of this program, or another database.",
            status=os.EX_CONFIG,
        )
    if missing:
        raise SinkUnusable(
            f"{name} says that it has the CRM's tables, and lacks {', '.join(missing)}",
            "Bring back a copy of the database, or set LEADS_SINK_URL to a new one.",
            status=os.EX_CONFIG,
        )


def _explained(name: str, error: Exception) -> SinkUnusable:
    if isinstance(error, asyncpg.PostgresError):
        code = str(getattr(error, "sqlstate", None) or "")
        advice, status = next((told for start, told in _ADVICE.items() if code.startswith(start)), _OTHER)
        return SinkUnusable(f"{name} does not let us in: {reason(error)}", advice, status=status)
    if isinstance(error, ssl.SSLError):  # some are a ValueError, too
        advice = "Check sslmode and sslrootcert in LEADS_SINK_URL, and the server's certificate."
        return SinkUnusable(f"{name} cannot be reached by TLS: {error.reason}", advice)
    if isinstance(error, FileNotFoundError):
        found = f"a file that {name} names, or its socket, is not there"
        return SinkUnusable(found, "Start it, or correct LEADS_SINK_URL.")
    if isinstance(error, ConnectionRefusedError):
        return SinkUnusable(f"nothing listens at {name}", "Start it, or correct LEADS_SINK_URL.")
    if isinstance(error, socket.gaierror):
        status = os.EX_CONFIG if error.errno == socket.EAI_NONAME else os.EX_UNAVAILABLE
        return SinkUnusable(f"the host of {name} is not known", "Correct LEADS_SINK_URL, or the DNS.", status=status)
    if isinstance(error, ConnectionError) and "SSL" in str(error):
        advice = "Set it up in the server, or leave sslmode out of LEADS_SINK_URL."
        return SinkUnusable(f"{name} speaks no TLS", advice, status=os.EX_CONFIG)
    if isinstance(error, TimeoutError):
        return SinkUnusable(f"{name} does not answer", f"It hangs, or a firewall is in between. {_RUNS}")
    if isinstance(error, ValueError):  # of which asyncpg makes its errors of configuration
        return SinkUnusable(f"{name} cannot be used: its options are wrong", "Correct them.", status=os.EX_CONFIG)
    return SinkUnusable(f"{name} cannot be reached: {type(error).__name__}", _RUNS)


_OTHER = ("Look into the log of the server.", os.EX_UNAVAILABLE)
