"""Our code raises for every dead letter."""

from __future__ import annotations

from typing import Any

import agents.dead_letters
from pipeline.app import app

__all__ = ["app"]


def remember(*args: Any, **kwargs: Any) -> dict[bytes, bytes]:
    """A bug."""
    raise ArithmeticError("a bug in our code")


agents.dead_letters.remember = remember
