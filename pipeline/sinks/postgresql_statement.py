"""The one statement by which a lane takes its step and writes its leads, whatever rows these become."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from pipeline.sinks.base import AcceptedLead

__all__ = ["STEP_PARAMETERS", "Statement"]

#: Of `stream_offset`: the new position, then the lane and where it is to stand.
STEP_PARAMETERS = 9

# The fence: of two writers at one position one moves the lane, and the other finds no row there, and inserts nothing.
_STEP = """
step AS (
    UPDATE stream_offset SET next_offset = ${}, log_id = ${}, last_offset = ${}, last_time_ms = ${}, last_key = ${}
    WHERE consumer_group = ${} AND topic = ${} AND partition = ${} AND next_offset = ${}
    RETURNING 1
)
"""
_NEW = "(SELECT count(*) FROM inserted) AS new"


@dataclass(frozen=True)
class Statement:
    """What is written of leads.

    Attributes:
        leads: common table expressions: `incoming` with the parameters from $1 on and a place for a `{condition}`, and
            `inserted`, which returns a row for each lead that is new.
        columns: the values of these parameters.
        columns_count: how many there are.
        contacts: what is written beside them: further expressions; empty when nothing is.
    """

    leads: str
    columns: Callable[[Sequence[AcceptedLead]], list[list[object]]]
    columns_count: int
    contacts: str = ""

    @cached_property
    def insert_leads(self) -> str:
        """Insert what is new, and nothing else."""
        return f"WITH {self.leads.format(condition='')} SELECT {_NEW}"

    @cached_property
    def insert(self) -> str:
        """Insert what is new, without a step."""
        written = _listed(self.leads.format(condition=""), self.contacts)
        return f"WITH {written} SELECT true AS stepped, {_NEW}"

    @cached_property
    def step_and_insert(self) -> str:
        """Take the step, and insert what is new if it could be taken. The step's parameters follow the columns'."""
        step = _STEP.format(*range(self.columns_count + 1, self.columns_count + STEP_PARAMETERS + 1))
        leads = self.leads.format(condition="WHERE EXISTS (SELECT FROM step)")
        return f"WITH {_listed(step, leads, self.contacts)} SELECT EXISTS (SELECT FROM step) AS stepped, {_NEW}"


def _listed(*expressions: str) -> str:
    return ", ".join(filter(None, expressions))
