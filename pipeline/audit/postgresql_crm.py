"""A PostgreSQL CRM, read beside its workers: a transaction that only reads, and cursors in the server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from pipeline.audit.crm import COUNTERS, OFFSETS, ROWS_AT_ONCE, Row, Snapshot, StoredOffset
from pipeline.audit.outcome import WrongCounter
from pipeline.inspection.errors import Unavailable
from pipeline.sinks.postgresql import PostgreSQLSink
from pipeline.sinks.postgresql_errors import is_unusable, reason

__all__ = ["PostgreSQLCRM"]

#: A sort of ten million rows.
SORT_TIMEOUT_S = 3600.0
_TABLES = "SELECT count(*) FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL"


class PostgreSQLCRM:
    """The database of `sink`.

    Arguments:
        sink: knows how to connect; it makes nothing here.
        name: its URL, without secrets.
    """

    def __init__(self, sink: PostgreSQLSink, name: str) -> None:
        self._sink = sink
        self._name = name

    async def offsets(self, group: str, topic: str) -> dict[int, StoredOffset] | None:
        """See `CRM.offsets`."""
        async with self._reading() as connection:
            if not await _has_tables(connection):
                return None
            found = await connection.fetch(OFFSETS.format("$1", "$2"), group, topic)
        return {number: StoredOffset(*at) for number, *at in found}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgreSQLSnapshot]:
        """See `CRM.snapshot`."""
        async with self._reading() as connection:
            yield PostgreSQLSnapshot(connection if await _has_tables(connection) else None)

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[Any]:
        with self._translated():
            pool = await self._sink.new_pool(1)
            try:
                async with (
                    pool.acquire() as connection,
                    # One snapshot for all statements.
                    connection.transaction(isolation="repeatable_read", readonly=True),
                ):
                    # It holds no lock that a worker wants, and what is read is worked on between two fetches.
                    await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '10min'")
                    yield connection
            finally:
                pool.terminate()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
            TimeoutError,
        ) as error:
            status = os.EX_CONFIG if is_unusable(error) else os.EX_UNAVAILABLE
            raise Unavailable(
                f"The CRM {self._name} cannot be read: {reason(error)}. See `leads check-sink`.", status=status
            ) from None


class PostgreSQLSnapshot(Snapshot):
    """See `Snapshot`; with None that of a database without rows."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def wrong_counters(self) -> AsyncIterator[WrongCounter]:
        """See `Snapshot.wrong_counters`."""
        async for some in self.select(COUNTERS, timeout_s=SORT_TIMEOUT_S):
            for tenant, submissions, rows, message_id in some:
                yield WrongCounter(tenant, message_id, int(submissions), int(rows))

    async def select(self, sql: str, *, timeout_s: float | None = None) -> AsyncIterator[Sequence[Row]]:
        """See `Snapshot.select`."""
        if self._connection is None:
            return
        cursor = await self._connection.cursor(sql, timeout=timeout_s)
        while some := await cursor.fetch(ROWS_AT_ONCE, timeout=timeout_s):
            yield some


async def _has_tables(connection: Any) -> bool:
    return bool(await connection.fetchval(_TABLES, ["lead", "contact", "stream_offset"]) == 3)
