"""The sum of all verdicts: counts, some of the anomalies, and where what is missing can be found (pure)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.audit.judgement import ANOMALIES, Judged, Place, Verdict
from pipeline.audit.store import Sieve

__all__ = ["Outcome", "WrongCounter", "tally"]


@dataclass(frozen=True)
class WrongCounter:
    """A contact whose counter is not the number of its rows.

    Attributes:
        tenant: its tenant.
        message_id: of one of its leads; None when it has none. Its address is nobody's business here.
        submissions: what it says.
        rows: how many it has.
    """

    tenant: str
    message_id: str | None
    submissions: int
    rows: int


@dataclass
class Outcome:
    """What was found.

    Attributes:
        counts: records, and rows that are anomalies, by verdict.
        reasons: of what is dead-lettered.
        listed: the first anomalies of each kind.
        mendable: offsets of records that mend something when they are sent again, by partition, in no order.
        gone: the keys of what is lost; None when nothing is.
        counters: contacts whose counter is wrong, of which the first are in `listed_counters`.
    """

    counts: Counter[Verdict] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    listed: list[Judged] = field(default_factory=list)
    mendable: dict[int, array[int]] = field(default_factory=dict)
    gone: Sieve | None = None
    counters: int = 0
    listed_counters: list[WrongCounter] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records were judged."""
        return self.counts.total() - self.counts[Verdict.PHANTOM] - self.counts[Verdict.DOUBLED]

    @property
    def anomalies(self) -> int:
        """How many there are: records, rows and counters."""
        return sum(self.counts[one] for one in ANOMALIES) + self.counters

    @property
    def mendable_count(self) -> int:
        """How many records are to be sent again."""
        return sum(map(len, self.mendable.values()))

    def wrong(self, one: WrongCounter, *, limit: int) -> None:
        """Count a counter that is wrong."""
        self.counters += 1
        if len(self.listed_counters) < limit:
            self.listed_counters.append(one)

    def add(self, verdicts: Iterable[Judged], *, limit: int) -> None:
        """Count verdicts. Of each kind of anomaly at most `limit` are kept to be listed."""
        counts = self.counts
        for one in verdicts:
            counts[one.verdict] += 1
            if one.verdict is Verdict.DEAD_LETTERED:
                self.reasons[str(one.of)] += 1
            elif one.verdict in ANOMALIES:
                self._note(one, limit)

    def _note(self, one: Judged, limit: int) -> None:
        if self.counts[one.verdict] <= limit:
            self.listed.append(one)
        if one.verdict is Verdict.LOST and isinstance(one.of, bytes):
            self.gone = self.gone or Sieve()
            self.gone.add(one.of)
        if one.is_mendable and one.place is not None:
            partition, offset = one.place
            self.mendable.setdefault(partition, array("Q")).append(offset)

    def places(self) -> list[Place]:
        """Those of the listed records."""
        return [one.place for one in self.listed if one.place is not None]


def tally(verdicts: Iterable[Judged], *, limit: int) -> Outcome:
    """The sum of `verdicts`."""
    outcome = Outcome()
    outcome.add(verdicts, limit=limit)
    return outcome
