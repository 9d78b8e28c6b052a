"""One contender under the faults of a plan: load, break, wait until it is done, look; then the backlog, the repair."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import asyncpg

from pipeline import topics
from pipeline.embedded import Postgres
from pipeline.inspection.connection import Connection, connected
from pipeline.lab import compare_crm
from pipeline.lab.compare_contenders import Contender, Place
from pipeline.lab.compare_crew import Crew
from pipeline.lab.compare_drain import Drain
from pipeline.lab.compare_group import Ownership
from pipeline.lab.compare_journal import Journal
from pipeline.lab.compare_measures import MILLION, Accepted, Kill, Seen, measure
from pipeline.lab.compare_repair import left, repair
from pipeline.lab.compare_result import Result
from pipeline.lab.compare_schedule import FREEZE, JOIN, KILL, LEAVE, START, STOP, THAW, WORKERS, Fault, Plan
from pipeline.lab.kafka import Kafka
from pipeline.lab.program import LabError, Program
from pipeline.lab.workload import Workload
from pipeline.lead import encode, key
from pipeline.settings import Settings

__all__ = ["Run"]

#: Between two looks at the processes.
LOOK_S = 0.02
#: Between two looks at the journal.
JOURNAL_S = 0.25
READY_MAX_S = 180.0
DRAIN_POLL_S = 0.25


class Run:
    """A run. Everything that blocks (the start of a process, the end of one, the database) takes below a second.

    Args:
        contender: who runs.
        place: where; its directory is made.
        postgres: the server of its database, which is broken.
        kafka: clients of the broker.
        leads: of the seed; the first are appended under faults, the next ones are the backlog.
        plan: what is broken when.
        backlog: leads in the backlog, 0 for none.
        moved: is told how many leads are accepted so far.
        say: takes a line about the progress.
    """

    def __init__(
        self,
        contender: Contender,
        place: Place,
        postgres: Postgres,
        kafka: Kafka,
        leads: Workload,
        plan: Plan,
        *,
        backlog: int,
        moved: Callable[[int], None],
        say: Callable[[str], None],
    ) -> None:
        self._contender = contender
        self._place = place
        self._postgres = postgres
        self._kafka = kafka
        self._leads = leads
        self._plan = plan
        self._backlog = backlog
        self._moved = moved
        self._say = say
        self._journal = Journal(place.directory / "journal", lambda number: f"default/{leads.message_id(number)}")
        self._kills: list[Kill] = []
        self._faults: list[tuple[str, float]] = []
        self._is_away = False

    async def measured(self) -> Result:
        """Run it.

        Raises:
            LabError: it cannot be run, or not be measured.
        """
        started_s = time.monotonic()
        await self._topics()
        async with connected(self._settings) as connection:
            with Crew(self._contender, self._place) as self._crew:
                self._ownership = Ownership(connection, self._contender.id, lambda: self._crew.owners)
                async with self._ownership.watched():
                    await self._ready()
                    await self._break()
                behind = await self._drained(connection, len(self._accepted()))
                seen = await self._seen(behind)
                cpu_s = await self._through_backlog(connection, len(seen.written))
                mended = await repair(self._contender, self._place, len(seen.accepted) - len(seen.written))
                await self._settled(connection)
        total = len(seen.accepted) + self._backlog
        lost_left, doubled_left = await left(self._place.crm_url, total)
        taken_s = time.monotonic() - started_s
        return Result(self._contender, measure(seen), cpu_s, mended, lost_left, doubled_left, taken_s)

    @property
    def _settings(self) -> Settings:
        environ = {"LEADS_BROKER_URL": self._place.broker_url, "LEADS_REPLICATION": "1"}
        return Settings.from_env(
            {**environ, **(self._contender.environ(self._place) if self._contender.is_ours else {})}
        )

    async def _topics(self) -> None:
        """Topics without a record: those of ours have one name for both guarantees."""
        if not self._contender.is_ours:
            await self._kafka.create(*self._contender.topics)
            return
        named = [spec.name for spec in topics.specs(self._settings)]
        await self._kafka.remove(*named)
        await topics.ensure(self._settings)
        await self._kafka.appear(*named)

    async def _ready(self) -> None:
        deadline_s = time.monotonic() + READY_MAX_S
        while not self._ownership.covers(self._contender.topics[0], WORKERS):
            if time.monotonic() > deadline_s:
                raise LabError(f"The workers of {self._contender.title} own nothing:\n{self._crew.last_lines()}")
            await self._look()

    async def _break(self) -> None:
        """Append the leads, and do what the plan says."""
        with self._producer() as producer:
            while not self._accepted():
                producer.check()
                await self._look()
            start_s = time.monotonic()
            for fault in self._plan.faults:
                await self._until(start_s + fault.at_s)
                self._do(fault)
            while producer.status is None:
                await self._watch()
            if producer.status != 0:
                raise LabError(f"The producer ended with status {producer.status}:\n{producer.last_lines()}")
        self._moved(len(self._accepted()))

    def _producer(self) -> Program:
        environ = {
            "LAB_BOOTSTRAP": self._place.bootstrap,
            "LAB_TOPIC": self._contender.topics[0],
            "LAB_SEED": str(self._leads.seed),
            "LAB_LEADS": str(self._leads.count),
            "LAB_RATE": str(self._plan.rate),
            "LAB_JOURNAL": str(self._journal.path),
        }
        return Program(["pipeline.lab.steady"], environ, self._place.directory / "producer.log")

    async def _until(self, time_s: float) -> None:
        while (rest_s := time_s - time.monotonic()) > 0:
            await self._watch(min(rest_s, JOURNAL_S))

    async def _watch(self, for_s: float = JOURNAL_S) -> None:
        """Look at the processes for a while, then say how far it is."""
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s:
            await self._look()
        self._moved(len(self._accepted()))

    async def _look(self) -> None:
        self._crew.look()
        await asyncio.sleep(LOOK_S)

    def _do(self, fault: Fault) -> None:
        self._faults.append((fault.kind, time.time()))
        if fault.kind == KILL:
            self._kill(fault.slot)
            return
        self._say(_TOLD[fault.kind])
        if fault.kind in (FREEZE, STOP):
            self._is_away = True
        if fault.kind in (THAW, START):
            self._is_away = False
        {
            JOIN: lambda: self._crew.join(fault.slot),
            LEAVE: lambda: self._crew.leave(fault.slot),
            FREEZE: self._postgres.pause,
            THAW: self._postgres.resume,
            STOP: self._postgres.stop,
            START: self._postgres.start,
        }[fault.kind]()

    def _kill(self, slot: int) -> None:
        partitions, time_s = self._ownership.of(slot), time.time()
        if self._crew.kill(slot):
            self._kills.append(Kill(time_s, partitions, self._is_away))
            self._ownership.forget(slot)
            self._say(f"worker {slot} is killed; it had {len(partitions)} partitions")
        else:
            self._say(f"worker {slot} would be killed, but is not there: it has ended by itself")

    def _accepted(self) -> dict[str, Accepted]:
        return self._journal.accepted()

    async def _drained(self, connection: Connection, expected: int) -> int:
        """Wait until so many leads have a row, or nothing is left to wait for; returns how many records are unread."""
        drain = Drain(connection, self._contender, self._place.crm_url, rest=lambda: self._watch(DRAIN_POLL_S))
        behind = await drain.wait(expected)
        if behind:
            self._say(f"nothing moves any more; {behind:,} records are unread")
        return behind

    async def _seen(self, behind: int) -> Seen:
        crm = await asyncpg.connect(self._place.crm_url)
        try:
            counted, written = await compare_crm.counts(crm), await compare_crm.written(crm)
        finally:
            await crm.close()
        topic = self._contender.dead_letters
        dead = {name.decode() for name in await self._kafka.keys(topic) if name is not None} if topic else set()
        return Seen(
            self._accepted(), written, dead, counted.rows, counted.submissions, counted.attempts, self._kills,
            self._crew.ended, self._crew.cpu_s, behind, self._faults,
        )  # fmt: skip

    async def _through_backlog(self, connection: Connection, there: int) -> float | None:
        """Append a backlog as fast as it goes, and see what processor time it takes to get through."""
        if not self._backlog:
            return None
        cpu_s = self._crew.cpu_s
        await self._kafka.append(self._contender.topics[0], self._backlog_records())
        behind = await self._drained(connection, there + self._backlog)
        used_s = self._crew.cpu_s - cpu_s
        return None if behind else used_s / self._backlog * MILLION

    def _backlog_records(self) -> Iterator[tuple[bytes, bytes]]:
        for number in range(self._leads.count, self._leads.count + self._backlog):
            lead = self._leads.lead(number)
            yield key(lead), encode(lead)

    async def _settled(self, connection: Connection) -> None:
        """Wait until what a repair has appended is written."""
        await self._drained(connection, len(self._accepted()) + self._backlog)


_TOLD = {
    JOIN: "a third worker joins",
    LEAVE: "the third worker is stopped",
    FREEZE: "the database does not answer",
    THAW: "the database answers again",
    STOP: "the database is stopped",
    START: "the database is started",
}
