"""What one statement does to the PostgreSQL CRM: the step of a lane, the leads that are new, their contacts.

One statement is one transaction and one round trip. Between two statements no lock is held, so that a worker that is
stopped in the middle of its work (a zombie) stops no other. Rows are locked in one order: the lane, then leads, then
contacts, each by their keys; so writers may wait for each other, but never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.sinks.base import AcceptedLead, Checkpoint, Fenced, Lane, Mark, StreamOffset

__all__ = [
    "COLUMNS",
    "FIND",
    "STATEMENTS",
    "columns",
    "find_offset",
    "first_offset",
    "insert",
    "insert_leads",
    "put_offset",
]

#: Of `lead`, as they are given.
COLUMNS = (
    "tenant", "message_id", "contact", "email", "phone", "name", "company", "source", "campaign", "captured_at",
    "fields", "source_partition", "source_offset",
)  # fmt: skip

FIND = "SELECT id, written_at FROM lead WHERE tenant = $1 AND message_id = $2"

# Only a conflict of the name is a lead that is already there. A conflict of any other constraint, which somebody may
# have added, is an error: otherwise it would drop a lead in silence.
_LEADS = """
incoming AS MATERIALIZED (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                         $9::text[], $10::timestamptz[], $11::text[], $12::int[], $13::bigint[], $14::bigint[])
        AS t (tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields,
              source_partition, source_offset, seen_ms)
    {condition}
),
inserted AS (
    INSERT INTO lead (tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields,
                      source_partition, source_offset)
    SELECT tenant, message_id, contact, email, phone, name, company, source, campaign, captured_at, fields::json,
           source_partition, source_offset
    FROM incoming ORDER BY tenant, message_id, source_offset
    ON CONFLICT (tenant, message_id) DO NOTHING
    RETURNING source_partition, source_offset
)
"""
_CONTACTS = """
counted AS (
    INSERT INTO contact AS known (tenant, address, first_seen, last_seen, submissions, name, company)
    SELECT tenant, contact, 'epoch'::timestamptz + min(seen_ms) * interval '1 ms',
           'epoch'::timestamptz + max(seen_ms) * interval '1 ms', count(*),
           (array_agg(name ORDER BY seen_ms DESC, source_offset DESC) FILTER (WHERE name IS NOT NULL))[1],
           (array_agg(company ORDER BY seen_ms DESC, source_offset DESC) FILTER (WHERE company IS NOT NULL))[1]
    FROM incoming JOIN inserted USING (source_partition, source_offset)
    GROUP BY tenant, contact ORDER BY tenant, contact
    ON CONFLICT (tenant, address) DO UPDATE SET
        first_seen = least(known.first_seen, excluded.first_seen),
        last_seen = greatest(known.last_seen, excluded.last_seen),
        submissions = known.submissions + excluded.submissions,
        name = CASE WHEN excluded.last_seen >= known.last_seen THEN coalesce(excluded.name, known.name)
                    ELSE coalesce(known.name, excluded.name) END,
        company = CASE WHEN excluded.last_seen >= known.last_seen THEN coalesce(excluded.company, known.company)
                       ELSE coalesce(known.company, excluded.company) END
)
"""
_NEW = "(SELECT count(*) FROM inserted) AS new"
_INSERT_LEADS = f"WITH {_LEADS.format(condition='')} SELECT {_NEW}"
_INSERT_ONLY = f"WITH {_LEADS.format(condition='')}, {_CONTACTS} SELECT true AS stepped, {_NEW}"
# The fence: of two writers at one position one moves the lane, and the other finds no row there, and inserts nothing.
_STEP_AND_INSERT = f"""
WITH step AS (
    UPDATE stream_offset SET next_offset = $15, log_id = $16, last_offset = $17, last_time_ms = $18, last_key = $19
    WHERE consumer_group = $20 AND topic = $21 AND partition = $22 AND next_offset = $23
    RETURNING 1
),
{_LEADS.format(condition="WHERE EXISTS (SELECT FROM step)")},
{_CONTACTS}
SELECT EXISTS (SELECT FROM step) AS stepped, {_NEW}
"""

_LANE = "consumer_group = $1 AND topic = $2 AND partition = $3"
_OFFSET = f"SELECT next_offset, log_id, last_offset, last_time_ms, last_key FROM stream_offset WHERE {_LANE}"
_ADD_OFFSET = "INSERT INTO stream_offset VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING"
_PUT_OFFSET = """
INSERT INTO stream_offset VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET
    next_offset = excluded.next_offset, log_id = excluded.log_id, last_offset = excluded.last_offset,
    last_time_ms = excluded.last_time_ms, last_key = excluded.last_key
"""

#: All that a worker does once its tables are there, each with the number of its parameters.
STATEMENTS = ((_STEP_AND_INSERT, 23), (_ADD_OFFSET, 8), (_PUT_OFFSET, 8), (FIND, 2))


async def insert(connection: Any, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None) -> int:
    """Take the step of `checkpoint`, insert what is new of `leads` and count it in the contacts; returns how many.

    Raises:
        Fenced: the lane is elsewhere; nothing was written.
        asyncpg.PostgresError: nothing was written.
    """
    given = columns(leads)
    if checkpoint is None:
        (row,) = await connection.fetch(_INSERT_ONLY, *given)
    else:
        step = (*_offset_row(checkpoint.after), *checkpoint.lane, checkpoint.position)
        (row,) = await connection.fetch(_STEP_AND_INSERT, *given, *step)
        if not row["stepped"]:
            raise Fenced(await find_offset(connection, checkpoint.lane))
    new: int = row["new"]
    return new


async def insert_leads(connection: Any, leads: Sequence[AcceptedLead]) -> None:
    """Insert what is new of `leads`, and nothing else; raises as `insert`."""
    await connection.fetch(_INSERT_LEADS, *columns(leads))


async def find_offset(connection: Any, lane: Lane) -> StreamOffset | None:
    """Where `lane` stands, None for one that has not been here."""
    row = await connection.fetchrow(_OFFSET, *lane)
    if row is None:
        return None
    next_offset, log_id, *last = row
    return StreamOffset(next_offset, log_id, None if last[0] is None else Mark(*last))


async def first_offset(connection: Any, lane: Lane, start: StreamOffset) -> StreamOffset:
    """Where `lane` stands, which is at `start` when it has not been here before."""
    found = await find_offset(connection, lane)
    if found is None:
        await connection.execute(_ADD_OFFSET, *lane, *_offset_row(start))
        found = await find_offset(connection, lane)
        assert found is not None
    return found


async def put_offset(connection: Any, lane: Lane, at: StreamOffset) -> None:
    """Put `lane` at `at`."""
    await connection.execute(_PUT_OFFSET, *lane, *_offset_row(at))


def _offset_row(at: StreamOffset) -> tuple[object, ...]:
    return at.next_offset, at.log_id, *(at.last or (None, None, None))


def columns(leads: Sequence[AcceptedLead]) -> list[list[object]]:
    """The values of each of `COLUMNS`, and then the broker's times in milliseconds."""
    rows = [_row(accepted) for accepted in leads]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(len(COLUMNS) + 1)]


def _row(accepted: AcceptedLead) -> tuple[object, ...]:
    lead = accepted.lead
    return (
        lead.tenant,
        lead.message_id,
        accepted.contact,
        lead.email,
        lead.phone,
        lead.name,
        lead.company,
        lead.source,
        lead.campaign,
        lead.captured_at,
        msgspec.json.encode(lead.fields).decode(),
        accepted.partition,
        accepted.offset,
        accepted.time_ms,
    )
