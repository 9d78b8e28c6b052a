"""The sinks, by URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.sinks.base import (
    AcceptedLead,
    Checkpoint,
    Fenced,
    Lane,
    Mark,
    RecordsRejected,
    Sink,
    SinkError,
    SinkUnavailable,
    StreamOffset,
    WrittenLead,
)
from pipeline.sinks.memory import MemorySink
from pipeline.sinks.sqlite import SQLiteSink

__all__ = [
    "AcceptedLead",
    "Checkpoint",
    "Fenced",
    "Lane",
    "Mark",
    "RecordsRejected",
    "Sink",
    "SinkError",
    "SinkUnavailable",
    "StreamOffset",
    "WrittenLead",
    "sink_for",
]


def sink_for(url: str) -> Sink:
    """The sink that a URL names: `sqlite:///relative/path`, `sqlite:////absolute/path` or `memory:`. Does no I/O.

    Raises:
        ValueError: the URL names no sink. The text does not repeat the URL, which may hold a password.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in _SINKS:
        raise ValueError(f"no sink has such a URL; the known ones start with {', '.join(f'{s}:' for s in _SINKS)}")
    return _SINKS[scheme](rest)


def _sqlite(rest: str) -> Sink:
    path = rest.removeprefix("///")
    if not path or path == rest:
        raise ValueError("write it as sqlite:///relative/path or sqlite:////absolute/path")
    return SQLiteSink(Path(path))


def _memory(rest: str) -> Sink:
    if rest:
        raise ValueError("write it as memory:")
    return MemorySink()


_SINKS: dict[str, Callable[[str], Sink]] = {"sqlite": _sqlite, "memory": _memory}
