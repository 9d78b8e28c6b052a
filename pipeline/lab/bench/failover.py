"""The benchmark `failover`: a worker is killed while leads flow; how long until the rows of its partitions go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.embedded import Postgres, free_port
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import Benchmark, Figure
from pipeline.lab.bench.timed import AGENTS, Flow, Times, database, until_ready
from pipeline.lab.kafka import PARTITIONS
from pipeline.lab.program import LabError
from pipeline.lab.worker import Worker

__all__ = ["failover", "resumed_s"]

RATE = 500.0
#: Leads flow for so long before the kill: standbys have caught up by then.
WARM_UP_S = 5.0
#: And after the latest moment at which others should have taken over.
AFTER_S = 4.0
#: How soon writes must go on after the session of who was killed is over; and after its restart in its place.
TAKE_OVER_MAX_S = 1.0
RESTART_MAX_S = 2.0
POLL_S = 0.02
SPREAD_MAX_S = 60.0


@dataclass(frozen=True)
class _Killed:
    """Seconds since the kill: until writes went on in the last of its partitions, and until a probe had seen what."""

    resumed_s: float
    noticed_s: float
    ready_s: float


async def failover(at: Installation) -> Benchmark:
    """How long the leads of a killed worker wait."""
    session_s = at.sizes.session_s
    with database(at, "failover-postgres") as server:
        taken, restarted = list[_Killed](), list[_Killed]()
        for number in range(1, at.sizes.rounds + 1):
            taken.append(await _taken_over(at, server, f"standby_{number}", session_s))
            restarted.append(await _restarted(at, server, f"static_{number}", session_s))
    return Benchmark(
        name="failover", title="SIGKILL of one of two workers -> rows of its partitions go on", unit="s",
        figures=[*_of_taken_over(taken, session_s), *_of_restarted(restarted)],
    )  # fmt: skip


def _of_taken_over(found: Sequence[_Killed], session_s: float) -> list[Figure]:
    return [
        Figure(
            name=f"by a standby, session timeout {session_s:g} s", unit="s", values=[one.resumed_s for one in found],
            at_most=session_s + TAKE_OVER_MAX_S,
        ),
        Figure(
            name="of it: until the other worker is told (session)", unit="s", values=[one.noticed_s for one in found]
        ),
        Figure(
            name="of it: from there to the first rows", unit="s",
            values=[one.resumed_s - one.noticed_s for one in found],
        ),
    ]  # fmt: skip


def _of_restarted(found: Sequence[_Killed]) -> list[Figure]:
    return [
        Figure(
            name="by itself, restarted at once, static membership", unit="s", values=[one.resumed_s for one in found],
            at_most=RESTART_MAX_S,
        ),
        Figure(name="of it: until Python serves HTTP again", unit="s", values=[one.noticed_s for one in found]),
        Figure(name="of it: from there until it is ready", unit="s",
               values=[one.ready_s - one.noticed_s for one in found]),
    ]  # fmt: skip


async def _taken_over(at: Installation, server: Postgres, name: str, session_s: float) -> _Killed:
    """Another worker has followed the tables of the one that is killed."""
    more = {"LEADS_STANDBY_REPLICAS": "1", "LEADS_SESSION_TIMEOUT_S": f"{session_s:g}"}
    after_s = session_s + TAKE_OVER_MAX_S + AFTER_S
    async with Flow(at, server, name, rate=RATE, seconds=WARM_UP_S + after_s) as flow:
        with _worker(at, flow, "a", more) as survivor, _worker(at, flow, "b", more) as victim:
            orphaned = await _begun(flow, survivor, victim)
            killed_s = _kill(victim)
            # It may be ready again before anybody looks.
            noticed_s = await _seen(killed_s, lambda: not survivor.is_ready or _has_all(survivor))
            ready_s = await _seen(killed_s, lambda: survivor.is_ready)
            times = await flow.end()
    return _told(at, name, _Killed(resumed_s(times, orphaned, killed_s), noticed_s, ready_s))


async def _restarted(at: Installation, server: Postgres, name: str, session_s: float) -> _Killed:
    """It is started again at once in its place: same directory, same address, same member of the group."""
    more = {"LEADS_STATIC_MEMBERSHIP": "on", "LEADS_SESSION_TIMEOUT_S": f"{session_s:g}"}
    async with Flow(at, server, name, rate=RATE, seconds=WARM_UP_S + RESTART_MAX_S + 2 * AFTER_S) as flow:
        with _worker(at, flow, "a", more) as survivor, _worker(at, flow, "b", more) as victim:
            orphaned = await _begun(flow, survivor, victim)
            killed_s = _kill(victim)
            with _worker(at, flow, "b", more, port=victim.port) as again:
                noticed_s = await _seen(killed_s, lambda: again.ask("/healthz") is not None)
                ready_s = await _seen(killed_s, lambda: again.is_ready)
                times = await flow.end()
    return _told(at, name, _Killed(resumed_s(times, orphaned, killed_s), noticed_s, ready_s))


def _worker(at: Installation, flow: Flow, place: str, more: Mapping[str, str], *, port: int | None = None) -> Worker:
    name = f"{flow.name}-{place}"
    return at.ours(name, AGENTS, flow.name, sink_url=flow.url, port=port or free_port(), more=more)


def _kill(victim: Worker) -> float:
    killed_s = time.time()
    victim.kill()
    return killed_s


async def _begun(flow: Flow, survivor: Worker, victim: Worker) -> frozenset[int]:
    """Let leads flow through both; returns the partitions of the second one."""
    await until_ready(survivor, victim)
    await flow.begin()
    began_s = time.monotonic()
    async with asyncio.timeout(SPREAD_MAX_S):
        owners = await asyncio.to_thread(_owners, survivor)
        while not _is_spread(owners, survivor, victim):
            await asyncio.sleep(POLL_S)
            owners = await asyncio.to_thread(_owners, survivor)
    await asyncio.sleep(max(0.0, began_s + WARM_UP_S - time.monotonic()))
    return frozenset(number for number, owner in owners.items() if owner == victim.url)


def _owners(worker: Worker) -> dict[int, str]:
    """The owner of each partition whose tables are ready."""
    tables = (worker.ask("/tables") or {}).get("tables", [])
    found = [one for table in tables for one in table["partitions"]]
    waiting = {one["partition"] for one in found if one["state"] != "ready"}
    return {one["partition"]: one["owner"] for one in found if one["partition"] not in waiting}


def _is_spread(owners: Mapping[int, str], *workers: Worker) -> bool:
    return len(owners) == PARTITIONS and set(owners.values()) == {worker.url for worker in workers}


def _has_all(worker: Worker) -> bool:
    return _is_spread(_owners(worker), worker)


async def _seen(since_s: float, condition: Callable[[], bool]) -> float:
    """How many seconds after `since_s` the condition was first seen."""
    async with asyncio.timeout(SPREAD_MAX_S):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(POLL_S)
    return time.time() - since_s


def resumed_s(times: Times, orphaned: frozenset[int], killed_s: float) -> float:
    """Seconds from the kill to the first commit in the last of the orphaned partitions.

    Only rows of leads that were acknowledged after the kill count: what the dead worker had sent to the database
    before may be committed after.

    Raises:
        LabError: in one of them none was.
    """
    first_s: dict[int, float] = {}
    for key, one in times.accepted.items():
        row = times.committed[key]
        if row.partition in orphaned and one.acknowledged_s > killed_s:
            first_s[row.partition] = min(row.time_s, first_s.get(row.partition, row.time_s))
    if not orphaned or first_s.keys() != orphaned:
        raise LabError(f"Writes did not go on: of the partitions {set(orphaned)} only in {set(first_s)}")
    return max(first_s.values()) - killed_s


def _told(at: Installation, name: str, killed: _Killed) -> _Killed:
    at.say(f"failover, {name}: writes go on after {killed.resumed_s:.2f} s")
    return killed
