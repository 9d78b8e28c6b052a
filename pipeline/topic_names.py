"""What the topics are called. Apart from `topics`, so that who only reads them need not import Faust."""

from __future__ import annotations

__all__ = ["ACCEPTED", "CAPTURED", "DEAD_LETTER", "READ_BY"]

CAPTURED = "lead-captured"
ACCEPTED = "lead-accepted"
DEAD_LETTER = "lead-dead-letter"

#: The topic that each agent reads.
READ_BY = {"dedupe": CAPTURED, "crm_sink": ACCEPTED, "dead_letters": DEAD_LETTER}
