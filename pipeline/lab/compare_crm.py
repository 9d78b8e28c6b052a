"""The database of a contender, asked past everybody."""

from __future__ import annotations

from typing import Any, NamedTuple

import asyncpg

from pipeline.sinks.postgresql import PostgreSQLSink

__all__ = ["Counts", "count", "counts", "create", "written"]


class Counts(NamedTuple):
    """Rows in `lead`; the sum of the submissions; attempts to insert a row, whatever became of them.

    The attempts are the numbers that the sequence of `lead.id` has given: PostgreSQL takes one for each row of an
    INSERT before it sees a conflict, and none goes back when a transaction is rolled back. Where a wrong checkpoint
    fences a statement of ours off there are no rows to insert, so it takes no number. The server is stopped in order
    only: after a crash it would skip some.
    """

    rows: int
    submissions: int
    attempts: int


_COUNTS = """
SELECT (SELECT count(*) FROM lead) AS rows,
       (SELECT coalesce(sum(submissions), 0)::bigint FROM contact) AS submissions,
       (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM lead_id_seq) AS attempts
"""


async def create(server_url: str, name: str) -> str:
    """A new database with our tables; returns its URL."""
    server = await asyncpg.connect(server_url)
    try:
        await server.execute(f'CREATE DATABASE "{name}"')
    finally:
        await server.close()
    url = f"{server_url.rpartition('/')[0]}/{name}"
    sink = PostgreSQLSink(url)
    await sink.open()
    await sink.close()
    return url


async def counts(connection: Any) -> Counts:
    """What stands there now."""
    return Counts(*await connection.fetchrow(_COUNTS))


async def count(connection: Any) -> int:
    """Rows in `lead`."""
    found: int = await connection.fetchval("SELECT count(*) FROM lead")
    return found


async def written(connection: Any) -> dict[str, float]:
    """When the transaction of each lead began, seconds since the epoch, by key."""
    rows = await connection.fetch("SELECT tenant || '/' || message_id, extract(epoch FROM written_at) FROM lead")
    return {key: float(time_s) for key, time_s in rows}
