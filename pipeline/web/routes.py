"""Puts the endpoints on the worker's web server. Imported by name when a worker starts, like the agents."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from pipeline.app import PRODUCE_TIMEOUT_S, app, settings
from pipeline.topics import CAPTURED
from pipeline.web.capture import Capture
from pipeline.web.form import form_routes
from pipeline.web.ops import Check, Ops
from pipeline.web.publisher import TopicPublisher

__all__: list[str] = []


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what clients send wrongly: aiohttp answers it, and logs it with a traceback and a part of what was sent."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | PayloadEncodingError)


logging.getLogger("aiohttp.server").addFilter(_is_ours)

_checks: dict[str, Check] = {}

if "crm_sink" in settings.agents:
    from agents.crm_sink import health

    _checks["sink"] = lambda: None if health.reachable else f"unavailable: {health.reason}"

app.routes += Ops(app, _checks).routes()
app.routes += Capture(TopicPublisher(lambda: app.producer._producer, CAPTURED, timeout_s=PRODUCE_TIMEOUT_S)).routes()
app.routes += form_routes()

if "dedupe" in settings.agents:
    from pipeline.web.tables import SeenView
    from tables.seen import seen

    app.routes += SeenView(app, seen, settings.partitions).routes()
