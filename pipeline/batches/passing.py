"""Which errors of the broker pass by themselves."""

from __future__ import annotations

from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError, KafkaUnavailableError

__all__ = ["is_passing"]

#: aiokafka calls these not retriable. A time-out and an absent broker are; and an `IllegalStateError` says that a
#: partition is not assigned any more, which the next assignment mends.
_PASSING = (IllegalStateError, KafkaTimeoutError, KafkaUnavailableError)


def is_passing(error: KafkaError) -> bool:
    """Whether the same call may succeed later."""
    # aiokafka wraps some answers of the coordinator in a plain KafkaError, with their repr as its text.
    is_wrapped = type(error) is KafkaError and "NotAvailable" in str(error)
    return bool(error.retriable) or isinstance(error, _PASSING) or is_wrapped
