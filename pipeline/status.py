"""What became of a lead: pure, from the evidence of the topics, the tables and the CRM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.dead_letters import Letter
from pipeline.dedupe import Seen
from pipeline.sinks import WrittenLead
from pipeline.topics import ACCEPTED, CAPTURED

__all__ = ["Evidence", "State", "judge", "letter"]


class State(StrEnum):
    """What is said of a lead."""

    #: It is captured, and on its way.
    PENDING = "pending"
    #: It is in the CRM.
    WRITTEN = "written"
    #: It can never be written as it is, and is kept in `lead-dead-letter`.
    DEAD_LETTERED = "dead-lettered"
    #: No such lead.
    MISSING = "missing"
    #: Nobody can say right now.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a lead. It moves from topic to topic while one looks, and always downstream; so the evidence is
    gathered in the order of the fields, and a lead on its way is met at least once.
    """

    #: Whether a receipt is given: the lead was captured.
    has_receipt: bool = False
    #: Whether this app has the table `seen`; another CRM has not.
    dedupes: bool = True
    #: The checkpoint of `dedupe` has not reached the record that the receipt names.
    is_ahead: bool = False
    seen: Seen | None = None
    #: Records of its partition that are not worked on, in `lead-accepted` and `lead-dead-letter`.
    accepted_lag: int = 0
    letters_lag: int = 0
    letters: Mapping[str, Letter] = field(default_factory=dict)
    written: WrittenLead | None = None


def judge(found: Evidence) -> State:
    """The state of the lead. A repeat has none of its own: it is that of the first lead with this id."""
    if found.written is not None:
        return State.WRITTEN
    if ACCEPTED in found.letters:
        return State.DEAD_LETTERED
    if found.seen is not None:
        # It was forwarded. With everything worked on and neither row nor letter, it was removed from the CRM since.
        return State.PENDING if found.accepted_lag or found.letters_lag else State.MISSING
    if found.is_ahead:
        return State.PENDING
    if CAPTURED in found.letters:
        return State.DEAD_LETTERED
    return _of_what_left_no_trace(found)


def _of_what_left_no_trace(found: Evidence) -> State:
    if found.letters_lag or (not found.dedupes and (found.has_receipt or found.accepted_lag)):
        return State.PENDING if found.has_receipt else State.UNKNOWN
    return State.MISSING


def letter(found: Evidence) -> Letter | None:
    """The dead letter that explains why the lead is dead-lettered."""
    return found.letters.get(ACCEPTED) or found.letters.get(CAPTURED)
