"""The history of a run: every sending of a lead and what was answered, in a file that is only appended to.

After Jepsen: an answer is ok, fail (it surely did not happen) or info (it may have happened or not: a time-out, a
reset, a 503). A sending that has no answer is as good as info.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import NamedTuple

__all__ = ["Event", "History", "Outcome", "Tally", "read"]

_EVENT = Struct("<IdBhq")
_AT_ONCE_EVENTS = 10_000


class Outcome(IntEnum):
    """What is noted of one sending of one lead."""

    #: It is about to be sent: noted before, so that whatever happens then is known to be possible.
    SENT = 0
    OK = 1
    #: Nobody can have got it: the connection was refused, or a worker refused the lead as invalid.
    FAIL = 2
    INFO = 3


class Event(NamedTuple):
    """One line of the history."""

    number: int
    #: Seconds since the epoch.
    time_s: float
    outcome: Outcome
    #: The receipt of an ok; else -1.
    partition: int = -1
    offset: int = -1


class History:
    """The file, open for appending. What was appended is there when this process is killed."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, events: Iterable[Event]) -> None:
        """Append events: all of them are there when this returns."""
        os.write(self._descriptor, b"".join(_EVENT.pack(*event) for event in events))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read(path: Path, start_bytes: int = 0) -> Iterator[Event]:
    """The whole events in a history from a position on; a last one that was cut off is no event."""
    with path.open("rb") as file:
        file.seek(start_bytes)
        while piece := file.read(_EVENT.size * _AT_ONCE_EVENTS):
            whole = len(piece) - len(piece) % _EVENT.size
            for number, time_s, outcome, partition, offset in _EVENT.iter_unpack(piece[:whole]):
                yield Event(number, time_s, Outcome(outcome), partition, offset)
            if whole < len(piece):
                return  # the next piece would begin in the middle of an event, which is being written just now


class Tally:
    """How many of each outcome a history has, counted on as it grows."""

    def __init__(self, path: Path) -> None:
        self.counts = dict.fromkeys(Outcome, 0)
        #: Different leads so far.
        self.leads = 0
        self._path = path
        self._read_bytes = 0

    def update(self) -> None:
        """Count what was appended since."""
        if not self._path.exists():
            return
        for event in read(self._path, self._read_bytes):
            self.counts[event.outcome] += 1
            self.leads = max(self.leads, event.number + 1)
            self._read_bytes += _EVENT.size
