"""The sinks, by URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

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
    SinkUnusable,
    StreamOffset,
    WrittenLead,
)
from pipeline.sinks.memory import MemorySink
from pipeline.sinks.postgresql import PostgreSQLSink
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
    "SinkUnusable",
    "StreamOffset",
    "WrittenLead",
    "sink_for",
]


def sink_for(url: str, *, password: str = "", lock_timeout_s: float = 5.0) -> Sink:
    """The sink that a URL names. Does no I/O.

    Arguments:
        url: `sqlite:///relative/path`, `sqlite:////absolute/path`, `postgresql://user@host:5432/name` or `memory:`.
        password: For PostgreSQL, if the URL does not hold it.
        lock_timeout_s: How long writers of PostgreSQL wait for each other; below the session timeout.

    Raises:
        ValueError: the URL names no sink. The text does not repeat the URL, which may hold a password.
    """
    scheme, _, rest = url.partition(":")
    if scheme in ("postgresql", "postgres"):
        return _postgresql(url, password, lock_timeout_s)
    if password:
        raise ValueError("it has no password, and LEADS_SINK_PASSWORD is given")
    if scheme == "sqlite":
        return _sqlite(rest)
    if scheme == "memory":
        return _memory(rest)
    raise ValueError("no sink has such a URL; the known ones start with sqlite: or postgresql:")


def _sqlite(rest: str) -> Sink:
    path = rest.removeprefix("///")
    if not path or path == rest:
        raise ValueError("write it as sqlite:///relative/path or sqlite:////absolute/path")
    return SQLiteSink(Path(path))


def _memory(rest: str) -> Sink:
    if rest:
        raise ValueError("write it as memory:")
    return MemorySink()


def _postgresql(url: str, password: str, lock_timeout_s: float) -> Sink:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")  # as the resolver will
        complete = parts.path.strip("/") and (parts.hostname or "host=" in parts.query) and parts.port != 0
    except ValueError:
        complete = False
    if not complete:
        raise ValueError("write it as postgresql://user@host:5432/database")
    if password and parts.password:
        raise ValueError("it holds a password, and LEADS_SINK_PASSWORD another; give one")
    return PostgreSQLSink(url, password=password, lock_timeout_s=lock_timeout_s)
