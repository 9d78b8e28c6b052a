"""Workers of the product with one fault each: `python -m faust -A tests.integration.faulty.NAME worker`.

Each module imports the app and its agents, puts one fault into them, and takes its parameters from `FAULT_*` variables.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

__all__ = ["die"]


def die() -> NoReturn:
    """What `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")
