"""Puts the endpoints on the worker's web server. Imported by name when a worker starts, like the agents."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from pipeline.app import PRODUCE_TIMEOUT_S, app, settings
from pipeline.batches import Refused
from pipeline.spool import Backlog, SpoolWriter, spool_path
from pipeline.topics import CAPTURED, DEAD_LETTER
from pipeline.web.access import Access
from pipeline.web.assets import asset_routes
from pipeline.web.bounds import Load, RateLimit
from pipeline.web.capture import Capture
from pipeline.web.compression import compressed
from pipeline.web.elsewhere import elsewhere_routes
from pipeline.web.entries import letters_entry, letters_rows, seen_entry
from pipeline.web.errors import explained
from pipeline.web.fast_path import FastPathRunner
from pipeline.web.form_pages import FormPages
from pipeline.web.forms import BadForms
from pipeline.web.forms_file import FormsFile
from pipeline.web.hardening import hardened
from pipeline.web.openapi import openapi_routes
from pipeline.web.ops import Check, Ops, assignment_checks
from pipeline.web.peers import Peers
from pipeline.web.publisher import TopicPublisher
from pipeline.web.shared_port import SharedPort
from pipeline.web.spool_sending import SpoolSending
from pipeline.web.spool_service import SpoolService
from pipeline.web.status import StatusView
from pipeline.web.tables import ShownTable, TablesView

__all__: list[str] = []

#: How long the broker may take to acknowledge before a lead is spooled, which costs no more than a repeat that is
#: dropped. A hundred times what it usually takes, and well below the patience of clients and of people.
SPOOL_AFTER_S = 2.0


def _is_ours(record: logging.LogRecord) -> bool:
    """Not what clients send wrongly, or do not wait for: aiohttp logs a traceback, and a part of what was sent."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | PayloadEncodingError | ConnectionError)


logging.getLogger("aiohttp.server").addFilter(_is_ours)


def _producer() -> Any:
    return app.producer._producer


def _workers_of() -> str:
    return f"{settings.app_id}@{app.cluster_id or ''}"


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
    changelog = next(iter(tables.values())).table.changelog_topic_name
    peers = Peers(app, changelog, settings.partitions, settings.ops_token)
    app.middlewares.insert(0, peers.signed)
    status = StatusView(app, peers, sink, dead_letters=dead_letters, seen=seen, is_spooled=_spool.holds)
    app.routes += status.routes()
    app.routes += TablesView(app, peers, tables).routes()
    app.routes += Ops(checks, _access, _workers_of, _spool.shown).routes()


def _without_agents() -> None:
    """What these say is another worker's to know."""
    app.routes += elsewhere_routes(_spool.holds)
    checks: dict[str, Check] = {"producer": lambda: None if _producer() else "starting"}
    app.routes += Ops(checks, _access, _workers_of, _spool.shown).routes()


def _forms() -> FormsFile:
    try:
        return FormsFile(settings.forms)
    except BadForms as error:
        app.refuse(Refused(f"{error}."))


def _spool_writer() -> SpoolWriter | None:
    """None: the setting says that nothing is spooled. What still lies in a spool is sent all the same."""
    max_bytes = settings.spool_max_bytes
    return SpoolWriter(_spool_file, max_bytes=max_bytes) if max_bytes else None


_access = Access(settings.ops_token, settings.trusted_proxies)
_spool_file = spool_path(settings.data_dir)
_writer = _spool_writer()
_publisher = TopicPublisher(
    _producer,
    CAPTURED,
    partitions=settings.partitions,
    timeout_s=SPOOL_AFTER_S if _writer else PRODUCE_TIMEOUT_S,
    spool=_writer,
)
_sending = SpoolSending(
    Backlog(_spool_file), _producer, CAPTURED, partitions=settings.partitions, acknowledged=_publisher.returned
)
_spool = SpoolService(app, _spool_file, _writer, _publisher, _sending)
app.services.append(_spool)
_capture = Capture(
    _publisher,
    access=_access,
    load=Load(settings.capture_max_requests, settings.capture_max_bytes),
    rate_limit=RateLimit(settings.rate_limit_per_s),
)
app.middlewares += [hardened, compressed, explained, _access.guard]
if settings.agents:
    _of_agents()
else:
    _without_agents()
app.routes += _capture.routes()
app.routes += FormPages(_forms(), _capture).routes()
app.routes += asset_routes()
app.routes += openapi_routes()
if settings.capture_port:
    app.web_sites.append(
        lambda runner: SharedPort(
            runner, settings.web_bind, settings.capture_port, host=settings.web_host, ours=_workers_of
        )
    )
app.web_runner = lambda application: FastPathRunner(application, _capture, _access, access_log=None)
