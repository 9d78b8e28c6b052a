"""Which fault when: a pure function of the seed, the length of the run and the names of the faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

__all__ = ["Planned", "schedule"]

#: Before the first fault there is only load.
FIRST_S = 3.0
#: From one fault to the next; one that still runs when its successor is due overlaps with it, where that is safe.
GAP_S = (6.0, 14.0)
#: No fault begins so shortly before the end.
LAST_S = 6.0


@dataclass(frozen=True)
class Planned:
    """One fault.

    Attributes:
        index: from 0.
        at_s: seconds after the load has begun.
        name: which fault.
        seed: of what it chooses: which worker, for how long.
    """

    index: int
    at_s: float
    name: str
    seed: int

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return asdict(self)


def schedule(seed: int, seconds: float, names: Sequence[str]) -> list[Planned]:
    """The faults of a run in their order, each name once before one comes again; the order of `names` does not matter.

    A longer run begins with the faults of a shorter one.
    """
    random = Random(f"schedule {seed}")
    planned: list[Planned] = []
    at_s = FIRST_S
    turns = _turns(random, sorted(set(names)))
    while names and at_s <= seconds - LAST_S:
        planned.append(Planned(len(planned), round(at_s, 2), next(turns), random.getrandbits(32)))
        at_s += random.uniform(*GAP_S)
    return planned


def _turns(random: Random, names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from random.sample(names, len(names))
