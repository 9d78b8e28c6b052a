"""From the records of `lead-accepted` to leads for the sink. Pure: nothing is written before all of it is done.

So a record that makes this code raise is found before the checkpoint can pass it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.batches import BugCount
from pipeline.dead_letters import BUG, INVALID, Rejection, traceback_text
from pipeline.lead import InvalidLead, decode
from pipeline.sinks import AcceptedLead
from pipeline.sinks.contact import address

__all__ = ["accept"]


def accept(records: Sequence[Any], bugs: BugCount) -> tuple[list[AcceptedLead], list[Rejection]]:
    """The leads of `records` (`Record`s), and the records that are none, or make the code raise.

    Raises:
        Fatal: the code raises for every record.
    """
    leads, rejected, raised = [], [], []
    for record in records:
        try:
            leads.append(_accepted(record))
        except InvalidLead as error:
            rejected.append(Rejection(record, INVALID, str(error)))
        except Exception as error:  # acted on: a dead letter, or the end of the worker
            rejected.append(Rejection(record, BUG, traceback_text(error)))
            raised.append(error)
    if records:
        bugs.note(len(raised), len(records), raised[0] if raised else None)
    return leads, rejected


def _accepted(record: Any) -> AcceptedLead:
    lead = decode(record.value)
    return AcceptedLead(lead, record.partition, record.offset, record.timestamp, address(lead))
