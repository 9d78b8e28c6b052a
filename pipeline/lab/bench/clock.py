"""From counts and times to a rate: pure.

The clock of a run starts when the worker is seen to have begun and stops when the last results are there. Starting the
process and the last commit are outside: stock Faust commits every 2.8 s, which would cost its short runs a fifth of
their rate.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Clock", "Reading"]


@dataclass(frozen=True)
class Reading:
    """What was seen at one moment.

    Attributes:
        time_s: when.
        count: results so far.
        cpu_s: processor seconds of the worker so far.
    """

    time_s: float
    count: int
    cpu_s: float


class Clock:
    """Takes readings and keeps the first and the last that showed something new."""

    def __init__(self) -> None:
        self.first: Reading | None = None
        self.last: Reading | None = None

    def take(self, reading: Reading) -> None:
        """Note a reading."""
        if self.last is None or reading.count > self.last.count:
            self.last = reading
            self.first = self.first or reading

    @property
    def count(self) -> int:
        """Results so far."""
        return self.last.count if self.last else 0

    @property
    def seconds(self) -> float:
        """From the first reading to the last results."""
        return self.last.time_s - self.first.time_s if self.first and self.last else 0.0

    @property
    def cpu_s(self) -> float:
        """Processor seconds that the worker took in that time."""
        return self.last.cpu_s - self.first.cpu_s if self.first and self.last else 0.0

    @property
    def timed(self) -> int:
        """Results that came in that time: without those that were there when the clock started."""
        return self.last.count - self.first.count if self.first and self.last else 0

    @property
    def rate(self) -> float:
        """Results per second; 0.0 when too few readings tell."""
        return self.timed / self.seconds if self.seconds > 0 else 0.0

    def idle_s(self, now_s: float) -> float:
        """Since when nothing new was seen; 0.0 before the first."""
        return now_s - self.last.time_s if self.last else 0.0
