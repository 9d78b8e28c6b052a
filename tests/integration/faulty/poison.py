"""Our code raises: for leads with `poison-dedupe` or `poison-sink` in them, in that agent."""

from __future__ import annotations

from collections.abc import Callable

import pipeline.accepting
import pipeline.dedupe
from pipeline.app import app
from pipeline.lead import Lead

__all__ = ["app"]

Decode = Callable[[bytes | None], Lead]


def raising(decode: Decode, mark: bytes) -> Decode:
    """`decode`, with a bug."""

    def decode_with_a_bug(value: bytes | None) -> Lead:
        if value is not None and mark in value:
            raise ArithmeticError("a bug in our code")
        return decode(value)

    return decode_with_a_bug


pipeline.dedupe.decode = raising(pipeline.dedupe.decode, b"poison-dedupe")
pipeline.accepting.decode = raising(pipeline.accepting.decode, b"poison-sink")
