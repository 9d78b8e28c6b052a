"""The worker processes of one contender: kept running, killed, joined by another, and what processor time they took."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.embedded import free_port
from pipeline.lab.compare_contenders import Contender, Place
from pipeline.lab.compare_schedule import WORKERS
from pipeline.lab.program import STOP_MAX_S, LabError, Program

__all__ = ["Crew"]

#: Whoever runs a service starts it again after that long, however it ended: systemd with RestartSec=1.
RESTART_S = 1.0
#: A worker that ends by itself that often is not one that stumbles over the faults.
ENDS_MAX = 200


@dataclass
class _Slot:
    number: int
    port: int
    program: Program | None = None
    #: When it is to be started; None: it runs, or is not wanted.
    due_s: float | None = None
    leaving_since_s: float | None = None


class Crew:
    """The workers, by slot, from 1. Use it in the main thread, as a context manager, and call `look` often."""

    def __init__(self, contender: Contender, place: Place) -> None:
        self._contender = contender
        self._place = place
        self._slots: dict[int, _Slot] = {}
        self._former_cpu_s = 0.0
        #: How often a worker ended that nobody had told to.
        self.ended = 0

    def __enter__(self) -> Self:
        for number in range(1, WORKERS + 1):
            self.join(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for slot in self._slots.values():
            if slot.program is not None:
                slot.program.kill()

    @property
    def owners(self) -> dict[str, int]:
        """The slot of each worker, by the name that the group's coordinator has for it."""
        return {self._contender.owner(slot.number, slot.port): slot.number for slot in self._slots.values()}

    @property
    def cpu_s(self) -> float:
        """Processor seconds of all that run and all that have run."""
        return self._former_cpu_s + sum(slot.program.cpu_s for slot in self._slots.values() if slot.program)

    def look(self) -> None:
        """See who has ended, and start again who is due. What it does takes milliseconds."""
        now_s = time.monotonic()
        for slot in self._slots.values():
            if slot.program is not None:
                _ = slot.program.cpu_s  # before its end is known: of one that has ended nothing is left
                if slot.program.status is not None:
                    self._ended(slot, now_s)
                elif slot.leaving_since_s is not None and now_s > slot.leaving_since_s + STOP_MAX_S:
                    slot.program.kill()
            elif slot.due_s is not None and now_s >= slot.due_s:
                self._start(slot)

    def last_lines(self) -> str:
        """The end of the log of each that runs."""
        return "\n".join(slot.program.last_lines() for slot in self._slots.values() if slot.program)

    def kill(self, number: int) -> bool:
        """SIGKILL; it is started again. Returns whether there was a process."""
        slot = self._slots[number]
        if slot.program is None:
            return False
        slot.program.kill()
        self._gone(slot, time.monotonic() + RESTART_S)
        return True

    def join(self, number: int) -> None:
        """Add a worker."""
        self._slots[number] = slot = _Slot(number, free_port(taken=[one.port for one in self._slots.values()]))
        self._start(slot)

    def leave(self, number: int) -> None:
        """Stop a worker in order, for good; by force when it takes too long."""
        slot = self._slots[number]
        slot.leaving_since_s, slot.due_s = time.monotonic(), None
        if slot.program is not None:
            slot.program.terminate()

    def _start(self, slot: _Slot) -> None:
        slot.program, slot.due_s = self._contender.start(self._place, slot.number, slot.port), None

    def _ended(self, slot: _Slot, now_s: float) -> None:
        assert slot.program is not None
        if slot.leaving_since_s is not None:
            self._gone(slot, None)
            return
        self.ended += 1
        if self.ended > ENDS_MAX:
            raise LabError(f"The workers of {self._contender.title} do not run:\n{slot.program.last_lines()}")
        self._gone(slot, now_s + RESTART_S)

    def _gone(self, slot: _Slot, due_s: float | None) -> None:
        assert slot.program is not None
        self._former_cpu_s += slot.program.cpu_s
        slot.program, slot.due_s = None, due_s
