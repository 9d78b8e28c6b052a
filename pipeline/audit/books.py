"""Everything that an audit has read, in a few bytes a lead (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.audit.names import KEY_SIZE_BYTES, Names
from pipeline.audit.store import Sieve, Store
from pipeline.dead_letters import REASONS, Letter, concerns
from pipeline.topic_names import ACCEPTED, CAPTURED

__all__ = ["OTHER", "Books", "Counters"]

#: A reason that this version does not know.
OTHER = "other"
_REASONS = (*REASONS, OTHER)


class Counters:
    """Whether the counter of every contact is the number of its rows, in a few bytes for all of them together.

    Each row adds the name of its contact to one sum, each contact its name times its counter to another. The names are
    random numbers of 128 bits, so that sums of different counters are the same once in 2**128 at most.
    """

    def __init__(self) -> None:
        self.submissions = 0
        self._rows = self._contacts = 0

    def row(self, contact: int) -> None:
        """Count a row of this contact."""
        self._rows += contact

    def contact(self, contact: int, submissions: int) -> None:
        """Count what a contact says."""
        self.submissions += submissions
        self._contacts += contact * submissions

    @property
    def agree(self) -> bool:
        """Whether all counters are right."""
        return self._rows == self._contacts


@dataclass
class Books:
    """What was read, for one app.

    Attributes:
        names: how leads are called in here.
        group: the consumer group of the app.
        is_whole: every record that `lead-captured` ever had is in the books.
        reached: by partition, up to which offset of `lead-captured` leads are deduped: a record before it is in
            `lead-accepted`, in a dead letter, or repeats an earlier one.
        forgotten: by partition, before which offset of `lead-captured` a record may have a dead letter that retention
            has deleted.
    """

    names: Names = field(default_factory=Names)
    group: str = ""
    is_whole: bool = False
    reached: Mapping[int, int] = field(default_factory=dict)
    forgotten: Mapping[int, int] = field(default_factory=dict)
    #: Of `lead-captured`: partition, offset.
    captured: Store = field(default_factory=lambda: Store("HQ"))
    #: Keys of what was captured after the range was read.
    later: Store = field(default_factory=lambda: Store(name_size_bytes=KEY_SIZE_BYTES))
    #: Dead letters: whether of `lead-accepted`, the index of the reason, partition and offset of the origin.
    letters: Store = field(default_factory=lambda: Store("BBHQ"))
    #: What `lead-accepted` has at or behind the checkpoint of the CRM, and, where that was asked for, before it.
    ahead: Store = field(default_factory=Store)
    passed: Store = field(default_factory=Store)
    rows: Store = field(default_factory=Store)
    counters: Counters = field(default_factory=Counters)
    #: Where the range is not everything: which keys are in it.
    wanted: Sieve | None = None

    def capture(self, records: Iterable[Any]) -> None:
        """Enter records of `lead-captured` (`Record`s) in the range."""
        for one in records:
            name = self.names.record(one.key, one.value)
            self.captured.add(name, one.partition, one.offset)
            if self.wanted is not None:
                self.wanted.add(name)

    def capture_later(self, records: Iterable[Any]) -> None:
        """Enter records of `lead-captured` behind the range, which may explain rows."""
        for one in records:
            self.later.add(self.names.key(one.key))

    def accept(self, records: Iterable[Any], *, only: Sieve | None = None) -> None:
        """Enter records of `lead-accepted`: those ahead of the checkpoint, or of those before it `only` some."""
        for one in records:
            if only is None:
                self.ahead.add(self.names.record(one.key, one.value))
            elif self.names.key(one.key) in only:
                self.passed.add(self.names.record(one.key, one.value))

    def letter(self, letter: Letter, key: bytes | None, value: bytes | None) -> None:
        """Enter a dead letter, unless it says nothing of this app. `key` and `value` are those of the record."""
        if letter.topic in (CAPTURED, ACCEPTED) and concerns(letter, group=self.group, common_topic=CAPTURED):
            reason = _REASONS.index(letter.reason if letter.reason in REASONS else OTHER)
            place = letter.partition & 0xFFFF, letter.offset
            self.letters.add(self.names.record(key, value), letter.topic == ACCEPTED, reason, *place)

    def row(self, contact: str, row: Sequence[Any]) -> None:
        """Enter a row of the CRM, as `Names.row` takes it, and the address of its contact."""
        self.counters.row(self.names.contact(row[0], contact))
        if self.wanted is None or self.names.row_key(row) in self.wanted:
            self.rows.add(self.names.row(row))

    @property
    def size_bytes(self) -> int:
        """What the entries take."""
        return sum(one.size_bytes for one in (self.captured, self.later, self.letters, self.ahead, self.passed,
                                               self.rows))  # fmt: skip

    @staticmethod
    def reason(index: int) -> str:
        """The reason of a dead letter."""
        return _REASONS[index]
