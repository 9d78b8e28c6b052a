"""What the generic contenders write, in the tables that ours writes too: the lead unless it is there, and one
submission more for its contact, in one transaction. Both statements are such as anybody would write them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg
import msgspec

from pipeline.lead import Lead, decode
from pipeline.sinks.contact import address

__all__ = ["Taken", "connect", "write"]

#: As many as a worker of ours has for writing.
CONNECTIONS_MAX = 4

_LEAD = """
INSERT INTO lead (tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields,
                  source_partition, source_offset)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant, message_id) DO NOTHING
"""
_CONTACT = """
INSERT INTO contact AS known (tenant, address, first_seen, last_seen, submissions, name, company)
VALUES ($1, $2, $3, $3, 1, $4, $5)
ON CONFLICT (tenant, address) DO UPDATE SET
    last_seen = excluded.last_seen, submissions = known.submissions + 1,
    name = excluded.name, company = excluded.company
"""


class Taken(NamedTuple):
    """A record as a consumer got it; the time is the broker's, milliseconds since the epoch."""

    value: bytes
    partition: int
    offset: int
    time_ms: int


async def connect(url: str) -> Any:
    """A pool of connections, the first of them open: a database that is not there shows at once."""
    return await asyncpg.create_pool(url, min_size=1, max_size=CONNECTIONS_MAX)


async def write(pool: Any, records: Sequence[Taken]) -> None:
    """Write all of them in one transaction.

    Raises:
        asyncpg.PostgresError, OSError: nothing was written, or the answer got lost.
    """
    decoded = [(decode(record.value), record) for record in records]
    async with pool.acquire() as connection, connection.transaction():
        await connection.executemany(_LEAD, [_lead(lead, record) for lead, record in decoded])
        await connection.executemany(_CONTACT, [_contact(lead, record) for lead, record in decoded])


def _lead(lead: Lead, record: Taken) -> tuple[object, ...]:
    return (
        lead.tenant, lead.message_id, address(lead), lead.email, lead.phone, lead.name, lead.company, lead.source,
        lead.campaign, lead.captured_at, msgspec.json.encode(lead.fields).decode(), record.partition, record.offset,
    )  # fmt: skip


def _contact(lead: Lead, record: Taken) -> tuple[object, ...]:
    return lead.tenant, address(lead), datetime.fromtimestamp(record.time_ms / 1000, UTC), lead.name, lead.company
