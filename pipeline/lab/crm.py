"""The CRM's database as the lab reads it: past the proxies, a connection for each question, so that no fault lasts."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import asyncpg

from pipeline.lab.chaos_leads import REFUSED
from pipeline.lab.checker import Row
from pipeline.lab.installation import Installation
from pipeline.topic_names import ACCEPTED

__all__ = ["CRM_ERRORS", "Contact", "Crm", "PostgreSQLCrm", "SQLiteCrm", "crm_of"]

#: What a database that is away raises.
CRM_ERRORS = (OSError, TimeoutError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError)

TIMEOUT_S = 10.0
AT_ONCE_ROWS = 1000
_NAMES_AT_ONCE = 500

_COLUMNS = ", ".join(Row._fields)
_ROWS = f"SELECT {_COLUMNS} FROM lead"
_CONTACTS = "SELECT tenant, address, submissions FROM contact"


class Contact(NamedTuple):
    """A row of `contact`."""

    tenant: str
    address: str
    submissions: int


class Crm(Protocol):
    """What the lab asks a database. Every method raises one of `CRM_ERRORS` while it is away."""

    async def refuse(self) -> None:
        """From now on it refuses leads of the campaign `REFUSED`. The tables are there."""

    async def checkpoints(self, group: str) -> dict[int, int]:
        """The next offset to read of each partition of lead-accepted, as far as it keeps them."""

    async def present(self, keys: Iterable[bytes]) -> set[bytes]:
        """Which of these record keys have a row."""

    def rows(self) -> AsyncIterator[Row]:
        """Every row of `lead`."""

    def contacts(self) -> AsyncIterator[Contact]:
        """Every row of `contact`."""


class SQLiteCrm:
    """The CRM in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def refuse(self) -> None:
        """See `Crm.refuse`."""
        with closing(sqlite3.connect(self._path, timeout=TIMEOUT_S)) as connection:
            connection.execute(
                f"CREATE TRIGGER IF NOT EXISTS lab BEFORE INSERT ON lead WHEN new.campaign = '{REFUSED}' "
                "BEGIN SELECT RAISE(ABORT, 'refused by the lab'); END"
            )

    async def checkpoints(self, group: str) -> dict[int, int]:
        """See `Crm.checkpoints`."""
        query = "SELECT partition, next_offset FROM stream_offset WHERE consumer_group = ? AND topic = ?"
        with self._connection() as connection:
            return dict(connection.execute(query, (group, ACCEPTED)).fetchall())

    async def present(self, keys: Iterable[bytes]) -> set[bytes]:
        """See `Crm.present`."""
        found: set[bytes] = set()
        with self._connection() as connection:
            for some in _pieces([_name(key) for key in keys]):
                wanted = ", ".join(["(?, ?)"] * len(some))
                query = f"SELECT tenant, message_id FROM lead WHERE (tenant, message_id) IN (VALUES {wanted})"
                values = [part for name in some for part in name]
                found |= {f"{tenant}/{name}".encode() for tenant, name in connection.execute(query, values)}
        return found

    async def rows(self) -> AsyncIterator[Row]:
        """See `Crm.rows`."""
        with self._connection() as connection:
            for row in connection.execute(_ROWS):
                yield _row(row)

    async def contacts(self) -> AsyncIterator[Contact]:
        """See `Crm.contacts`."""
        with self._connection() as connection:
            for row in connection.execute(_CONTACTS):
                yield Contact(*row)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=TIMEOUT_S)) as connection:
            yield connection


class PostgreSQLCrm:
    """The CRM in the database at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def refuse(self) -> None:
        """See `Crm.refuse`."""
        async with self._connection() as connection:
            # Not for the rows that are there.
            check = f"CHECK (campaign <> '{REFUSED}') NOT VALID"
            await connection.execute(f"ALTER TABLE lead ADD CONSTRAINT lab {check}")

    async def checkpoints(self, group: str) -> dict[int, int]:
        """See `Crm.checkpoints`."""
        query = "SELECT partition, next_offset FROM stream_offset WHERE consumer_group = $1 AND topic = $2"
        async with self._connection() as connection:
            return {row[0]: row[1] for row in await connection.fetch(query, group, ACCEPTED)}

    async def present(self, keys: Iterable[bytes]) -> set[bytes]:
        """See `Crm.present`."""
        names = [_name(key) for key in keys]
        query = """
            SELECT tenant, message_id FROM lead JOIN unnest($1::text[], $2::text[]) AS wanted (tenant, message_id)
            USING (tenant, message_id)
        """
        async with self._connection() as connection:
            found = await connection.fetch(query, [name for name, _ in names], [name for _, name in names])
        return {f"{row[0]}/{row[1]}".encode() for row in found}

    async def rows(self) -> AsyncIterator[Row]:
        """See `Crm.rows`."""
        async with self._connection() as connection, connection.transaction():
            async for row in connection.cursor(_ROWS, prefetch=AT_ONCE_ROWS):
                yield Row(*row)

    async def contacts(self) -> AsyncIterator[Contact]:
        """See `Crm.contacts`."""
        async with self._connection() as connection, connection.transaction():
            async for row in connection.cursor(_CONTACTS, prefetch=AT_ONCE_ROWS):
                yield Contact(*row)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self._url, timeout=TIMEOUT_S, command_timeout=TIMEOUT_S)
        try:
            yield connection
        finally:
            connection.terminate()


def _row(values: Sequence[Any]) -> Row:
    row = Row(*values)
    return row if row.captured_at is None else row._replace(captured_at=datetime.fromisoformat(str(row.captured_at)))


def _name(key: bytes) -> tuple[str, str]:
    tenant, _, name = key.decode(errors="replace").partition("/")
    return tenant, name


def _pieces(names: Sequence[tuple[str, str]]) -> Iterator[Sequence[tuple[str, str]]]:
    for start in range(0, len(names), _NAMES_AT_ONCE):
        yield names[start : start + _NAMES_AT_ONCE]


def crm_of(installation: Installation) -> Crm:
    """The database of an installation."""
    if installation.sqlite is not None:
        return SQLiteCrm(installation.sqlite)
    assert installation.postgres is not None
    return PostgreSQLCrm(installation.postgres.url)
