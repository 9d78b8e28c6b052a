"""The one Faust app. `faust -A pipeline.app worker` starts a worker of it."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import warnings

from aiokafka.errors import KafkaError
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.exceptions import AlreadyConfiguredWarning

from pipeline import topics
from pipeline.batches import Batch, BatchApp, Fatal, Refused
from pipeline.cluster_note import WrongCluster, noted_cluster, require_cluster
from pipeline.connection import connect
from pipeline.dead_letters import BUG, dead_letter, traceback_text
from pipeline.kafka import CannotConnect, tls_context
from pipeline.records import install_reader
from pipeline.settings import BadSetting, Settings
from pipeline.slots import (
    PATIENCE_S,
    Slot,
    SlotError,
    instance_id,
    require_free_port,
    take_slot,
    unwritable,
    wanted_slot,
)

__all__ = ["app", "settings"]

#: Heartbeats in one session. It counts from the last one, and a rebalance is told in the answer to one: whoever takes
#: over a killed worker's partitions waits for at most one of these more than the session timeout.
HEARTBEATS_PER_SESSION = 20
#: How long the broker may take to acknowledge before an agent tries again, and before a capture without a spool answers
#: 503.
PRODUCE_TIMEOUT_S = 5.0
#: Faust's default.
REQUEST_TIMEOUT_S = 90.0
BROKER_RETRY_S = 0.5
#: How long a worker that starts lets those wait who send leads: longer than a broker that is there takes to answer.
CAPTURE_AFTER_S = 1.0
#: Modules whose lines below a warning only say that a service starts or stops.
SERVICES = (
    *(f"pipeline.batches.{name}" for name in ("app", "fetch", "table", "watched")),
    "pipeline.web.spool_service",
)

logger = logging.getLogger(__name__)


def _settings() -> Settings:
    try:
        return Settings.from_env()
    except BadSetting as error:
        print(error, file=sys.stderr)
        sys.exit(78)


settings = _settings()

install_reader()


async def _on_bug(batch: Batch, error: Exception) -> None:
    """Dead-letter the only record of `batch`, which makes our code raise."""
    if batch.tp.topic == topics.DEAD_LETTER:
        raise Fatal("The code raises for a dead letter; dead-lettering it would never end") from error
    letter = dead_letter(batch.records[0], group=settings.app_id, reason=BUG, detail=traceback_text(error))
    await app.appender.append(batch, topics.DEAD_LETTER, [letter])


def _take_place(slot: Slot) -> None:
    """Settings that follow from the slot, unless they were given on the command line."""
    with warnings.catch_warnings():
        # Faust warns because its banner has shown the defaults; nothing that matters has been started with them.
        warnings.simplefilter("ignore", AlreadyConfiguredWarning)
        if app.conf.web_port == settings.web_port:
            app.conf.web_port = slot.web_port
        app.conf.canonical_url = settings.web_url or f"http://{settings.web_host}:{app.conf.web_port}"
        app.conf.datadir = slot.state_dir
        if settings.static_membership:
            app.conf.consumer_group_instance_id = instance_id(slot, str(app.conf.canonical_url))
        else:
            app.member_note = slot.state_dir / "member-id"  # the slot is locked, so whoever had it is over
    _require_place(slot)
    # Faust's banner was printed before and shows the defaults.
    logger.info("Worker %s serves at %s and keeps its state in %s", slot.number, app.web_server_url, slot.state_dir)
    if wanted_slot() is not None:
        # Under `leads up` the log is for whoever runs the product: what changes, not how Faust's services start.
        for name in ("aiokafka", "faust", "mode", *SERVICES):
            logging.getLogger(name).setLevel(logging.WARNING)


def _require_place(slot: Slot) -> None:
    try:
        app._create_directories()
    except OSError as error:
        raise unwritable(slot.state_dir, error) from None
    if app.conf.web_enabled:
        given_by = "LEADS_WEB_PORT" if app.conf.web_port == slot.web_port else "-p"
        require_free_port(app.conf.web_bind, app.conf.web_port, given_by=given_by, patience_s=PATIENCE_S)


async def _before_start() -> None:
    """Take a slot, wait for the broker, which may be starting too, and see that everything fits together."""
    try:
        _take_place(take_slot(settings))
        await _wait_for_broker()
    except (SlotError, CannotConnect, WrongCluster) as error:
        raise Refused(str(error), status=error.status) from None


async def _wait_for_broker() -> None:
    """Until a broker answers. A worker that knows which cluster it waits for captures meanwhile, into the spool, and
    waits for as long as it takes.
    """
    app.cluster_id = noted_cluster(settings.data_dir)
    captures = app.cluster_id is not None and settings.spool_max_bytes > 0
    agreed = asyncio.ensure_future(_agree_with_broker(math.inf if captures else settings.broker_wait_s))
    # What it raises is raised below, or nobody wants to know: the worker is stopped.
    agreed.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        if captures:
            await asyncio.wait([agreed], timeout=CAPTURE_AFTER_S)
            if not agreed.done():
                logger.warning("Until the broker answers leads go to the spool")
                await app.serve_early()
        await agreed
    finally:
        agreed.cancel()


async def _agree_with_broker(wait_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + wait_s
    said = set[str]()
    while True:
        try:
            await _ask_broker()
            return
        except CannotConnect as error:
            if error.is_final or loop.time() > deadline_s:
                raise
            if str(error) not in said:
                logger.warning("Waiting for the broker. %s", error)
                said.add(str(error))
        await asyncio.sleep(BROKER_RETRY_S)


def _modules() -> list[str]:
    """What a worker runs; without agents it only captures. Whoever writes the CRM answers for its dead letters, too."""
    agents = [*settings.agents, *(["dead_letters"] if "crm_sink" in settings.agents else [])]
    return [*(f"agents.{name}" for name in agents), "pipeline.web.routes"]


async def _ask_broker() -> None:
    cluster_id = await connect(settings)
    require_cluster(settings.data_dir, cluster_id)
    app.cluster_id = cluster_id
    try:
        await topics.ensure(settings)
    except KafkaError as error:
        raise CannotConnect(f"The broker at {settings.broker_url} cannot be used: {error}.") from None
    except TimeoutError:  # of a node that its client has begun to connect to
        raise CannotConnect(f"The broker at {settings.broker_url} cannot be used: no answer.") from None


def _credentials() -> Credentials | None:
    """How Faust's clients connect: as `client_options` says."""
    context = tls_context(settings)
    if settings.broker_username:
        return SASLCredentials(
            username=settings.broker_username,
            password=settings.broker_password,
            mechanism=settings.broker_sasl_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None


app = BatchApp(
    settings.app_id,
    modules=_modules(),
    broker=";".join(f"kafka://{host}" for host in settings.bootstrap),
    broker_credentials=_credentials(),
    store="rocksdb://",
    version=1,
    grace_s=min(2.0, settings.session_timeout_s / 4),
    on_bug=_on_bug,
    before_start=_before_start,
    topic_partitions=settings.partitions,
    table_standby_replicas=settings.standby_replicas,
    broker_session_timeout=settings.session_timeout_s,
    # A longer session is refused by Faust, in a traceback.
    broker_request_timeout=max(REQUEST_TIMEOUT_S, settings.session_timeout_s),
    broker_heartbeat_interval=settings.session_timeout_s / HEARTBEATS_PER_SESSION,
    producer_request_timeout=PRODUCE_TIMEOUT_S,
    web_port=settings.web_port,
    web_bind=settings.web_bind,
    web_host=settings.web_bind,
    web_router_enabled=False,
    web_tables_enabled=False,
    web_stats_enabled=False,
)
# Without agents there is nothing to consume: no group to join, and no tables to recover.
app.boot_strategy.enable_kafka_consumer = bool(settings.agents)
