"""What became of a lead: from the evidence of the topics, the tables and the CRM, and how that is gathered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pipeline.dead_letters import ID_CONFLICT, Letter
from pipeline.dedupe import Seen
from pipeline.sinks import WrittenLead
from pipeline.topics import ACCEPTED, CAPTURED, DEAD_LETTER

if TYPE_CHECKING:
    from pipeline.batches import Log

__all__ = ["Evidence", "Places", "State", "This", "gather", "judge", "letter", "this_record"]


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
    """What is known of a lead, in the order in which it is gathered (`gather`)."""

    #: Whether a receipt is given: the lead was captured.
    has_receipt: bool = False
    #: Whether this app has the table `seen`; another CRM has not.
    dedupes: bool = True
    #: The checkpoint of `dedupe` has not reached the record that the receipt names.
    is_ahead: bool = False
    seen: Seen | None = None
    #: Records of its partition that are not worked on, in `lead-accepted` and `lead-dead-letter`; None: nobody knows.
    accepted_lag: int | None = 0
    letters_lag: int | None = 0
    letters: Mapping[str, Letter] = field(default_factory=dict)
    written: WrittenLead | None = None


class Places(Protocol):
    """Where a lead of one partition can be met. Every look sees the moment in which it is made."""

    def reached(self, topic: str) -> int | None:
        """The offset up to which the owner has worked on `topic`; None where nobody has told it yet."""

    def seen(self) -> Seen | None:
        """Its entry in `seen`."""

    async def logs(self, *topics: str) -> Mapping[str, Log]:
        """Where the logs end, and how far the group has told Kafka that it is."""

    def letters(self) -> Mapping[str, Letter]:
        """Its dead letters in the table, by topic."""

    async def row(self) -> WrittenLead | None:
        """Its row in the CRM."""


async def gather(places: Places, *, offset: int | None, dedupes: bool) -> Evidence:
    """The evidence on a lead, whose receipt has `offset`.

    A lead moves from topic to topic while one looks, and always downstream. So this looks downstream too, and at each
    topic first where it ends and then how far it is worked on: a lead on its way is met at least once.
    """
    # Nothing is awaited between these two.
    captured, entry = places.reached(CAPTURED), places.seen() if dedupes else None
    logs = await places.logs(CAPTURED, ACCEPTED)
    accepted_lag = _lag(logs[ACCEPTED], places.reached(ACCEPTED))
    # Only now: who was refused while we looked at `lead-accepted` has a letter from now on.
    letters_log = (await places.logs(DEAD_LETTER))[DEAD_LETTER]
    letters_lag = _lag(letters_log, places.reached(DEAD_LETTER))
    letters = places.letters()
    has_receipt = offset is not None and offset < logs[CAPTURED].end  # else it is of another log
    return Evidence(
        has_receipt=has_receipt,
        dedupes=dedupes,
        is_ahead=dedupes and has_receipt and captured is not None and offset is not None and offset >= captured,
        seen=entry,
        accepted_lag=accepted_lag,
        letters_lag=letters_lag,
        letters=letters,
        written=await places.row(),
    )


def _lag(log: Log, reached: int | None) -> int | None:
    if reached is not None:
        return max(0, log.end - reached)
    # The CRM keeps this position, and has not said it yet. Kafka's copy mostly follows it, but the CRM may have been
    # restored: what is not in the copy is surely not worked on, of what is nobody knows.
    return max(0, log.end - (log.stored or 0)) or (None if log.end else 0)


def judge(found: Evidence) -> State:
    """The state of the lead. A repeat has none of its own: it is that of the first lead with this id."""
    if found.written is not None:
        return State.WRITTEN
    if ACCEPTED in found.letters:
        return State.DEAD_LETTERED
    if found.seen is not None:
        return _of_what_was_forwarded(found)
    if found.is_ahead:
        return State.PENDING
    if CAPTURED in found.letters:
        return State.DEAD_LETTERED
    return _of_what_left_no_trace(found)


def _of_what_was_forwarded(found: Evidence) -> State:
    if found.accepted_lag or found.letters_lag:
        return State.PENDING
    # With everything worked on and neither row nor letter, it was removed from the CRM since.
    return State.UNKNOWN if None in (found.accepted_lag, found.letters_lag) else State.MISSING


def _of_what_left_no_trace(found: Evidence) -> State:
    # `seen` forgets after the dedupe window, which may be over before a CRM that was away is back.
    if found.letters_lag or found.accepted_lag or (found.has_receipt and not found.dedupes):
        return State.PENDING if found.has_receipt else State.UNKNOWN
    return State.UNKNOWN if None in (found.accepted_lag, found.letters_lag) else State.MISSING


def letter(found: Evidence) -> Letter | None:
    """The dead letter that explains why the lead is dead-lettered."""
    return found.letters.get(ACCEPTED) or found.letters.get(CAPTURED)


class This(StrEnum):
    """What the record of a receipt is among those with its message id, unless it is a dead letter itself."""

    #: The one whose state is told.
    FIRST = "first"
    #: It has the same content.
    REPEAT = "repeat"
    #: It came after the first one, and whether with the same content is not known: not yet, or not any more.
    LATER = "later"


def this_record(offset: int, seen: Seen | None, letters: Mapping[str, Letter]) -> str | None:
    """What is known for sure of the record at `offset` of `lead-captured`: a `This`, the reason of its dead letter, or
    None if nothing is. The table has the last letter of a lead only, and `seen` counts.
    """
    last = letters.get(CAPTURED)
    if last is not None and last.offset == offset:
        return last.reason
    if seen is None or offset < seen.offset:
        return None
    if offset == seen.offset:
        return This.FIRST
    if offset > seen.last_offset:
        return This.LATER
    return _of_compared(seen, last)


def _of_compared(seen: Seen, last: Letter | None) -> str:
    """Of a record that was compared with the first one, and whose letter is not `last`."""
    if seen.conflicts and seen.times == 1:
        return ID_CONFLICT  # no other record has the content of the first one
    if last is None or last.offset < seen.offset:
        return This.LATER if seen.conflicts else This.REPEAT
    is_the_only_one = seen.conflicts == 1 and last.reason == ID_CONFLICT and last.offset <= seen.last_offset
    return This.REPEAT if is_the_only_one else This.LATER
