"""The leads of a chaos run: pure, a function of seed and number.

They are harder than those of a benchmark: four leads share a contact, written in two ways, so that workers count the
same contact at once; some members are missing, some are nested or not ASCII; and a few are refused by the CRM of the
lab, so that dead letters are written too.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from pipeline.lab.workload import Workload
from pipeline.lead import Lead

__all__ = ["PER_CONTACT", "REFUSED", "ChaosLeads"]

#: Leads in a row of one contact.
PER_CONTACT = 4
#: The campaign of a lead that the CRM of the lab refuses, and how many leads there are for each such one.
REFUSED = "refused-by-the-crm"
REFUSED_EVERY = 211

_KEY = re.compile(r"default/(.*)")
_ADDRESS = re.compile(r"contact-(\d+)@lab\.example")


class ChaosLeads:
    """The leads of this seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._leads = Workload(seed, 0)

    def lead(self, number: int) -> Lead:
        """The lead with this number."""
        lead = self._leads.lead(number)
        name = "Contact" if number % 2 else "contact"
        more = {"number": number, "tags": ["a", {"b": [1.5, None, "é"]}]}
        return replace(
            lead,
            email=f"{name}-{number // PER_CONTACT}@lab.example",
            phone=None if number % 3 == 0 else lead.phone,
            name=f"{lead.name} Łukasiewicz-Ångström 🙂" if number % 5 == 0 else lead.name,
            company=None if number % 7 == 0 else lead.company,
            campaign=REFUSED if self.is_refused(number) else lead.campaign,
            fields={} if number % 11 == 0 else {**lead.fields, **more},
        )

    def is_refused(self, number: int) -> bool:
        """Whether the CRM of the lab refuses it."""
        return number % REFUSED_EVERY == REFUSED_EVERY - 1

    def number(self, message_id: str) -> int | None:
        """The number of the lead with this message id, None when it is nobody's."""
        return self._leads.number(message_id)

    def number_of(self, key: bytes | None) -> int | None:
        """The number of the lead with this record key, None when it is nobody's."""
        found = _KEY.fullmatch((key or b"").decode(errors="replace"))
        return None if found is None else self.number(found[1])

    def contact_of(self, address: str) -> int | None:
        """The number of the contact with this address, None when it is nobody's."""
        found = _ADDRESS.fullmatch(address)
        return None if found is None else int(found[1])
