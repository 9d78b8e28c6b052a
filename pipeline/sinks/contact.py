"""Whose lead it is: the address of its contact, and what a batch says of each contact. Pure.

A contact is one row per tenant and address: the normalised email, else the normalised phone number. Leads of one person
are so found together, however the person writes the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import phonenumbers
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from pipeline.lead import Lead
from pipeline.sinks.base import AcceptedLead

__all__ = ["Contact", "address", "merged", "submissions"]

#: Addresses that `email-validator` would only put into lower case. It takes 20 times as long for it.
_PLAIN_EMAIL = re.compile(
    # Without two hyphens in a row, which may mean another alphabet.
    r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}",
    re.IGNORECASE | re.ASCII,
)
_PLAIN_MAX_CHARS = 64
#: Domains that nobody can be reached at, which `email-validator` refuses; `test` it lets pass as it is called below.
_NO_DOMAINS = tuple(f".{name}" for name in SPECIAL_USE_DOMAIN_NAMES if name != "test")


@dataclass(frozen=True, slots=True)
class Contact:
    """One person, as far as an address tells: what some leads of one tenant say of it."""

    tenant: str
    address: str
    #: The broker's times of the first and the last lead, milliseconds since the epoch.
    first_seen_ms: int
    last_seen_ms: int
    #: How many leads.
    submissions: int
    #: As the last lead that has one says.
    name: str | None
    company: str | None


def address(lead: Lead) -> str:
    """The address of the contact: of the email in lower case, else of the phone number as E.164.

    What is no such thing stays as it is but for case and white space: two leads with the same text are still one
    contact. A phone number without a country code stays national, because nobody says of which country it is.
    """
    if lead.email is not None and (found := _email(lead.email)) is not None:
        return found
    if lead.phone is not None and (found := _phone(lead.phone)) is not None:
        return found
    given = (lead.email or "").strip() or lead.phone or ""
    return " ".join(given.lower().split())


def submissions(leads: Iterable[AcceptedLead]) -> list[Contact]:
    """What new leads say of their contacts; in the order of tenants and addresses.

    Who came last says the name: by the broker's time, of the same time by the order of the log. That time may go back.

    Each contact once: one statement cannot change a row twice. In one order everywhere: two workers that lock rows in
    different orders would wait for each other.
    """
    found: dict[tuple[str, str], Contact] = {}
    for accepted in sorted(leads, key=lambda accepted: accepted.time_ms):
        lead, time_ms = accepted.lead, accepted.time_ms
        this = Contact(lead.tenant, accepted.contact, time_ms, time_ms, 1, lead.name, lead.company)
        known = found.get((lead.tenant, accepted.contact))
        found[lead.tenant, accepted.contact] = this if known is None else merged(known, this)
    return [found[name] for name in sorted(found)]


def merged(known: Contact, new: Contact) -> Contact:
    """`known` after `new`. Who was seen last says the name and the company, if it says one."""
    first, last = (known, new) if new.last_seen_ms >= known.last_seen_ms else (new, known)
    return replace(
        known,
        first_seen_ms=min(known.first_seen_ms, new.first_seen_ms),
        last_seen_ms=last.last_seen_ms,
        submissions=known.submissions + new.submissions,
        name=first.name if last.name is None else last.name,
        company=first.company if last.company is None else last.company,
    )


def _email(text: str) -> str | None:
    text = text.strip()
    if len(text) <= _PLAIN_MAX_CHARS and _PLAIN_EMAIL.fullmatch(text):
        plain = text.lower()
        return None if plain.endswith(_NO_DOMAINS) else plain
    try:
        # Whether its domain exists is not asked: it may not today, and the lead is kept all the same.
        found = validate_email(text, check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        return None
    return found.normalized.lower()


def _phone(text: str) -> str | None:
    try:
        number = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
