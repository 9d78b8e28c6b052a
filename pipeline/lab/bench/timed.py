"""Leads at a steady rate into PostgreSQL: when each was acknowledged, and when its row was committed. One clock.

PostgreSQL takes the time of a commit just before it writes it to the disk: the fsync, which the report names, is not
in what is measured with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, NamedTuple, Self

import asyncpg

from pipeline.embedded import Postgres, free_port
from pipeline.lab import compare_crm
from pipeline.lab.bench.installation import Installation
from pipeline.lab.compare_journal import Journal
from pipeline.lab.compare_measures import Accepted
from pipeline.lab.program import LabError, Program
from pipeline.lab.worker import Worker
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = ["AGENTS", "Committed", "Flow", "Times", "database", "until_ready"]

AGENTS = "dedupe,crm_sink"

POLL_S = 0.05
#: All of these take a few seconds; reached only when something hangs.
READY_MAX_S = 90.0
REST_MAX_S = 60.0

_COMMITTED = """
SELECT tenant || '/' || message_id, source_partition, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8
FROM lead
"""


class Committed(NamedTuple):
    """A row: its partition of lead-accepted, and when it was committed, in seconds since the epoch."""

    partition: int
    time_s: float


@dataclass(frozen=True)
class Times:
    """What became of every lead, by key. The same keys in both."""

    accepted: Mapping[str, Accepted]
    committed: Mapping[str, Committed]


def database(at: Installation, name: str) -> Postgres:
    """A PostgreSQL, not yet started, that remembers when transactions were committed."""
    settings = {"shared_buffers": "128MB", "track_commit_timestamp": "on"}
    return Postgres(at.directory / name, port=free_port(), settings=settings)


async def until_ready(*workers: Worker) -> None:
    """Wait until workers say that they are.

    Raises:
        LabError: one has ended.
    """
    async with asyncio.timeout(READY_MAX_S):
        while not await asyncio.to_thread(lambda: all(worker.is_ready for worker in workers)):
            for worker in workers:
                worker.check()
            await asyncio.sleep(POLL_S)


class Flow:
    """A database of its own, empty topics, and a producer that begins when it is told to. An asynchronous context.

    Args:
        at: where.
        server: the PostgreSQL.
        name: of the database, the consumer group and the files.
        rate: leads per second.
        seconds: how long.
    """

    def __init__(self, at: Installation, server: Postgres, name: str, *, rate: float, seconds: float) -> None:
        self._at = at
        self._server = server
        self.name = name
        self._rate = rate
        self._leads = replace(at.leads, count=int(rate * seconds))
        self._journal = Journal(at.directory / f"{name}.journal", lambda n: f"default/{self._leads.message_id(n)}")
        self._producer: Program | None = None
        self._connection: Any = None
        self.url = ""

    async def __aenter__(self) -> Self:
        self.url = await compare_crm.create(self._server.url, self.name)
        self._connection = await asyncpg.connect(self.url)
        await self._at.emptied(AGENTS, CAPTURED, ACCEPTED, DEAD_LETTER)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._producer is not None:
            self._producer.stop()
        await self._connection.close()

    async def begin(self) -> None:
        """Start the producer; returns when it has its first acknowledgement."""
        environ = {
            "LAB_SEED": str(self._leads.seed),
            "LAB_LEADS": str(self._leads.count),
            "LAB_RATE": str(self._rate),
            "LAB_TOPIC": CAPTURED,
            "LAB_BOOTSTRAP": self._at.broker_url.removeprefix("kafka://"),
            "LAB_JOURNAL": str(self._journal.path),
        }
        self._producer = Program(["pipeline.lab.steady"], environ, self._at.directory / f"{self.name}-producer.log")
        async with asyncio.timeout(READY_MAX_S):
            while not self._journal.accepted():
                self._producer.check()
                await asyncio.sleep(POLL_S)

    async def end(self) -> Times:
        """Wait until all is sent and written.

        Raises:
            LabError: not every lead that was acknowledged is in one row, or others are.
        """
        assert self._producer is not None
        while self._producer.status is None:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(POLL_S)
        if self._producer.status != 0:
            raise LabError(f"The producer ended with {self._producer.status}:\n{self._producer.last_lines()}")
        accepted = self._journal.accepted()
        await self._until_written(len(accepted))
        rows = await self._connection.fetch(_COMMITTED)
        if Counter(key for key, _, _ in rows) != Counter(accepted.keys()):
            raise LabError(f"Our {self.name} is wrong: {len(rows):,} rows of {len(accepted):,} leads")
        if letters := await self._at.kafka.end(DEAD_LETTER):
            raise LabError(f"Our {self.name} is wrong: {letters} dead letters, there should be none")
        return Times(accepted, {key: Committed(partition, time_s) for key, partition, time_s in rows})

    async def _until_written(self, count: int) -> None:
        deadline_s = time.monotonic() + REST_MAX_S
        while await compare_crm.count(self._connection) < count:
            if time.monotonic() > deadline_s:
                raise LabError(f"Our {self.name} did not write all of {count:,} leads within {REST_MAX_S:g} s")
            await asyncio.sleep(POLL_S)
