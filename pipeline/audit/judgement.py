"""What became of every record in the books: exactly one verdict each (pure).

Records with the same key and content are one lead that came several times. Its first record stands for it; a record
that has a dead letter of its own is judged by that.

* A record with a dead letter of its own (by `dedupe`: partition and offset are its own) is dead-lettered.
* The first of the others is written when the CRM has a row with its key and content.
* A record that `dedupe` has not passed is pending.
* A record that is not the first one is a duplicate of it, whether `seen` dropped it or, beyond the dedupe window, the
  key of the CRM did. What became of the lead is told at the first one.
* A lead with a dead letter of the CRM is dead-lettered, one that is in `lead-accepted` where the CRM has not been,
  pending.
* Every other record is an anomaly; unless a dead letter of it may have been deleted by retention, for nobody can say
  then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pipeline.audit.books import Books
from pipeline.audit.names import KEY_SIZE_BYTES
from pipeline.audit.store import PARTS

__all__ = ["ANOMALIES", "Judged", "Place", "Verdict", "judge"]

#: Partition and offset in `lead-captured`.
Place = tuple[int, int]


class Verdict(StrEnum):
    """What became of a record, or of a row that no record explains."""

    WRITTEN = "written"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "dead-lettered"
    PENDING = "pending"
    #: Not in the CRM, and the dead letters of its time are deleted.
    FORGOTTEN = "forgotten"
    #: It never got to `lead-accepted`, as far as that goes back.
    LOST = "lost"
    #: It was in `lead-accepted` before the checkpoint of the CRM.
    MISSING = "missing"
    #: The row with its key has other content.
    DIFFERS = "differs"
    #: A row with a key that no record has.
    PHANTOM = "phantom"
    #: More rows than one with a key.
    DOUBLED = "doubled"


ANOMALIES = (Verdict.LOST, Verdict.MISSING, Verdict.DIFFERS, Verdict.PHANTOM, Verdict.DOUBLED)


class Judged(NamedTuple):
    """A verdict.

    Attributes:
        verdict: it.
        place: of the record; None for a row.
        of: of a duplicate the place of the first one, of a dead-lettered record the reason, of what is lost or missing
            its name, of a row the name of its key.
        is_mendable: whether it is in the CRM once it is sent there again.
    """

    verdict: Verdict
    place: Place | None
    of: Place | str | bytes | None = None
    is_mendable: bool = False


def judge(books: Books, parts: Sequence[int] = range(PARTS)) -> Iterator[Judged]:
    """The verdict on every record, and on every row that is an anomaly, in no order.

    Args:
        books: what was read.
        parts: numbers of the parts of the books that are judged.
    """
    for number in parts:
        if not (books.captured.has(number) or books.rows.has(number)):
            continue
        groups: dict[bytes, list[Place]] = {}
        for name, *place in books.captured.part(number):
            groups.setdefault(name, []).append((place[0], place[1]))
        yield from _Part(books, number).judge(groups)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a part: key -> name; and the keys that have more than one."""

    by_key: Mapping[bytes, bytes]
    doubled: set[bytes]

    @classmethod
    def of(cls, books: Books, number: int) -> _Rows:
        by_key: dict[bytes, bytes] = {}
        doubled = set()
        for (name,) in books.rows.part(number):
            if by_key.setdefault(name[:KEY_SIZE_BYTES], name) is not name:
                doubled.add(name[:KEY_SIZE_BYTES])
        return cls(by_key, doubled)


class _Part:
    """What is known of the leads of a part."""

    def __init__(self, books: Books, number: int) -> None:
        self._books = books
        self._rows = _Rows.of(books, number)
        self._ahead = {name for (name,) in books.ahead.part(number)}
        self._passed = {name for (name,) in books.passed.part(number)}
        self._later = {key for (key,) in books.later.part(number)} if books.is_whole else set()
        #: Reasons of dead letters: by `dedupe`, of one record, and by the CRM, of a lead.
        self._own: dict[tuple[bytes, Place], str] = {}
        self._refused: dict[bytes, str] = {}
        for name, is_accepted, reason, partition, offset in books.letters.part(number):
            if is_accepted:
                self._refused[name] = books.reason(reason)
            else:
                self._own[name, (partition, offset)] = books.reason(reason)

    def judge(self, groups: Mapping[bytes, list[Place]]) -> Iterator[Judged]:
        gone: dict[bytes, Judged] = {}
        rows = self._rows.by_key
        for name, places in groups.items():
            if len(places) == 1 and rows.get(name[:KEY_SIZE_BYTES]) == name:
                yield Judged(Verdict.WRITTEN, places[0])  # almost all of them, so without further ado
                continue
            for one in self._lead(name, places):
                if one.verdict in (Verdict.LOST, Verdict.MISSING):
                    gone[name] = one
                else:
                    yield one
        if gone:
            yield from self._with_remedies(gone, groups)
        yield from self._of_rows(groups)

    def _lead(self, name: bytes, places: list[Place]) -> Iterator[Judged]:
        """The verdicts on all records of a lead."""
        reasons = {place: self._own[name, place] for place in places if (name, place) in self._own} if self._own else {}
        if len(places) > 1:
            places.sort()
        first = next((place for place in places if place not in reasons), places[0]) if reasons else places[0]
        is_written = self._rows.by_key.get(name[:KEY_SIZE_BYTES]) == name
        for place in places:
            if is_written and place is first:
                yield Judged(Verdict.WRITTEN, place)
            elif place in reasons:
                yield Judged(Verdict.DEAD_LETTERED, place, reasons[place])
            elif self._is_ahead(place):
                yield Judged(Verdict.PENDING, place)
            elif place is not first:
                yield Judged(Verdict.DUPLICATE, place, first)
            else:
                yield self._unwritten(name, place)

    def _is_ahead(self, place: Place) -> bool:
        return place[1] >= self._books.reached.get(place[0], 0)

    def _unwritten(self, name: bytes, place: Place) -> Judged:
        """The verdict on the first record of a lead that `dedupe` has passed and the CRM has not."""
        if name in self._refused:
            return Judged(Verdict.DEAD_LETTERED, place, self._refused[name])
        if name in self._ahead:
            return Judged(Verdict.PENDING, place)
        if place[1] < self._books.forgotten.get(place[0], 0):
            return Judged(Verdict.FORGOTTEN, place)
        if name[:KEY_SIZE_BYTES] in self._rows.by_key:
            return Judged(Verdict.DIFFERS, place)
        return Judged(Verdict.MISSING if name in self._passed else Verdict.LOST, place, name)

    def _with_remedies(self, gone: Mapping[bytes, Judged], groups: Mapping[bytes, list[Place]]) -> Iterator[Judged]:
        """The same, and which of them may be sent again: of one key one lead, for the CRM would drop a second one in
        silence; and none while another one with this key is on its way.
        """
        chosen: dict[bytes, bytes] = {}
        for name in sorted(gone, key=lambda name: gone[name].place or (0, 0)):
            chosen.setdefault(name[:KEY_SIZE_BYTES], name)
        busy = {name[:KEY_SIZE_BYTES] for name in self._ahead}
        for name, places in groups.items():
            if name[:KEY_SIZE_BYTES] in chosen and any(map(self._is_ahead, places)) and name not in gone:
                busy.add(name[:KEY_SIZE_BYTES])
        for name, one in gone.items():
            key = name[:KEY_SIZE_BYTES]
            yield one._replace(is_mendable=chosen[key] == name and key not in busy)

    def _of_rows(self, groups: Mapping[bytes, list[Place]]) -> Iterator[Judged]:
        for key in self._rows.doubled:
            yield Judged(Verdict.DOUBLED, None, key)
        if self._books.is_whole:
            known = {name[:KEY_SIZE_BYTES] for name in groups}
            for key in self._rows.by_key.keys() - known - self._later:
                yield Judged(Verdict.PHANTOM, None, key)
