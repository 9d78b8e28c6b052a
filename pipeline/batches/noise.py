"""Keeps the log readable while a broker is away: aiokafka writes 2,000 error lines in 20 s."""

from __future__ import annotations

import logging
import time

from aiokafka.errors import GroupCoordinatorNotAvailableError

__all__ = ["NoiseFilter", "install_noise_filter"]

REPEAT_S = 30.0
TEMPLATES_MAX = 256


class NoiseFilter(logging.Filter):
    """Lets one line of each kind through in `repeat_s` seconds, and says how many it kept back."""

    def __init__(self, repeat_s: float = REPEAT_S) -> None:
        super().__init__()
        self._repeat_s = repeat_s
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` may pass."""
        if record.levelno < logging.WARNING:
            return True
        if record.args and any(isinstance(one, GroupCoordinatorNotAvailableError) for one in record.args):
            return False  # a new broker makes the topic of the groups when it is first asked: no error
        kind = (record.name, str(record.msg))
        now = time.monotonic()
        until, kept_back = self._seen.get(kind, (0.0, 0))
        if now < until:
            self._seen[kind] = (until, kept_back + 1)
            return False
        if kept_back:
            record.msg = f"{record.msg} [and {kept_back} times more]"
        if len(self._seen) >= TEMPLATES_MAX:
            self._seen.clear()
        self._seen[kind] = (now + self._repeat_s, 0)
        return True


def install_noise_filter() -> None:
    """Filter all loggers of aiokafka."""
    noise = NoiseFilter()
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(noise)
