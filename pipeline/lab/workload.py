"""The leads of a run: pure, the same for the same seed, and a longer run begins with the leads of a shorter one.

Nothing is kept in memory: a lead is a function of the seed and its number, so that a repeat is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

from pipeline.lead import Lead, encode, key

__all__ = ["Workload"]

#: Share of records that repeat an earlier lead, byte by byte, as the retry of a webhook does.
REPEATS = 0.1

_DRAWS = Struct("<6I")
_DRAW_MAX = 2**32

#: Between one new lead and the next: 200 in a second.
LEAD_EVERY_MS = 5

_EPOCH = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
_EPOCH_MS = int(_EPOCH.timestamp() * 1000)
_FIRST = ("Anna", "Ben", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Katrin", "Liam")
_LAST = (
    "Albrecht",
    "Brandt",
    "Castellano",
    "Dubois",
    "Eriksson",
    "Fontaine",
    "Gruber",
    "Haverkamp",
    "Ivanova",
    "Jansen",
)
_COMPANY = ("Northwind Logistics", "Hafen Digital", "Alpenblick Solar", "Meridian Robotics", "Kestrel Analytics")
_CAMPAIGN = ("spring-2026-webinar", "pricing-page-retarget", "partner-newsletter", "trade-fair-hannover")
_SOURCE = ("website-form", "webhook", "landing-page", "chat-widget")
_JOB = ("Head of Operations", "Purchasing Manager", "Managing Director", "Plant Engineer")
_NOTE = (
    "Please call back this week, mornings.",
    "Needs an offer for three of their sites.",
    "Compares us with two other vendors.",
)


@dataclass(frozen=True)
class Workload:
    """`count` records of which about a tenth repeat an earlier lead.

    Attributes:
        seed: another seed, other leads.
        count: records, repeats among them.
        random_ids: message ids are random, as of senders who make their own; else ordered by time.
        first: the number of the first lead; the leads before it are none of these.
    """

    seed: int
    count: int
    random_ids: bool = False
    first: int = 0

    def numbers(self) -> Iterator[int]:
        """The number of the lead in each record: the next new one, or an earlier one again."""
        unique = 0
        for position in range(self.count):
            chance, choice, *_ = _draws(self.seed, b"position", position)
            if unique and chance < REPEATS * _DRAW_MAX:
                yield self.first + choice % unique
            else:
                yield self.first + unique
                unique += 1

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each record, as the capture endpoint would append them."""
        for number in self.numbers():
            lead = self.lead(number)
            yield key(lead), encode(lead)

    def unique_records(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each lead, once."""
        for number in range(self.first, self.first + self.unique):
            lead = self.lead(number)
            yield key(lead), encode(lead)

    def keys(self) -> Iterator[bytes]:
        """The keys of all leads, each once."""
        return (self.key(number) for number in range(self.first, self.first + self.unique))

    def key(self, number: int) -> bytes:
        """The key of the lead with this number."""
        return f"default/{self.message_id(number)}".encode()

    @property
    def unique(self) -> int:
        """How many different leads there are."""
        return _unique(self.seed, self.count)

    def flaws(self, keys: Sequence[bytes | None]) -> str:
        """What is wrong with `keys` as an output, in which each lead is to be once; empty when nothing is."""
        wanted, found = set(self.keys()), set(keys)
        counts = {"lost": len(wanted - found), "repeated": len(keys) - len(found), "unknown": len(found - wanted)}
        return ", ".join(f"{count:,} leads {what}" for what, count in counts.items() if count)

    def message_id(self, number: int) -> str:
        """The message id of the lead with this number: a UUIDv7 as the product itself would give it, or a UUIDv4.

        It matters: random keys touch another page of every index with each row, ordered ones the same page again.
        """
        hashing = _keyed(self.seed, 16).copy()
        hashing.update(b"id %d" % number)
        digest = hashing.hexdigest()
        if self.random_ids:
            return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"
        time_ms = f"{_EPOCH_MS + LEAD_EVERY_MS * number:012x}"
        return f"{time_ms[:8]}-{time_ms[8:]}-7{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"

    def number(self, message_id: str) -> int | None:
        """The number of the lead with this message id; None when no lead has it. Only of ids that are in order."""
        try:
            number, rest = divmod(int(message_id[:8] + message_id[9:13], 16) - _EPOCH_MS, LEAD_EVERY_MS)
        except ValueError:
            return None
        return number if number >= 0 and not rest and self.message_id(number) == message_id else None

    def lead(self, number: int) -> Lead:
        """The lead with this number."""
        first, last, firm, campaign, detail, phone = _draws(self.seed, b"lead", number)
        name, family = _FIRST[first % len(_FIRST)], _LAST[last % len(_LAST)]
        company = _COMPANY[firm % len(_COMPANY)]
        domain = company.lower().replace(" ", "-")
        return Lead(
            message_id=self.message_id(number),
            email=f"{name}.{family}.{number}@{domain}.example".lower(),
            phone=f"+49 30 {phone % 10_000_000:07d}",
            name=f"{name} {family}",
            company=company,
            source=_SOURCE[detail % len(_SOURCE)],
            campaign=_CAMPAIGN[campaign % len(_CAMPAIGN)],
            captured_at=_EPOCH + timedelta(milliseconds=LEAD_EVERY_MS * number),
            fields={
                "job_title": _JOB[last % len(_JOB)],
                "employees": 5 + firm % 50_000,
                "message": _NOTE[first % len(_NOTE)],
            },
        )


def _draws(seed: int, what: bytes, index: int) -> tuple[int, ...]:
    """Six numbers below 2**32. A hash, because seeding a generator for each lead would take longer than the lead."""
    hashing = _keyed(seed, _DRAWS.size).copy()
    hashing.update(b"%b %d" % (what, index))
    return _DRAWS.unpack(hashing.digest())


@lru_cache(maxsize=16)
def _keyed(seed: int, size: int) -> blake2b:
    """The hash before its first byte: to copy it takes half as long as to make it."""
    return blake2b(digest_size=size, key=b"%d" % seed)


@lru_cache(maxsize=16)
def _unique(seed: int, count: int) -> int:
    return max(Workload(seed, count).numbers(), default=-1) + 1
