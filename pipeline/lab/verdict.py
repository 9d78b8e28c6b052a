"""What can be wrong with a run, and what was found (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Kind", "Verdict"]

EXAMPLES_MAX = 10


class Kind(StrEnum):
    """What can be wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    PHANTOM = "phantom"
    ALTERED = "altered"
    AHEAD = "checkpoint ahead"
    COUNTER = "counter wrong"
    MISDIRECTED = "misdirected"
    STATUS = "status wrong"
    STUCK = "stuck"


@dataclass
class Verdict:
    """What was counted and what is wrong: how often, and the first few of each kind in words."""

    counts: dict[str, int]
    violations: dict[Kind, int] = field(default_factory=dict)
    examples: dict[Kind, list[str]] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.violations

    def add(self, kind: Kind, what: str) -> None:
        """One more violation."""
        self.violations[kind] = self.violations.get(kind, 0) + 1
        if len(shown := self.examples.setdefault(kind, [])) < EXAMPLES_MAX:
            shown.append(what)

    def as_json(self) -> dict[str, Any]:
        """Everything."""
        return {
            "is_clean": self.is_clean,
            "counts": self.counts,
            "violations": {kind.value: self.violations.get(kind, 0) for kind in Kind},
            "examples": {kind.value: shown for kind, shown in self.examples.items()},
        }
