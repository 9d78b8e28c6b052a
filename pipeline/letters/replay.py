"""Which leads of dead letters go to `lead-accepted` again: what refused them may take them now (pure).

To `lead-accepted` and never to `lead-captured`, where `seen` rightly drops a repeat. Whoever has a lead already
recognises it by its key, so that to send one once more than needed is harmless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.dead_letters import ID_CONFLICT, concerns
from pipeline.lead import InvalidLead, decode, key
from pipeline.letters.found import DeadLetter, Recent
from pipeline.letters.originals import BATCH_MAX_LEADS, BATCH_SIZE_MAX_BYTES, Append, Original
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = ["Outcome", "Replay", "original", "why_not"]


def why_not(one: DeadLetter, *, partitions: int) -> str | None:
    """Why a replay cannot help this letter; None when it may.

    Args:
        partitions: how many `lead-accepted` has.
    """
    letter = one.letter
    if letter.topic == DEAD_LETTER:
        return "a letter about another letter, which can be replayed itself"
    if letter.topic not in (CAPTURED, ACCEPTED):
        return "of a topic that holds no leads"
    if letter.reason == ID_CONFLICT:
        return "id-conflict: the first lead with this id stays"
    try:
        lead = decode(one.value)
    except InvalidLead:
        return "still no lead"
    if key(lead) != one.key:
        return "its key is not tenant/message_id"
    return None if letter.partition < partitions else "of a partition that lead-accepted does not have"


def original(one: DeadLetter) -> Original:
    """The record as it was."""
    return Original(one.letter.partition, one.key, one.value, one.headers)


@dataclass
class Outcome:
    """What became of the letters, counted."""

    #: Leads that are acknowledged, or would be sent.
    sent: int = 0
    #: Letters of leads that are among those.
    repeats: int = 0
    #: Letters that say nothing of the leads of this group.
    others: int = 0
    #: Letters that a replay cannot help, by the reason why.
    skipped: Counter[str] = field(default_factory=Counter)

    def count(self) -> None:
        """One more is sent."""
        self.sent += 1

    def lines(self, sent: str) -> list[str]:
        """The counts in words; `sent` is what became of the leads."""
        repeats = f" ({_counted(self.repeats, 'more letter')} of the same)" if self.repeats else ""
        return [
            f"{_counted(self.sent, 'lead')}{repeats} {sent}; {_counted(self.skipped.total(), 'letter')} skipped.",
            *(f"Skipped: {count:,} {why}." for why, count in sorted(self.skipped.items())),
            *([f"Left alone: {_counted(self.others, 'letter')} of other groups (see --group)."] if self.others else []),
        ]


class Replay:
    """Takes letters one by one and sends the leads of those that it can help, in batches.

    Arguments:
        outcome: counts.
        append: sends a batch.
        partitions: how many `lead-accepted` has.
        group: leave alone what does not concern this consumer group; None: take all.
        told: called with each letter whose lead was sent (None) or cannot be, and why.
    """

    def __init__(
        self,
        outcome: Outcome,
        append: Append,
        *,
        partitions: int,
        group: str | None,
        told: Callable[[DeadLetter, str | None], None],
    ) -> None:
        self._outcome = outcome
        self._append = append
        self._partitions = partitions
        self._group = group
        self._told = told
        # A lead that is refused after every replay has many letters. To send it for each would double them each time.
        self._sent = Recent()
        self._batch: list[DeadLetter] = []
        self._size_bytes = 0

    async def take(self, one: DeadLetter) -> None:
        """Send the lead of this letter, now or with the next ones."""
        if self._group is not None and not concerns(one.letter, group=self._group, common_topic=CAPTURED):
            self._outcome.others += 1
        elif (why := why_not(one, partitions=self._partitions)) is not None:
            self._outcome.skipped[why] += 1
            self._told(one, why)
        elif self._sent.meets(one.content):
            self._outcome.repeats += 1
        else:
            await self._add(one)

    async def flush(self) -> None:
        """Send what waits to be sent."""
        batch, self._batch, self._size_bytes = self._batch, [], 0
        if batch:
            await self._append([original(one) for one in batch])
        for one in batch:
            self._told(one, None)

    async def _add(self, one: DeadLetter) -> None:
        self._batch.append(one)
        self._size_bytes += len(one.value or b"")
        if len(self._batch) >= BATCH_MAX_LEADS or self._size_bytes >= BATCH_SIZE_MAX_BYTES:
            await self.flush()


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
