"""Which errors of the broker pass by themselves, and which cancellations are none."""

from __future__ import annotations

import asyncio

from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError, KafkaUnavailableError

__all__ = ["is_being_cancelled", "is_passing"]

#: aiokafka calls these not retriable. A time-out and an absent broker are; and an `IllegalStateError` says that a
#: partition is not assigned any more, which the next assignment mends.
_PASSING = (IllegalStateError, KafkaTimeoutError, KafkaUnavailableError)


def is_passing(error: KafkaError) -> bool:
    """Whether the same call may succeed later."""
    # aiokafka wraps some answers of the coordinator in a plain KafkaError, with their repr as its text.
    is_wrapped = type(error) is KafkaError and "NotAvailable" in str(error)
    return bool(error.retriable) or isinstance(error, _PASSING) or is_wrapped


def is_being_cancelled() -> bool:
    """Whether somebody has cancelled the current task. If not, a `CancelledError` is of another one: when a connection
    is lost, aiokafka lets out the cancellation of requests of its own.
    """
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
