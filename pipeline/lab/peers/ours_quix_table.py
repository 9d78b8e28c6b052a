"""This product, but its rows are those of Quix's sink: `faust -A pipeline.lab.peers.ours_quix_table worker`.

Agents, engine, fence and checkpoint are the product's, exactly once; only what is inserted differs: no contacts, and a
table without a key. So the comparison with Quix Streams is one of the same rows. The table must be there.
"""

from __future__ import annotations

import pipeline.sinks
from pipeline.lab.peers.quix_table import COLUMNS, INSERT, columns
from pipeline.sinks.postgresql import PostgreSQLSink
from pipeline.sinks.postgresql_statement import Statement

__all__ = ["QuixTableSink", "app"]


class QuixTableSink(PostgreSQLSink):
    """Writes the rows of Quix's sink, and its checkpoint as always."""

    statement = Statement(INSERT, columns, len(COLUMNS))


# Before the app imports its agents, which ask for a sink.
pipeline.sinks.sink_for = QuixTableSink

from pipeline.app import app  # noqa: E402
