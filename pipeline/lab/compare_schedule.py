"""When what is broken in a comparison: a pure function of the seed, the same for every contender.

The time is cut into episodes of equal length, in an order that the seed says: one for each kill of a worker at work;
one in which a third worker joins and leaves; one in which the database answers nothing for some seconds, and a worker
is killed meanwhile; and one in which the database is stopped and started again. Where in its episode a fault strikes,
and whom, the seed says, too.

A worker is killed while the database does not answer because that is what happens: it does not get on, so its liveness
probe fails, or somebody restarts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

__all__ = [
    "EPISODE_S", "FREEZE", "FROZEN_S", "JOIN", "KILL", "LEAVE", "START", "STOP", "STOPPED_S", "THAW", "WORKERS",
    "Fault", "Plan", "plan",
]  # fmt: skip

KILL = "kill"
JOIN = "join"
LEAVE = "leave"
FREEZE = "freeze"
THAW = "thaw"
STOP = "stop"
START = "start"

#: Worker processes at the start; the one that joins is the next.
WORKERS = 2
#: Long enough for a group to notice a dead member (10 s) before the next one dies.
EPISODE_S = 12.0
#: Leads in a second; for more leads the episodes are longer.
RATE_MAX = 250.0

FROZEN_S = 7.0
STOPPED_S = 4.0
JOINED_S = 6.0
#: So far into its episode a fault strikes at most.
_LATE_S = 2.0


@dataclass(frozen=True)
class Fault:
    """What is done at `at_s`, seconds after the first lead; `slot` is the worker's, from 1, where it is about one."""

    at_s: float
    kind: str
    slot: int = 0


@dataclass(frozen=True)
class Plan:
    """A run under faults: how long leads are appended, how fast, and the faults in order."""

    seconds: float
    rate: float
    faults: tuple[Fault, ...]

    @property
    def kills(self) -> int:
        """How many workers are killed."""
        return sum(fault.kind == KILL for fault in self.faults)

    def is_outage(self, at_s: float) -> bool:
        """Whether the database is away at that time."""
        away = False
        for fault in self.faults:
            if fault.at_s > at_s:
                break
            away = (away or fault.kind in (FREEZE, STOP)) and fault.kind not in (THAW, START)
        return away


def plan(seed: int, *, leads: int, kills: int, episode_s: float = EPISODE_S) -> Plan:
    """The schedule for `leads` leads and `kills` kills, one of them while the database does not answer."""
    random = Random(f"compare {seed}")
    episodes = [*[KILL] * max(0, kills - 1), JOIN, FREEZE, STOP]
    random.shuffle(episodes)
    each_s = max(episode_s, leads / RATE_MAX / len(episodes))
    faults = [
        fault
        for number, kind in enumerate(episodes)
        for fault in _episode(kind, number * each_s, random, has_kill=kills > 0)
    ]
    seconds = each_s * len(episodes)
    return Plan(seconds, leads / seconds, tuple(faults))


def _episode(kind: str, start_s: float, random: Random, *, has_kill: bool) -> Iterator[Fault]:
    at_s, slot = start_s + random.uniform(0.5, _LATE_S), random.randint(1, WORKERS)
    if kind == KILL:
        yield Fault(at_s, KILL, slot)
    elif kind == JOIN:
        yield Fault(at_s, JOIN, WORKERS + 1)
        yield Fault(at_s + JOINED_S, LEAVE, WORKERS + 1)
    elif kind == STOP:
        yield Fault(at_s, STOP)
        yield Fault(at_s + STOPPED_S, START)
    else:
        yield Fault(at_s, FREEZE)
        if has_kill:
            yield Fault(at_s + random.uniform(1.0, FROZEN_S - 1.0), KILL, slot)
        yield Fault(at_s + FROZEN_S, THAW)
