"""Whether the sink can be written, shared by all lanes of a worker: a circuit that opens after repeated failures.

While it is open one lane at a time tries, and the others wait, so that a database that comes back is not run over.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from pipeline.sinks.base import Fenced, RecordsRejected, SinkUnavailable

__all__ = ["ATTEMPTS_SAID", "FAILURES_MAX", "PAUSE_FIRST_S", "PAUSE_MAX_S", "SinkHealth", "patiently"]

#: Failures in a row, of any lanes, that open the circuit, and the least time between the first and the last of them.
#: Less is the contention of an ordinary day: several lanes that find SQLite locked in the same moment.
FAILURES_MAX = 3
FAILING_MIN_S = 1.0
#: Failures in a row of one call, while the circuit is closed because others succeed, after which the log says it.
ATTEMPTS_SAID = 10
#: The longest first pause. Each pause is drawn between zero and its longest, so that the lanes of many workers do
#: not come back to a recovering database in step.
PAUSE_FIRST_S = 0.05
PAUSE_MAX_S = 5.0
#: How often a lane looks whether it is its turn, or the circuit is closed.
TURN_S = 0.2

_ALONE = "A batch could not be written in %s attempts, while others can: %s. It is tried on; does somebody hold a lock?"

_logger = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
#: Waits so many seconds; raises when the partition is being let go.
Pause = Callable[[float], Awaitable[None]]


class SinkHealth:
    """The circuit, and what the status page and the log say of it: one line when it opens, one when it is closed."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        #: False while the circuit is open.
        self.reachable = True
        #: Whether it has ever answered: before, its tables may not be there yet.
        self.was_reached = False
        #: What the last failure was; None after a success.
        self.reason: str | None = None
        #: Since when it is as it is.
        self.since = now()
        self.outages = 0
        self.attempts_failed = 0
        self.leads_written = 0
        #: Leads that were in the sink already: delivered again after a crash or a rebalance.
        self.leads_known = 0
        self.leads_rejected = 0
        self._failures = 0
        self._failing_since = self.since
        self._is_tried = False

    def unavailable(self, reason: str) -> None:
        """An attempt found the sink unavailable."""
        now = self._now()
        self.attempts_failed += 1
        self._failures += 1
        self.reason = reason
        if self._failures == 1:
            self._failing_since = now
        failing_s = (now - self._failing_since).total_seconds()
        if self.reachable and self._failures >= FAILURES_MAX and failing_s >= FAILING_MIN_S:
            self.outages += 1
            self.reachable, self.since = False, now
            _logger.warning("The sink is unavailable: %s. Nothing is lost; writing goes on when it is back.", reason)

    def available(self) -> None:
        """The sink answered."""
        self._failures, self.reason, self.was_reached = 0, None, True
        if not self.reachable:
            away_s = (self._now() - self.since).total_seconds()
            self.reachable, self.since = True, self._now()
            _logger.info("The sink is back after %.1f s.", away_s)

    @property
    def problem(self) -> str | None:
        """Why the sink cannot be relied on now, in words; None when it can."""
        if not self.reachable:
            return f"unavailable: {self.reason}"
        return None if self.was_reached else "not reached yet"

    def written(self, leads: int, new: int) -> None:
        """A write of `leads` leads succeeded; `new` of them were not there before."""
        self.leads_written += new
        self.leads_known += leads - new

    @asynccontextmanager
    async def turn(self, pause: Pause) -> AsyncIterator[None]:
        """One attempt. While the circuit is open it is one lane's turn after the other."""
        while self._is_tried and not self.reachable:
            await pause(TURN_S)
        if self.reachable:
            yield
            return
        self._is_tried = True
        try:
            yield
        finally:
            self._is_tried = False


async def patiently(ask: Callable[[], Awaitable[_Answer]], *, pause: Pause, health: SinkHealth) -> _Answer:
    """What the sink answers, however long it is unavailable. Any other error comes through, and what `pause` raises."""

    failures = 0

    async def attempt() -> _Answer:
        nonlocal failures
        async with health.turn(pause):
            try:
                answer = await ask()
            except SinkUnavailable as error:
                health.unavailable(str(error))
                failures += 1
                if failures == ATTEMPTS_SAID and health.reachable:
                    _logger.warning(_ALONE, failures, error)
                raise
            except (Fenced, RecordsRejected):
                health.available()
                raise
            health.available()
            return answer

    retrying: Any = AsyncRetrying(retry=retry_if_exception_type(SinkUnavailable), wait=_wait_s, sleep=pause)
    answer: _Answer = await retrying(attempt)
    return answer


_backoff = wait_random_exponential(multiplier=PAUSE_FIRST_S, max=PAUSE_MAX_S)


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, SinkUnavailable) else None
    return max(asked_s or 0.0, 0.0) + _backoff(state)
