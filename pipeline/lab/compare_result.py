"""What a run hands over to the report."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.lab.compare_contenders import Contender
from pipeline.lab.compare_measures import Measures

__all__ = ["OUR_TOOL", "SCRIPT", "Repair", "Result"]

OUR_TOOL = "leads audit"
SCRIPT = "a script"


@dataclass(frozen=True)
class Repair:
    """A repair: with what, how long it took, how many leads it brought back; and whether its audit found something
    amiss just when the comparison did.
    """

    tool: str
    audit_s: float
    mend_s: float
    mended: int
    agrees: bool = True


@dataclass(frozen=True)
class Result:
    """What was found about a contender.

    Attributes:
        measures: under faults.
        backlog_cpu_s_per_million: processor seconds for a million leads that come as fast as they can, without faults;
            None: there was no such backlog, or it did not get through.
        repair: what it took to find and mend the damage.
        lost_left, doubled_left: what is still wrong after the repair.
        seconds: the whole run.
    """

    contender: Contender
    measures: Measures
    backlog_cpu_s_per_million: float | None
    repair: Repair
    lost_left: int
    doubled_left: int
    seconds: float
