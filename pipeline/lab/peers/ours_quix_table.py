"""This product, but its rows are those of Quix's sink: `faust -A pipeline.lab.peers.ours_quix_table worker`.

Agents, engine, fence and checkpoint are the product's, exactly once; only what is inserted differs: no contacts, and a
table without a key. So the comparison with Quix Streams is one of the same rows. The table must be there.
"""

from __future__ import annotations

import pipeline.sinks
from pipeline.lab.peers.quix_table import QuixTableSink

__all__ = ["app"]

# Before the app imports its agents, which ask for a sink.
pipeline.sinks.sink_for = QuixTableSink

from pipeline.app import app  # noqa: E402
