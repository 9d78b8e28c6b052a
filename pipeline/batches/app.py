"""The Faust app whose agents get batches, and the life of a worker: how it starts, drains, refuses and dies."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import faust
from faust.app.base import BootStrategy
from faust.assignor.partition_assignor import PartitionAssignor
from faust.web.drivers.aiohttp import Web
from mode import get_logger
from mode.supervisors import CrashingSupervisor

from pipeline.batches.batch import STATUS_HUNG, BatchSchema, Refused
from pipeline.batches.consumer import BatchTransport, Positions
from pipeline.batches.lanes import Lanes, OnBug, Work
from pipeline.batches.noise import install_noise_filter
from pipeline.batches.producer import Appender
from pipeline.batches.recovery import BatchTables
from pipeline.batches.watched import TaskEnded, WatchedConductor, WatchedFetcher

__all__ = ["BatchApp"]

logger = get_logger(__name__)

#: A stop must be over after 10 s; what is not acknowledged by then is read again.
STOP_MAX_S = 9.0
#: Containers more than were freed, before the collector looks at the young ones: a few batches.
GC_ALLOCATIONS = 50_000
#: How long a thread may keep the interpreter while another one waits for it. A batch is tens of milliseconds of Python
#: in the worker's thread, and each piece that the consumer's thread reads from its socket would wait Python's 5 ms.
SWITCH_INTERVAL_S = 0.0005
#: The longest that fits into the 32 bits of its milliseconds: three weeks.
POLL_INTERVAL_MAX_S = 21 * 86400.0
#: Faust keeps in it what `-L` says.
LOOP_VARIABLE = "FAUST_LOOP"
#: aiokafka expects an `OSError` or nothing from a write to a connection that the broker has just closed; uvloop raises
#: a `RuntimeError`, which ends aiokafka's routines for metadata and group in silence: the worker never reads again.
UVLOOP_REFUSED = "aiokafka stops for good on uvloop when a broker goes (aiokafka issue 1038); leave out --loop uvloop."


class _Boot(BootStrategy):
    def kafka_producer(self) -> Iterable[Any]:
        """The producer, and the services that need it: they start after it and stop before it."""
        return [*super().kafka_producer(), *self.app.services]

    def kafka_consumer(self) -> Iterable[Any]:
        """The consumer alone: nothing here needs Faust's leader election or its replies, and each costs a topic."""
        return [self.app.consumer] if self._should_enable_kafka_consumer() else []


class _Assignor(PartitionAssignor):
    @property
    def name(self) -> str:
        """The name of the group's protocol. The broker keeps whoever has another one out of the group: a worker with
        other agents would be given partitions that it does not read.
        """
        return f"faust {','.join(sorted(self.app.agents))}"


class _Transport(BatchTransport):
    Conductor = WatchedConductor
    Fetcher = WatchedFetcher


class _Web(Web):
    def _enabled_blueprints(self) -> list[Any]:
        """None of Faust's pages: the one that no setting turns off lies at `/`, and would hide ours."""
        return []

    async def start_server(self) -> None:
        """Listen on the worker's own port, then where else the app wants to."""
        await super().start_server()
        for make in self.app.web_sites:
            site = make(self._runner)
            try:
                await site.start()
            except Refused as refusal:
                self.app.refuse(refusal)
            self.app.open_sites.append(site)


class BatchApp(faust.App):
    """A Faust app with lanes, explicit checkpoints and a recovery that does not idle.

    Arguments:
        grace_s: How long batches in work may go on when a rebalance or a stop begins.
        on_bug: What to do with a record that makes an agent raise by itself.
        modules: Those with agents and endpoints, imported when a worker starts.
        before_start: Called before anything starts; may change `conf`, and may raise `Refused`.
    """

    BootStrategy = _Boot

    def __init__(
        self,
        *args: Any,
        grace_s: float,
        on_bug: OnBug,
        modules: Sequence[str] = (),
        before_start: Callable[[], Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            *args,
            TableManager=BatchTables,
            PartitionAssignor=_Assignor,
            agent_supervisor=CrashingSupervisor,
            stream_wait_empty=False,
            consumer_auto_offset_reset="none",
            producer_acks=-1,
            producer_max_batch_size=1_000_000,
            topic_allow_declare=False,
            # aiokafka leaves the group for good when nothing was fetched for so long, as in a long outage of the
            # database. Whether the worker is alive is watched here, see `BatchConsumerThread`.
            broker_max_poll_interval=POLL_INTERVAL_MAX_S,
            **options,
        )
        self.grace_s = grace_s
        #: Where to keep the member id for the process that takes this one's place; None: it is not let go of before its
        #: session is over. Set it only where two processes cannot have the same place.
        self.member_note: Path | None = None
        #: Services to run from the start on, beside agents and web server.
        self.services: list[Any] = []
        #: Endpoints to add to the worker's web server (aiohttp's `RouteDef`s).
        self.routes: list[Any] = []
        #: What every request and answer of it passes through, the outermost first (aiohttp's middlewares).
        self.middlewares: list[Any] = []
        self._has_endpoints = False
        #: Makes the server of its aiohttp application (an `AppRunner`); None: aiohttp's own.
        self.web_runner: Callable[[Any], Any] | None = None
        #: Makes a site of it (aiohttp's `BaseSite`) beside the one of the worker's own port.
        self.web_sites: list[Callable[[Any], Any]] = []
        self.open_sites: list[Any] = []
        #: The id of the Kafka cluster, once `before_start` has found it out.
        self.cluster_id: str | None = None
        self.lanes: list[Lanes] = []
        #: Topics whose positions are not kept by Kafka, and who says them.
        self.positions: dict[str, Positions] = {}
        self.appender = Appender(lambda: self.producer._producer)
        self._on_bug = on_bug
        self._modules = modules
        self._before_start = before_start

    def worker_init(self) -> None:
        """Import the modules with the agents; one that cannot be imported ends the worker. Faust's autodiscovery, which
        is off, scans whole packages, skips what looks like a test, and only warns of what cannot be imported.
        """
        if os.environ.get(LOOP_VARIABLE) == "uvloop":
            self.refuse(Refused(UVLOOP_REFUSED))
        for name in self._modules:
            importlib.import_module(name)
        super().worker_init()

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self, loop=self.loop)

    def _new_web(self) -> Any:
        return _Web(self)

    def on_webserver_init(self, web: Any) -> None:
        """Add our endpoints to the worker's web server, once. Faust asks for it three times at a start, and every
        middleware would be passed through three times.
        """
        if self._has_endpoints:
            return
        self._has_endpoints = True
        web.web_app.middlewares.extend(self.middlewares)
        web.web_app.add_routes(self.routes)
        if self.web_runner is not None:
            web._runner = self.web_runner(web.web_app)

    async def stop(self) -> None:
        """Take no new connections where others can, then stop."""
        while self.open_sites:
            await self.open_sites.pop().stop()
        await super().stop()

    def batch_topic(self, name: str) -> Any:
        """The topic `name`, delivered in batches."""
        return self.topic(name, schema=BatchSchema(key_type=bytes, value_type=bytes), acks=True, internal=False)

    def batch_agent(self, topic: Any, *, name: str, positions: Positions | None = None) -> Callable[[Work], Work]:
        """Make the decorated coroutine function an agent: called with one batch of `topic` after the other of each
        partition, and side by side for different partitions. When it returns, the batch is acknowledged.

        With `positions`, a partition begins where these say. What is acknowledged is committed to Kafka all the same,
        for the tools that show lag.
        """
        if positions is not None:
            self.positions.update(dict.fromkeys(topic.topics, positions))

        def register(work: Work) -> Work:
            lanes = Lanes(work, on_bug=self._on_bug, on_fatal=self.fail)
            self.lanes.append(lanes)

            async def read(stream: Any) -> None:
                async for event in stream.noack().events():
                    lanes.put(event)
                if not self.should_stop:
                    raise TaskEnded(f"the stream of {name} ended while the worker runs")

            read.__module__, read.__name__ = work.__module__, name
            self.agent(topic, name=name)(read)
            return work

        return register

    async def on_first_start(self) -> None:
        """Prepare, then start."""
        install_noise_filter()
        if self._before_start is not None:
            try:
                await self._before_start()
            except Refused as refusal:
                self.refuse(refusal)
        await super().on_first_start()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _calm_collector()

    async def serve_early(self) -> None:
        """Start services and web server now, to be called in `before_start`: they must do without all else."""
        for service in (*self.services, *self.boot_strategy.web_server()):
            await service.maybe_start()

    async def _stop_consumer(self) -> None:
        _end_process_after(STOP_MAX_S)
        if self._consumer is not None and self._consumer.started:
            await self._consumer.let_go(self.grace_s)
        await super()._stop_consumer()

    def fail(self, reason: BaseException) -> None:
        """End the worker because of `reason`, nothing of what is in work acknowledged."""
        if isinstance(reason, Refused):
            self.refuse(reason)
        self._failing = asyncio.ensure_future(self.crash(reason))

    async def crash(self, reason: BaseException) -> None:
        """End the worker, in order if that is still possible, with a status that is not 0."""
        if isinstance(reason, Refused):
            self.refuse(reason)
        _end_process_after(STOP_MAX_S)
        await super().crash(reason)

    def refuse(self, refusal: Refused, *, status: int | None = None) -> NoReturn:
        """End the worker at once with one sentence. Nothing was acknowledged that is not safe, so nothing is lost.

        The exit status is that of the refusal, unless `status` is given.
        """
        logging.shutdown()
        # Not `sys.stderr`, which Faust has redirected into the log.
        print(f"Cannot go on: {refusal}", file=sys.__stderr__, flush=True)
        os._exit(refusal.status if status is None else status)


def _calm_collector() -> None:
    """Let the cycle collector look at what a worker allocates less often. Batches are thousands of objects without a
    cycle, which reference counting frees; walking them again and again took a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)


def _end_process_after(delay_s: float) -> None:
    def end() -> None:
        print("The worker did not stop in time; ending it. What was not acknowledged is read again.", file=sys.stderr)
        os._exit(STATUS_HUNG)

    timer = threading.Timer(delay_s, end)
    timer.daemon = True
    timer.start()
