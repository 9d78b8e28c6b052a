"""The one error of the embedded broker."""

from __future__ import annotations

__all__ = ["BrokerError"]


class BrokerError(RuntimeError):
    """The embedded broker cannot do what was asked; the text is a sentence that says what to do."""
