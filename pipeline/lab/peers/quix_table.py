"""The table that Quix Streams' PostgreSQL sink makes of leads, and our sink writing the same rows.

The sink adds a column for each member of the first lead, after the record's timestamp and key: no number, no primary
key, no index. An object becomes `jsonb`, a time stays the text that it is in JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from pipeline.lead import key
from pipeline.sinks import AcceptedLead
from pipeline.sinks.postgresql import PostgreSQLSink
from pipeline.sinks.postgresql_statement import Statement

__all__ = ["COLUMNS", "CREATE", "SHAPE", "TABLE", "QuixTableSink", "columns"]

TABLE = "quix_lead"
_TEXTS = (
    "__key", "message_id", "tenant", "email", "phone", "name", "company", "source", "campaign", "captured_at"
)  # fmt: skip
COLUMNS = ("timestamp", *_TEXTS, "fields")
#: Names and types, as the information schema has them.
SHAPE = {("timestamp", "timestamp without time zone"), *((name, "text") for name in _TEXTS), ("fields", "jsonb")}

CREATE = f"""
CREATE TABLE {TABLE} ("timestamp" timestamp NOT NULL, {", ".join(f"{name} text" for name in _TEXTS)}, fields jsonb)
"""

_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)
_ARRAYS = ", ".join(["$1::timestamp[]", *(f"${number}::text[]" for number in range(2, len(COLUMNS) + 1))])
_INSERT = f"""
incoming AS MATERIALIZED (
    SELECT * FROM unnest({_ARRAYS}) AS t ({_NAMES}) {{condition}}
),
inserted AS (
    INSERT INTO {TABLE} ({_NAMES}) SELECT {_NAMES.replace('"fields"', "fields::jsonb")} FROM incoming RETURNING 1
)
"""


def columns(leads: Sequence[AcceptedLead]) -> list[list[object]]:
    """The values of each of `COLUMNS`."""
    return [list(column) for column in zip(*map(_row, leads), strict=True)] if leads else [[] for _ in COLUMNS]


def _row(accepted: AcceptedLead) -> tuple[object, ...]:
    lead = accepted.lead
    return (
        datetime.fromtimestamp(accepted.time_ms / 1000),  # without a zone, as the sink has it
        key(lead).decode(),
        lead.message_id,
        lead.tenant,
        lead.email,
        lead.phone,
        lead.name,
        lead.company,
        lead.source,
        lead.campaign,
        msgspec.to_builtins(lead.captured_at),
        msgspec.json.encode(lead.fields).decode(),
    )


class QuixTableSink(PostgreSQLSink):
    """Writes the rows of Quix's sink into a table that is there, and moves its checkpoint as always."""

    statement = Statement(_INSERT, columns, len(COLUMNS))
