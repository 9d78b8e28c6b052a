"""From what was seen of a contender to what is measured. Pure. Times are seconds since the epoch, of one clock.

Whoever reads the topics and tables afterwards has all that is needed: when the broker acknowledged each lead, and when
the transaction that wrote it began (`lead.written_at`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

__all__ = ["Accepted", "CatchUp", "Kill", "Measures", "Seen", "Spread", "catch_up", "lost", "measure"]

MILLION = 1_000_000
#: A lead that was accepted just before a fault was on its way then.
NEAR_S = 1.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the broker has acknowledged of one lead, by its clock, and when who sent it was told."""

    partition: int
    offset: int
    time_s: float
    acknowledged_s: float = 0.0


@dataclass(frozen=True)
class Kill:
    """A worker that was killed.

    Attributes:
        time_s: when.
        partitions: what it owned, as the group's coordinator last said; empty when it owned nothing yet.
        in_outage: whether the database was away; how long others took over is not measured then.
    """

    time_s: float
    partitions: frozenset[int]
    in_outage: bool = False


@dataclass(frozen=True)
class CatchUp:
    """How long after a kill the first lead was written that had been accepted since, on a partition of the victim's;
    and how long until everything was that had been accepted there by then. None: never.
    """

    first_write_s: float | None
    lag_zero_s: float | None


@dataclass(frozen=True)
class Seen:
    """What was seen of a contender under faults, before anything was mended.

    Attributes:
        accepted: by key.
        written: when each lead was written, by key.
        dead: keys of dead letters.
        rows: in `lead`.
        submissions: the sum over all contacts.
        attempts: at a row of `lead`: the highest number that its sequence has given.
        kills: as they happened.
        ended: how often a worker ended by itself.
        cpu_s: processor seconds of all worker processes, dead ones too.
        unread: records behind the last checkpoint when nothing moved any more.
        faults: what was done, and when.
    """

    accepted: Mapping[str, Accepted]
    written: Mapping[str, float]
    dead: Collection[str]
    rows: int
    submissions: int
    attempts: int
    kills: Sequence[Kill]
    ended: int
    cpu_s: float
    unread: int = 0
    faults: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Spread:
    """Median and worst of some durations; `missing` of them never came to an end. None: there were none."""

    count: int
    median_s: float | None
    worst_s: float | None
    missing: int = 0

    @classmethod
    def of(cls, durations: Iterable[float | None]) -> Spread:
        """The spread of durations, None for those without an end."""
        given = list(durations)
        ended = [one for one in given if one is not None]
        return cls(len(given), median(ended) if ended else None, max(ended) if ended else None, len(given) - len(ended))


@dataclass(frozen=True)
class Measures:
    """What is measured under faults, see `Seen`."""

    accepted: int
    written: int
    lost: int
    #: Submissions counted beyond the leads that are there, and rows beyond one for each message id.
    doubled: int
    #: Attempts to insert a lead beyond its row, for each kill; None without a kill.
    again_per_kill: float | None
    kills: int
    ended: int
    unread: int
    first_write: Spread
    lag_zero: Spread
    cpu_s_per_million: float
    catch_ups: list[CatchUp] = field(default_factory=list)
    #: Lost leads by the last fault before they were accepted, or within a second after.
    lost_after: dict[str, int] = field(default_factory=dict)


def measure(seen: Seen) -> Measures:
    """The measures of what was seen."""
    catch_ups = [
        catch_up(kill, seen.accepted, seen.written) for kill in seen.kills if kill.partitions and not kill.in_outage
    ]
    different = len(seen.written)
    missing = lost(seen)
    return Measures(
        accepted=len(seen.accepted),
        written=different,
        lost=len(missing),
        doubled=(seen.submissions - different) + (seen.rows - different),
        again_per_kill=(seen.attempts - seen.rows) / len(seen.kills) if seen.kills else None,
        kills=len(seen.kills),
        ended=seen.ended,
        unread=seen.unread,
        first_write=Spread.of(one.first_write_s for one in catch_ups),
        lag_zero=Spread.of(one.lag_zero_s for one in catch_ups),
        cpu_s_per_million=seen.cpu_s / max(1, len(seen.accepted)) * MILLION,
        catch_ups=catch_ups,
        lost_after=dict(Counter(_fault_before(seen.faults, seen.accepted[key].time_s + NEAR_S) for key in missing)),
    )


def _fault_before(faults: Sequence[tuple[str, float]], time_s: float) -> str:
    return next((kind for kind, at_s in reversed(faults) if at_s <= time_s), "none")


def lost(seen: Seen) -> list[str]:
    """The keys that were accepted and are in no row and no dead letter."""
    return [key for key in seen.accepted if key not in seen.written and key not in seen.dead]


def catch_up(kill: Kill, accepted: Mapping[str, Accepted], written: Mapping[str, float]) -> CatchUp:
    """How long it took after `kill`.

    A lead that was accepted before the kill does not show that somebody has taken over: it may have been on its way.
    """
    orphaned = [(one.time_s, written.get(key)) for key, one in accepted.items() if one.partition in kill.partitions]
    first_s = min((at for since, at in orphaned if since > kill.time_s and at is not None), default=None)
    if first_s is None:
        return CatchUp(None, None)
    # Leads that are lost are not waited for.
    waiting = [at for since, at in orphaned if since <= first_s and at is not None and at > kill.time_s]
    return CatchUp(first_s - kill.time_s, max(waiting) - kill.time_s)
