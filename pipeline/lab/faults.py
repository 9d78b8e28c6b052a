"""The faults that a chaos run inflicts: what each is called, what it touches, where it fits, and how it goes.

A fault is a coroutine: it breaks something, waits for what comes of it, heals it, and returns when that is as before.
All of it runs in the main thread: on Linux a process dies with the thread that has started it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random

from pipeline.lab import faults_servers, faults_surroundings, faults_workers
from pipeline.lab.faults_site import Site
from pipeline.lab.installation import SQLITE
from pipeline.lab.small_disk import SmallDisk

__all__ = ["FAULTS", "Fault", "nodes_for", "together", "unfit"]

#: Faults that may run at once.
AT_ONCE_MAX = 2

_WORKERS = "workers"
_BROKERS = "brokers"
_DATABASE = "database"
_NETWORK = "network"


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: as it is given on the command line.
        about: what it does.
        touches: faults that touch the same do not run at once.
        run: breaks and heals; takes the site and a source of chance; returns what it did.
        nodes: brokers that it needs at least.
    """

    name: str
    about: str
    touches: Collection[str]
    run: Callable[[Site, Random], Awaitable[str]]
    nodes: int = 1


_ALL = (
    Fault("kill-worker", "SIGKILL of a worker", {_WORKERS}, faults_workers.kill),
    Fault("pause-worker", "SIGSTOP of a worker beyond its session, then SIGCONT", {_WORKERS}, faults_workers.pause),
    Fault("rebalance", "a worker joins, and one leaves in order", {_WORKERS}, faults_workers.rebalance),
    Fault("wipe-state", "a worker is killed, and what it kept on its disk is gone", {_WORKERS}, faults_workers.wipe),
    Fault("kill-broker", "SIGKILL of a broker", {_BROKERS}, faults_servers.kill_broker),
    Fault("broker-away", "all brokers are killed, for long", {_BROKERS}, faults_servers.away),
    Fault(
        "kill-leader", "SIGKILL of the broker that leads a partition; needs 3 brokers", {_BROKERS},
        faults_servers.kill_leader, nodes=3,
    ),
    Fault("stop-database", "PostgreSQL is stopped; SQLite is locked", {_DATABASE}, faults_servers.stop_database),
    Fault("kill-database", "SIGKILL of PostgreSQL", {_DATABASE}, faults_servers.kill_database),
    Fault("slow-network", "connections to brokers and database are slow, held and cut", {_NETWORK},
          faults_surroundings.slow_network),
    # Every worker ends by it, so nothing else is to be waited for.
    Fault("disk-full", "the disk with the state of the workers is full",
          {_WORKERS, _BROKERS, _DATABASE, _NETWORK}, faults_surroundings.fill_disk),
)  # fmt: skip

#: By name.
FAULTS = {fault.name: fault for fault in _ALL}


def nodes_for(names: Sequence[str]) -> int:
    """How many brokers all of these faults need."""
    return max((FAULTS[name].nodes for name in names), default=1)


def unfit(names: Sequence[str], *, nodes: int, database: str) -> dict[str, str]:
    """Which of these faults cannot run, and why."""
    reasons = {name: _unfit(FAULTS[name], nodes, database) for name in names}
    return {name: why for name, why in reasons.items() if why}


def together(running: Sequence[Fault], new: Fault) -> bool:
    """Whether a fault may begin while others run."""
    touched = {one for fault in running for one in fault.touches}
    return len(running) < AT_ONCE_MAX and not touched & set(new.touches)


def _unfit(fault: Fault, nodes: int, database: str) -> str | None:
    if fault.nodes > nodes:
        return f"it needs {fault.nodes} brokers"
    if fault.name == "kill-database" and database == SQLITE:
        return "SQLite has no process to kill"
    if fault.name == "disk-full" and (why := SmallDisk.unfit()):
        return why
    return None
