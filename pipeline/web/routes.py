"""Puts the endpoints on the worker's web server. Imported by name when a worker starts, like the agents."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from pipeline.app import PRODUCE_TIMEOUT_S, app, settings
from pipeline.topics import CAPTURED, DEAD_LETTER
from pipeline.web.capture import Capture
from pipeline.web.elsewhere import elsewhere_routes
from pipeline.web.entries import letters_entry, letters_rows, seen_entry
from pipeline.web.errors import explained
from pipeline.web.fast_path import FastPathRunner
from pipeline.web.form import form_routes
from pipeline.web.ops import Ops, assignment_checks
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


def _producer() -> Any:
    return app.producer._producer


def _of_agents() -> None:
    """The endpoints that need what the agents know."""
    tables: dict[str, ShownTable] = {}
    checks = assignment_checks(app)
    seen: Any = None
    dead_letters: Any = None
    sink: Any = None
    if "dedupe" in settings.agents:
        from tables.seen import seen

        tables["seen"] = ShownTable(seen, CAPTURED, seen_entry)
    if "crm_sink" in settings.agents:
        from agents.crm_sink import health, sink
        from tables.dead_letters import dead_letters

        tables["dead-letters"] = ShownTable(dead_letters, DEAD_LETTER, letters_entry, letters_rows)
        checks["sink"] = lambda: health.problem
    # The tables of an app are assigned together.
    peers = Peers(app, next(iter(tables.values())).table.changelog_topic_name, settings.partitions)
    app.middlewares.insert(0, peers.signed)
    app.routes += StatusView(app, peers, sink, dead_letters=dead_letters, seen=seen).routes()
    app.routes += TablesView(app, peers, tables).routes()
    app.routes += Ops(checks).routes()


app.middlewares += [explained]
if settings.agents:
    _of_agents()
else:
    app.routes += elsewhere_routes()
    app.routes += Ops({"producer": lambda: None if _producer() else "starting"}).routes()
_capture = Capture(TopicPublisher(_producer, CAPTURED, partitions=settings.partitions, timeout_s=PRODUCE_TIMEOUT_S))
app.routes += _capture.routes()
app.routes += form_routes()
app.web_runner = lambda application: FastPathRunner(application, _capture, access_log=None)
