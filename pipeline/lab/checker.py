"""The checker of a chaos run, after Jepsen: what was answered, and what the database has, into a verdict. Pure.

    lost                 answered 202, and neither in the CRM nor a dead letter
    doubled              more than one row for a message id
    phantom              in the CRM, and never sent; or only sent where nobody can have got it
    altered              a row says something else than the lead did
    checkpoint ahead     a record of lead-accepted before the checkpoint is neither a row nor a dead letter
    counter wrong        a contact counts other than its rows; a lead was received more often than it was captured
    misdirected          a dead letter that the CRM would have taken, or a row of a lead that it refuses
    status wrong         a worker says of a lead what is not so
    stuck                it did not come to rest after everything was healed

A lead is a function of the seed and its number, so four bytes are kept for each: what is known of it, not what it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pipeline.lab.chaos_leads import PER_CONTACT, ChaosLeads
from pipeline.lab.history import Event, Outcome
from pipeline.lab.verdict import Kind, Verdict
from pipeline.lead import Lead
from pipeline.sinks.contact import address

__all__ = ["Checker", "Record", "Row", "ahead"]

_BYTE_MAX = 255

#: What is counted; `spooled` are those of `ok` whose receipt is one of the spool.
COUNTS = (
    "leads", "sent", "ok", "fail", "info", "repeats", "captured", "accepted", "rows", "dead letters", "spooled",
)  # fmt: skip

# What is known of a lead.
_OK = 1
_LETTER = 2
_ACCEPTED = 4
_SENT = 8


class Row(NamedTuple):
    """A row of `lead`."""

    tenant: str
    message_id: str
    contact: str
    email: str | None
    phone: str | None
    name: str | None
    company: str | None
    source: str | None
    campaign: str | None
    captured_at: datetime | None
    #: A JSON object.
    fields: str


class Record(NamedTuple):
    """A record of a topic."""

    partition: int
    offset: int
    key: bytes | None


class Checker:
    """Takes what was observed, in this order: history, lead-captured, dead letters, rows, contacts, lead-accepted, and
    what workers say.

    Arguments:
        leads: that were sent.
        checkpoints: the next offset to read of each partition of lead-accepted, read before all the rest.
    """

    def __init__(self, leads: ChaosLeads, checkpoints: Mapping[int, int]) -> None:
        self._leads = leads
        self._checkpoints = checkpoints
        self._known = bytearray()
        #: Sendings that may have happened.
        self._possible = bytearray()
        self._captured = bytearray()
        self._rows = bytearray()
        #: Of no lead of ours, which must be few.
        self._strangers: set[bytes] = set()
        self._ahead: set[tuple[int, int]] = set()
        self._verdict = Verdict(dict.fromkeys(COUNTS, 0))

    def event(self, event: Event) -> None:
        """One event of the history."""
        number, counts = event.number, self._verdict.counts
        self._grow(number)
        counts[event.outcome.name.lower()] += 1
        if event.outcome is Outcome.SENT:
            # What was answered 202 already: the others are retries.
            counts["repeats"] += bool(self._known[number] & _OK)
            self._known[number] |= _SENT
            _count(self._possible, number)
        elif event.outcome is Outcome.FAIL:
            # Once too many to be counted, it stays possible.
            if 0 < self._possible[number] < _BYTE_MAX:
                self._possible[number] -= 1
        elif event.outcome is Outcome.OK:
            self._known[number] |= _OK
            counts["spooled"] += event.offset < 0

    def captured(self, record: Record) -> None:
        """One record of `lead-captured`."""
        self._verdict.counts["captured"] += 1
        number = self._number(record.key)
        if number is not None:
            _count(self._captured, number)

    def letter(self, key: bytes | None, reason: str) -> None:
        """One record of `lead-dead-letter`: after a crash a letter may be there twice, which is no violation."""
        number = self._number(key)
        if number is None:
            self._stranger("a dead letter", key)
            return
        if not self._known[number] & _LETTER:
            self._verdict.counts["dead letters"] += 1
            if not self._leads.is_refused(number):
                self._verdict.add(Kind.MISDIRECTED, f"{self._shown(number)} is a dead letter: {reason}")
        self._known[number] |= _LETTER

    def row(self, row: Row) -> None:
        """One row of `lead`."""
        self._verdict.counts["rows"] += 1
        key = f"{row.tenant}/{row.message_id}".encode()
        number = self._number(key)
        if number is None:
            self._stranger("a row", key)
            return
        _count(self._rows, number)
        if self._rows[number] > 1:
            self._verdict.add(Kind.DOUBLED, f"{self._shown(number)} has one more row")
        if self._leads.is_refused(number):
            self._verdict.add(Kind.MISDIRECTED, f"{self._shown(number)} is a row, and the CRM refuses it")
        if names := differences(row, self._leads.lead(number)):
            self._verdict.add(Kind.ALTERED, f"{self._shown(number)} differs in {', '.join(names)}")

    def contact(self, tenant: str, of: str, submissions: int) -> None:
        """One row of `contact`, after all rows of `lead`."""
        contact = self._leads.contact_of(of)
        if contact is None or tenant != "default":
            self._verdict.add(Kind.PHANTOM, f"the contact {tenant}/{of} is of no lead that was sent")
            return
        rows = sum(self._rows[contact * PER_CONTACT : (contact + 1) * PER_CONTACT])
        if submissions != rows:
            self._verdict.add(Kind.COUNTER, f"contact {contact} counts {submissions} leads, and has {rows}")

    def accepted(self, record: Record) -> None:
        """One record of `lead-accepted`, after all rows and dead letters."""
        self._verdict.counts["accepted"] += 1
        number = self._number(record.key)
        if number is not None:
            self._known[number] |= _ACCEPTED
        for one in ahead(self._checkpoints, [record], is_there=self._is_there):
            self.ahead(one)

    def ahead(self, record: Record) -> None:
        """A record that the checkpoint has passed and that is nowhere, found here or during the run."""
        if (record.partition, record.offset) in self._ahead:
            return
        self._ahead.add((record.partition, record.offset))
        where = f"record {record.partition}/{record.offset} of lead-accepted ({(record.key or b'').decode()})"
        self._verdict.add(Kind.AHEAD, f"{where} is before the checkpoint, and neither a row nor a dead letter")

    def answer(self, number: int, state: str, times_received: int | None) -> None:
        """What a worker says of a lead, at the end."""
        wanted = "dead-lettered" if self._known[number] & _LETTER else "written" if self._rows[number] else "missing"
        if state != wanted:
            self._verdict.add(Kind.STATUS, f"{self._shown(number)} is {wanted}, and is said to be {state}")
        captured = self._captured[number]
        if wanted != "missing" and not 1 <= (times_received or 0) <= captured and captured < _BYTE_MAX:
            text = f"{self._shown(number)} was captured {captured} times, and is said to be received {times_received}"
            self._verdict.add(Kind.COUNTER, text)

    def stuck(self, what: str) -> None:
        """Something that did not come to rest."""
        self._verdict.add(Kind.STUCK, what)

    def some_answered(self, count: int) -> list[int]:
        """`count` numbers of leads that were answered 202, spread over all, to ask for."""
        answered = [number for number, known in enumerate(self._known) if known & _OK]
        return answered[:: max(1, len(answered) // count)][:count] if answered else []

    def verdict(self) -> Verdict:
        """What is wrong, after everything was observed."""
        for number, known in enumerate(self._known):
            if known & _OK and not self._is_anywhere(number):
                self._verdict.add(Kind.LOST, f"{self._shown(number)} was answered 202{self._trace(number)}")
            if not self._possible[number] and not known & _OK and self._is_anywhere(number):
                why = "was only sent where nobody listened" if known & _SENT else "was never sent"
                self._verdict.add(Kind.PHANTOM, f"{self._shown(number)} {why}")
        self._verdict.counts["leads"] = sum(known & _SENT > 0 for known in self._known)
        return self._verdict

    def _is_anywhere(self, number: int) -> bool:
        return self._rows[number] > 0 or self._known[number] & _LETTER > 0

    def _is_there(self, key: bytes | None) -> bool:
        number = self._number(key)
        return key in self._strangers if number is None else self._is_anywhere(number)

    def _trace(self, number: int) -> str:
        """How far a lost lead came."""
        captured = self._captured[number]
        if not captured:
            return ", and is not in lead-captured"
        came = "in lead-accepted" if self._known[number] & _ACCEPTED else "not in lead-accepted"
        return f", is in lead-captured (records: {captured}) and {came}"

    def _number(self, key: bytes | None) -> int | None:
        number = self._leads.number_of(key)
        if number is not None:
            self._grow(number)
        return number

    def _stranger(self, what: str, key: bytes | None) -> None:
        self._strangers.add(key or b"")
        self._verdict.add(
            Kind.PHANTOM, f"{what} of {(key or b'').decode(errors='replace')}, which is no lead of this run"
        )

    def _grow(self, number: int) -> None:
        missing = number + 1 - len(self._known)
        if missing > 0:
            for array in (self._known, self._possible, self._captured, self._rows):
                array.extend(bytes(max(missing, len(array) // 8)))

    def _shown(self, number: int) -> str:
        return f"lead {number} ({self._leads.lead(number).message_id})"


def ahead(
    checkpoints: Mapping[int, int], accepted: Iterable[Record], *, is_there: Callable[[bytes | None], bool]
) -> list[Record]:
    """Records of `lead-accepted` that a checkpoint has passed, and that are neither a row nor a dead letter.

    Args:
        checkpoints: the next offset to read, by partition.
        accepted: some records.
        is_there: whether there is a row or a dead letter of this key. Asked after the checkpoints were read.
    """
    return [one for one in accepted if one.offset < checkpoints.get(one.partition, 0) and not is_there(one.key)]


def differences(row: Row, lead: Lead) -> list[str]:
    """The columns of a row that do not say what the lead says, after what the product makes of it."""
    wanted = Row(
        lead.tenant, lead.message_id, address(lead), lead.email, lead.phone, lead.name, lead.company, lead.source,
        lead.campaign, lead.captured_at, "",
    )  # fmt: skip
    names = [name for name in Row._fields if name != "fields" and getattr(row, name) != getattr(wanted, name)]
    return names if _is_same(row.fields, lead.fields) else [*names, "fields"]


def _is_same(text: str, fields: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(text) == fields)
    except ValueError:
        return False


def _count(array: bytearray, number: int) -> None:
    array[number] = min(array[number] + 1, _BYTE_MAX)
