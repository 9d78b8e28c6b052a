"""What a check of `leads doctor` found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum

__all__ = ["Finding", "Level", "ok", "problem", "skipped", "warning", "worst"]


class Level(StrEnum):
    """How good it is. `skipped`: it could not be looked at, and another finding says why, or nothing is there yet."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    PROBLEM = "problem"


_ORDER = (Level.SKIPPED, Level.OK, Level.WARNING, Level.PROBLEM)


@dataclass(frozen=True)
class Finding:
    """One line: which check, what was found, and for a warning or a problem what to do about it."""

    check: str
    level: Level
    found: str
    advice: str = ""

    def as_json(self) -> dict[str, str]:
        """The members of the JSON object."""
        return asdict(self)


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def skipped(check: str, why: str) -> Finding:
    """It could not be looked at."""
    return Finding(check, Level.SKIPPED, why)


def warning(check: str, found: str, advice: str) -> Finding:
    """It works, and may not always."""
    return Finding(check, Level.WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    """Workers do not run with it, or leads are not safe."""
    return Finding(check, Level.PROBLEM, found, advice)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all findings, where one that was skipped counts as ok."""
    return max((Level.OK, *(finding.level for finding in findings)), key=_ORDER.index)
