"""What faults have in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.lab.crew import Crew, NotHealed
from pipeline.lab.installation import Installation

__all__ = ["Site"]

POLL_S = 0.05


@dataclass(frozen=True)
class Site:
    """The installation, its workers, and what faults need to know of them.

    Attributes:
        installation: is running.
        crew: its workers.
        slots: that a worker may have: one more than there are workers, for who joins.
        session_s: after so long without a sign of life a worker loses its partitions.
        disk: where workers keep their state, when it is a small one; else None.
    """

    installation: Installation
    crew: Crew
    slots: tuple[int, ...]
    session_s: float
    disk: Path | None

    async def until(self, condition: Callable[[], Awaitable[bool]], *, within_s: float, otherwise: str) -> None:
        """Wait until something is so.

        Raises:
            NotHealed: it is not; `otherwise` says what.
        """
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + within_s
        while not await condition():
            if loop.time() > deadline_s:
                raise NotHealed(otherwise)
            await asyncio.sleep(POLL_S)
