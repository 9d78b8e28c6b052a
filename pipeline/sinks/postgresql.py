"""PostgreSQL, 14 or newer, as CRM. The schema is made, and brought up to date, at first use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import resources
from typing import Any

import asyncpg

from pipeline.sinks.base import (
    AcceptedLead,
    Checkpoint,
    Lane,
    RecordsRejected,
    SinkUnavailable,
    SinkUnusable,
    StreamOffset,
    WrittenLead,
)
from pipeline.sinks.postgresql_errors import is_passing, is_records, is_unusable, reason, records_reason, why_unusable
from pipeline.sinks.postgresql_rows import FIND, LEADS, first_offset, insert, insert_leads, put_offset
from pipeline.sinks.postgresql_statement import Statement

__all__ = ["PostgreSQLSink"]

#: Lanes that write at once. A database does not write faster when more do, and each costs it a process.
WRITERS_MAX = 4
READERS_MAX = 2
CONNECT_TIMEOUT_S = 10.0
#: How long one statement may take; a batch takes tens of milliseconds.
STATEMENT_TIMEOUT_S = 30.0
VERSION = 1
#: What is checked at the end of a transaction would be found there only, and of no record.
_TRIAL = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE"
#: Of `pg_advisory_xact_lock`, while the schema is made.
SCHEMA_LOCK = 0x1EAD5


class Unexpected(Exception):
    """An error that nobody has thought of: its name and code."""


class PostgreSQLSink:
    """Writes leads to the database at `url` (`postgresql://user@host:5432/name`, with asyncpg's options).

    Arguments:
        url: May hold the password.
        password: If the URL does not hold it.
        lock_timeout_s: How long to wait for locks that others hold, and how long others may wait for ours when this
            worker is stopped in the middle of a transaction.
    """

    #: What is written; the benchmark writes other rows.
    statement: Statement = LEADS

    def __init__(self, url: str, *, password: str = "", lock_timeout_s: float = 5.0) -> None:
        self._url = url
        self._password = password or None
        self._lock_timeout_ms = str(int(lock_timeout_s * 1000))
        self._pools: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._is_made = False

    async def open(self) -> None:
        """See `Sink.open`."""
        async with self._connection():
            pass

    async def offsets(self, starts: Mapping[Lane, StreamOffset]) -> dict[Lane, StreamOffset]:
        """See `Sink.offsets`."""
        async with self._connection() as connection:
            return {lane: await first_offset(connection, lane, start) for lane, start in sorted(starts.items())}

    async def put_offset(self, lane: Lane, at: StreamOffset) -> None:
        """See `Sink.put_offset`."""
        async with self._connection() as connection:
            await put_offset(connection, lane, at)

    async def write(self, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None = None) -> int:
        """See `Sink.write`. One statement, which commits by itself."""
        async with self._connection() as connection:
            try:
                return await insert(connection, leads, checkpoint, self.statement)
            except asyncpg.PostgresError as error:
                if not is_records(error):
                    raise
                if rejected := await _rejected(connection, leads):
                    raise RecordsRejected(rejected) from None
                raise

    async def find(self, tenant: str, message_id: str) -> WrittenLead | None:
        """See `Sink.find`."""
        if "\0" in tenant + message_id:
            return None  # PostgreSQL has no such text
        async with self._connection("readers", READERS_MAX) as connection:
            row = await connection.fetchrow(FIND, tenant, message_id)
        return None if row is None else WrittenLead(str(row["id"]), row["written_at"])

    async def close(self) -> None:
        """See `Sink.close`."""
        while self._pools:
            _, pool = self._pools.popitem()
            pool.terminate()
        self._is_made = False

    @asynccontextmanager
    async def _connection(self, kind: str = "writers", count_max: int = WRITERS_MAX) -> AsyncIterator[Any]:
        """A connection to a database with our schema. One that something has happened to is not used again."""
        pool = await self._pool(kind, count_max)
        connection = None
        try:
            connection = await pool.acquire()
            if not self._is_made:
                await self._make(connection)
            yield connection
        except BaseException as error:
            if connection is not None and (not is_records(error) or connection.is_in_transaction()):
                # At once: whoever is cancelled must not wait for a database that does not answer.
                with suppress(asyncpg.InterfaceError):  # the pool has dropped it already, because it was cut
                    connection.terminate()
            if is_passing(error):
                raise SinkUnavailable(reason(error)) from None
            if is_unusable(error):
                raise SinkUnusable(why_unusable(error)) from None
            if isinstance(error, asyncpg.PostgresError):
                raise Unexpected(reason(error)) from None  # its text may quote a record, and ends in the log
            raise
        finally:
            if connection is not None:
                await pool.release(connection)

    async def _pool(self, kind: str, count_max: int) -> Any:
        async with self._making:
            if kind not in self._pools:
                self._pools[kind] = await self.new_pool(count_max)
        return self._pools[kind]

    def new_pool(self, count_max: int) -> Any:
        """Connections as the sink has them, at most `count_max`, none yet; to be awaited. Nothing is made there."""
        return asyncpg.create_pool(
            self._url,
            password=self._password,
            min_size=0,
            max_size=count_max,
            init=_init,
            reset=_leave_as_it_is,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={
                "application_name": "leads",
                "default_transaction_isolation": "read committed",
                "lock_timeout": self._lock_timeout_ms,
                "idle_in_transaction_session_timeout": self._lock_timeout_ms,
                "tcp_user_timeout": self._lock_timeout_ms,
            },
        )

    async def _make(self, connection: Any) -> None:
        async with self._making:
            if self._is_made:
                return
            # Statements, here and in the trials: asyncpg's own transaction would ask a database that does not answer
            # to roll back before whoever is cancelled may go. A connection that is left in one is not used again.
            await connection.execute(f"BEGIN; SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            # Asked before it is made: whoever may write the tables need not be allowed to make them.
            if await connection.fetchval("SELECT to_regclass('leads_schema') IS NULL"):
                await connection.execute("CREATE TABLE leads_schema (version integer NOT NULL)")
            version = await connection.fetchval("SELECT max(version) FROM leads_schema")
            if version is None:
                await connection.execute(resources.files(__package__).joinpath("postgresql.sql").read_text())
                await connection.execute("INSERT INTO leads_schema VALUES ($1)", VERSION)
            elif version > VERSION:
                raise SinkUnusable(f"it has version {version} of the schema, and this program {VERSION}")
            await connection.execute("COMMIT")
            self._is_made = True


async def _init(connection: Any) -> None:
    # Whatever is set for the database: what is acknowledged must be on its disk.
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )


async def _leave_as_it_is(connection: Any) -> None:
    """Spares a round trip: nobody changes a connection, and one with an open transaction is not used again."""


async def _rejected(connection: Any, leads: Sequence[AcceptedLead]) -> dict[int, str]:
    """Which leads the database refuses, and why; everything is rolled back."""
    return await _rejected_leads(connection, leads) or await _rejected_with_contacts(connection, leads)


async def _rejected_leads(connection: Any, leads: Sequence[AcceptedLead]) -> dict[int, str]:
    """By halves, and in the order of their log: of two that exclude each other the first one stays.

    Without their contacts, whose rows other workers change: locked one half after the other, so not in the one order
    of all, they would end in deadlocks.
    """
    reasons: dict[int, str] = {}
    await connection.execute(_TRIAL)
    pending = [range(len(leads))]
    while pending:
        some = pending.pop()
        await connection.execute("SAVEPOINT half")
        try:
            await insert_leads(connection, leads[some.start : some.stop])
        except asyncpg.PostgresError as error:
            if not is_records(error):
                raise
            await connection.execute("ROLLBACK TO half")
            if len(some) == 1:
                reasons[some.start] = records_reason(error)
            else:
                middle = some.start + len(some) // 2
                pending += [range(middle, some.stop), range(some.start, middle)]
        await connection.execute("RELEASE half")
    await connection.execute("ROLLBACK")
    return reasons


async def _rejected_with_contacts(connection: Any, leads: Sequence[AcceptedLead]) -> dict[int, str]:
    """One by one, each in a transaction of its own: for rules that somebody has added to contacts."""
    reasons: dict[int, str] = {}
    for index, accepted in enumerate(leads):
        await connection.execute(_TRIAL)
        try:
            await insert(connection, [accepted], None)
        except asyncpg.PostgresError as error:
            if not is_records(error):
                raise
            reasons[index] = records_reason(error)
        await connection.execute("ROLLBACK")
    return reasons
