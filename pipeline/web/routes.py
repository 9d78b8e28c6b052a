"""Puts the endpoints on the worker's web server. Imported by name when a worker starts, like the agents."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from pipeline.app import PRODUCE_TIMEOUT_S, app, settings
from pipeline.topics import CAPTURED, DEAD_LETTER
from pipeline.web.capture import Capture
from pipeline.web.entries import letters_entry, letters_rows, seen_entry
from pipeline.web.errors import explained
from pipeline.web.form import form_routes
from pipeline.web.ops import Check, Ops
from pipeline.web.peers import Peers
from pipeline.web.publisher import TopicPublisher
from pipeline.web.status import StatusView
from pipeline.web.tables import ShownTable, TablesView

__all__: list[str] = []


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what clients send wrongly: aiohttp answers it, and logs it with a traceback and a part of what was sent."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | PayloadEncodingError)


logging.getLogger("aiohttp.server").addFilter(_is_ours)

_checks: dict[str, Check] = {}

_tables: dict[str, ShownTable] = {}
_seen: Any = None
_dead_letters: Any = None
_sink: Any = None

if "dedupe" in settings.agents:
    from tables.seen import seen as _seen

    _tables["seen"] = ShownTable(_seen, CAPTURED, seen_entry)

if "crm_sink" in settings.agents:
    from agents.crm_sink import health
    from agents.crm_sink import sink as _sink
    from tables.dead_letters import dead_letters as _dead_letters

    _tables["dead-letters"] = ShownTable(_dead_letters, DEAD_LETTER, letters_entry, letters_rows)
    _checks["sink"] = lambda: health.problem

# Every app has a table, and its tables are assigned together.
_peers = Peers(app, next(iter(_tables.values())).table.changelog_topic_name, settings.partitions)

app.middlewares += [_peers.signed, explained]
app.routes += StatusView(app, _peers, _sink, dead_letters=_dead_letters, seen=_seen).routes()
app.routes += TablesView(app, _peers, _tables).routes()
app.routes += Ops(app, _checks).routes()
app.routes += Capture(TopicPublisher(lambda: app.producer._producer, CAPTURED, timeout_s=PRODUCE_TIMEOUT_S)).routes()
app.routes += form_routes()
