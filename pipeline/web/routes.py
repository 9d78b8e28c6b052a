"""Puts the endpoints on the worker's web server. Imported by name when a worker starts, like the agents."""

from __future__ import annotations

from pipeline.app import PRODUCE_TIMEOUT_S, app, settings
from pipeline.topics import CAPTURED
from pipeline.web.capture import Capture
from pipeline.web.ops import Check, Ops
from pipeline.web.publisher import TopicPublisher

__all__: list[str] = []

_checks: dict[str, Check] = {}

if "crm_sink" in settings.agents:
    from agents.crm_sink import health

    _checks["sink"] = lambda: None if health.reachable else f"unavailable: {health.reason}"

app.routes += Ops(app, _checks).routes()
app.routes += Capture(TopicPublisher(lambda: app.producer._producer, CAPTURED, timeout_s=PRODUCE_TIMEOUT_S)).routes()

if "dedupe" in settings.agents:
    from pipeline.web.tables import SeenView
    from tables.seen import seen

    app.routes += SeenView(app, seen, settings.partitions).routes()
