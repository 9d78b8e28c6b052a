"""The course of a chaos run: workers, a steady load, faults by schedule; then everything is healed and checked."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from pipeline.lab.chaos_observed import observed
from pipeline.lab.chaos_report import ChaosPlan, Inflicted
from pipeline.lab.crew import Crew, NotHealed
from pipeline.lab.crm import CRM_ERRORS, crm_of
from pipeline.lab.faults import FAULTS, Fault, together
from pipeline.lab.faults_site import Site
from pipeline.lab.history import Outcome, Tally
from pipeline.lab.installation import Installation
from pipeline.lab.load import PLAN_VARIABLE, LoadPlan
from pipeline.lab.program import LabError, Program
from pipeline.lab.sampler import Sampler
from pipeline.lab.schedule import Planned
from pipeline.lab.topics_read import KAFKA_ERRORS, Topics
from pipeline.lab.verdict import Verdict
from pipeline.spool import look, spool_path
from pipeline.topic_names import ACCEPTED, CAPTURED

__all__ = ["SESSION_S", "ChaosRun"]

#: A shorter one than the product's, so that more faults fit into a minute.
SESSION_S = 4.0
EMPTY_MAX_S = 180.0
LOAD_STOP_MAX_S = 90.0
TABLES_MAX_S = 60.0
POLL_S = 0.1

SPOOL = "the spool"


class ChaosRun:
    """One run in an installation that is entered. Everything of it happens in the main thread.

    Arguments:
        plan: what it is to be.
        planned: the faults.
        installation: whose workers are not started yet.
        disk: where workers keep their state, when it can be filled.
        say, show: as those of `pipeline.lab.chaos.run`.
    """

    def __init__(
        self,
        plan: ChaosPlan,
        planned: list[Planned],
        installation: Installation,
        disk: Path | None,
        say: Callable[[str], None],
        show: Callable[[float, int], None],
    ) -> None:
        self.inflicted: list[Inflicted] = []
        self.looks: dict[str, int] = {}
        self._plan = plan
        self._planned = planned
        self._installation = installation
        self._settings = installation.settings
        self._say = say
        self._show = show
        self.crew = Crew(installation, set(range(1, plan.workers + 1)), self._tell)
        slots = tuple(range(1, plan.workers + 2))
        self._site = Site(installation, self.crew, slots, SESSION_S, disk)
        self._crm = crm_of(installation)
        self._sampler = Sampler(self._settings, self._crm)
        self._history = installation.directory / "history"
        self._tally = Tally(self._history)
        self._stuck: list[str] = []
        self._began_s = time.monotonic()

    async def run(self) -> Verdict:
        """The run and its verdict."""
        self.crew.start()
        keep = asyncio.ensure_future(self.crew.keep())
        try:
            await _beside(keep, self._until_ready())
            looks = asyncio.ensure_future(self._sampler.run())
            with self._load() as load:
                await _beside(keep, self._inflict(load))
                self._tell("everything is healed; the load ends when all is answered")
                await _beside(keep, self._end(load))
            await _beside(keep, self._until_empty())
            if looks.done():  # never by itself, but for a bug
                looks.result()
            looks.cancel()
            self._tell("checking")
            verdict: Verdict = await _beside(keep, self._checked())
            return verdict
        finally:
            keep.cancel()
            # Before the threads are waited for that ask them something.
            self.crew.kill_all()

    async def _until_ready(self) -> None:
        try:
            await self.crew.until_ready()
        except NotHealed as error:
            raise LabError(f"The workers did not start: {error}.") from None
        deadline_s = time.monotonic() + TABLES_MAX_S
        while True:
            try:
                await self._crm.refuse()
            except CRM_ERRORS:  # a worker is ready before it has made the tables
                if time.monotonic() > deadline_s:
                    raise LabError("The workers have not made the tables of the CRM.") from None
            else:
                return
            await asyncio.sleep(POLL_S)

    @contextmanager
    def _load(self) -> Iterator[Program]:
        ports = [self._installation.port(slot) for slot in self._site.slots]
        plan = LoadPlan(self._plan.seed, ports, self._plan.rate, str(self._history), self._plan.leads)
        environ = {PLAN_VARIABLE: msgspec.json.encode(plan).decode()}
        self._began_s = time.monotonic()
        with Program(["pipeline.lab.load"], environ, self._installation.directory / "load.log") as load:
            yield load

    async def _inflict(self, load: Program) -> None:
        """Inflict the planned faults at their times, or as soon after as it is safe; returns when all is healed."""
        running: dict[asyncio.Task[None], Fault] = {}
        for planned in self._planned:
            fault = FAULTS[planned.name]
            while not self._is_over(load) and not (
                self._elapsed_s >= planned.at_s and together(list(running.values()), fault)
            ):
                await self._tick()
                running = _still(running)
            if self._is_over(load):
                break
            running[asyncio.ensure_future(self._run(planned, fault))] = fault
        while running or not self._is_over(load):
            await self._tick()
            running = _still(running)

    def _is_over(self, load: Program) -> bool:
        if load.status:
            raise LabError(f"The load ended with status {load.status}:\n{load.last_lines()}")
        return load.status == 0 or self._elapsed_s >= self._plan.minutes * 60

    async def _tick(self) -> None:
        await asyncio.sleep(POLL_S)
        self._tally.update()
        self._show(self._elapsed_s, self._tally.counts[Outcome.OK])

    async def _run(self, planned: Planned, fault: Fault) -> None:
        began_s, is_healed = self._elapsed_s, True
        self._tell(f"{planned.name} ({planned.index + 1} of {len(self._planned)})")
        try:
            did = await fault.run(self._site, Random(planned.seed))
        except NotHealed as error:
            did, is_healed = str(error), False
            self._stuck.append(f"after {planned.name} at {began_s:.1f} s: {error}")
        ended_s = self._elapsed_s
        self.inflicted.append(Inflicted(planned, round(began_s, 1), round(ended_s, 1), did, is_healed))
        self._tell(f"{planned.name}: {did}; {'healed' if is_healed else 'not healed'} after {ended_s - began_s:.1f} s")

    async def _end(self, load: Program) -> None:
        if load.status is None:
            load.signal(signal.SIGTERM)
        deadline_s = time.monotonic() + LOAD_STOP_MAX_S
        while load.status is None and time.monotonic() < deadline_s:
            await self._tick()
        if load.status:
            raise LabError(f"The load ended with status {load.status}:\n{load.last_lines()}")

    async def _until_empty(self) -> None:
        """Wait until everything captured is worked on."""
        try:
            await self.crew.until_ready()
        except NotHealed as error:
            self._stuck.append(str(error))
        deadline_s, lags = time.monotonic() + EMPTY_MAX_S, {SPOOL: -1, CAPTURED: -1, ACCEPTED: -1}
        while any(lags.values()):
            if time.monotonic() > deadline_s:
                waiting = ", ".join(f"{lag:,} records of {topic}" for topic, lag in lags.items())
                self._stuck.append(f"{EMPTY_MAX_S:g} s after everything was healed there wait {waiting}")
                return
            with suppress(*KAFKA_ERRORS):
                async with Topics(self._settings) as topics:
                    # Upstream first: what is not there cannot come any more.
                    spooled = {SPOOL: look(spool_path(self._settings.data_dir)).depth}
                    lags = spooled | {topic: await topics.lag(topic) for topic in (CAPTURED, ACCEPTED)}
            await asyncio.sleep(POLL_S)

    async def _checked(self) -> Verdict:
        sampler = self._sampler
        self.looks = {"looks": sampler.looks, "failed": sampler.failed, "records": sampler.records}
        try:
            checker = await observed(self._plan.seed, self._history, self._settings, self._crm, self.crew)
        except (*KAFKA_ERRORS, *CRM_ERRORS) as error:
            raise LabError(f"What came of the run cannot be read ({type(error).__name__}: {error}).") from error
        for record in sampler.found:
            checker.ahead(record)
        for what in self._stuck:
            checker.stuck(what)
        return checker.verdict()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_s

    def _tell(self, line: str) -> None:
        self._say(f"[{self._elapsed_s:6.1f} s] {line}")


async def _beside(keep: asyncio.Future[None], work: Coroutine[Any, Any, Any]) -> Any:
    """The result of `work`, while `keep` goes on; when that fails, so does this."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({keep, task}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            keep.result()
        return await task
    finally:
        task.cancel()


def _still(running: dict[asyncio.Task[None], Fault]) -> dict[asyncio.Task[None], Fault]:
    """Those that still run; raises what one has raised."""
    for task in running:
        if task.done():
            task.result()
    return {task: fault for task, fault in running.items() if not task.done()}
