"""A batch to a sink: retry, back off, split off what can never be written. The caller acknowledges what was delivered.

Dead letters go first, then rows: a process that dies in between repeats a dead letter, and never loses a lead.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from random import Random

from pipeline.sinks.base import AcceptedLead, RecordsRejected, Sink, SinkUnavailable

__all__ = ["SinkHealth", "deliver"]

#: The longest first pause. Each pause is drawn between zero and its longest, so that the lanes of many workers do
#: not come back to a recovering database in step.
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 5.0

_logger = logging.getLogger(__name__)
_random = Random()


class SinkHealth:
    """Whether the sink can be written, for the log and the status page. Shared by all lanes of a worker.

    Logs one line when the sink goes away and one when it is back; the retries in between are counted, not logged.
    """

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self.reachable = True
        #: Why it is not reachable; None while it is.
        self.reason: str | None = None
        #: Since when it is as it is.
        self.since = now()
        self.outages = 0
        self.attempts_failed = 0
        self.leads_written = 0
        #: Leads that were in the sink already: delivered again after a crash or a rebalance.
        self.leads_known = 0
        self.leads_rejected = 0

    def unavailable(self, reason: str) -> None:
        """An attempt to write found the sink unavailable."""
        self.attempts_failed += 1
        if self.reachable:
            self.outages += 1
            self._change(False, reason)
            _logger.warning("The sink is unavailable: %s. Nothing is lost; writing goes on when it is back.", reason)
        self.reason = reason

    def available(self) -> None:
        """The sink answered."""
        if not self.reachable:
            away_s = (self._now() - self.since).total_seconds()
            self._change(True, None)
            _logger.info("The sink is back after %.1f s.", away_s)

    def written(self, leads: int, new: int) -> None:
        """A write of `leads` leads succeeded; `new` of them were not there before."""
        self.available()
        self.leads_written += new
        self.leads_known += leads - new

    def rejected(self, leads: int) -> None:
        """The sink refused `leads` leads for good; so it is there."""
        self.available()
        self.leads_rejected += leads

    def _change(self, reachable: bool, reason: str | None) -> None:
        self.reachable, self.reason, self.since = reachable, reason, self._now()


async def deliver(
    sink: Sink,
    leads: Sequence[AcceptedLead],
    *,
    dead_letter: Callable[[AcceptedLead, str], Awaitable[None]],
    pause: Callable[[float], Awaitable[None]],
    health: SinkHealth,
    random: Random = _random,
) -> int:
    """Write leads, however long it takes, and return how many rows were new.

    Returns when every lead is durable in the sink or acknowledged as a dead letter, and only then may the batch be
    acknowledged. `dead_letter(lead, reason)` returns when the broker has it. `pause(delay_s)` waits, and raises when
    the partition is being let go; what it raises comes through, as does any error of the sink that is no `SinkError`.
    """
    remaining = list(leads)
    longest_s = PAUSE_FIRST_S
    while remaining:
        try:
            new = await sink.write(remaining)
        except SinkUnavailable as error:
            health.unavailable(str(error))
            await pause(max(error.retry_after_s or 0.0, 0.0) + random.uniform(0.0, longest_s))
            longest_s = min(2 * longest_s, PAUSE_MAX_S)
        except RecordsRejected as error:
            remaining = await _split(remaining, error, dead_letter)
            health.rejected(len(error.reasons))
            longest_s = PAUSE_FIRST_S
        else:
            health.written(len(remaining), new)
            return new
    return 0


async def _split(
    leads: list[AcceptedLead], rejection: RecordsRejected, dead_letter: Callable[[AcceptedLead, str], Awaitable[None]]
) -> list[AcceptedLead]:
    """Dead-letter what was rejected, in order, and return the rest."""
    reasons = rejection.reasons
    if not reasons or not reasons.keys() <= set(range(len(leads))):
        raise rejection  # a bug in the sink: going on would never end, or drop the wrong lead
    for index in sorted(reasons):
        await dead_letter(leads[index], reasons[index])
    return [lead for index, lead in enumerate(leads) if index not in reasons]
