"""The workers of a chaos run, kept running under their slots as `leads up` does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.lab.installation import Installation
from pipeline.lab.program import LabError
from pipeline.lab.worker import Worker

__all__ = ["Crew", "End", "NotHealed"]

#: How long one that has ended waits before it is started again: doubling. `leads up` goes on to 30 s; the lab does not
#: want to wait that long for the next fault.
RESTART_FIRST_S = 0.5
RESTART_LONGEST_S = 4.0
#: After so long a life an end counts as the first one.
RESET_S = 20.0
POLL_S = 0.1
#: Longer than anything takes; reached only when something hangs.
READY_MAX_S = 150.0
#: The status of a worker that cannot run with its settings.
EX_CONFIG = 78


class NotHealed(Exception):
    """Something did not come back in time; the text says what."""


@dataclass(frozen=True)
class End:
    """A worker came to its end that nobody had asked for it: exit status, negative for a signal."""

    at_s: float
    slot: int
    status: int


class Crew:
    """Starts workers, and starts again what ends, but for those that a fault has taken out.

    Arguments:
        installation: whose workers they are.
        slots: that are to run.
        say: takes a line about what ended.
    """

    def __init__(self, installation: Installation, slots: set[int], say: Callable[[str], None]) -> None:
        self.installation = installation
        #: Slots that are to run.
        self.wanted = set(slots)
        #: Ends that no fault has caused directly.
        self.ends: list[End] = []
        self._say = say
        self._killed: set[int] = set()
        self._due_s: dict[int, float] = {}
        self._delay_s: dict[int, float] = {}
        self._began_s = time.monotonic()

    def worker(self, slot: int) -> Worker:
        """The worker of this slot, as it was started last."""
        return self.installation.workers[slot]

    def start(self) -> None:
        """Start those that are wanted. In the main thread, as everything here."""
        for slot in sorted(self.wanted):
            self.installation.worker(slot)

    async def keep(self) -> None:
        """Start again what ends, until this is cancelled.

        Raises:
            LabError: a worker says that it cannot run with its settings.
        """
        while True:
            for slot in sorted(self.wanted):
                self._look(slot)
            await asyncio.sleep(POLL_S)

    def add(self, slot: int) -> None:
        """Let a worker join."""
        self.wanted.add(slot)
        self.installation.worker(slot)

    def take_out(self, slot: int) -> Worker:
        """Do not start this one again; it is the caller's to end."""
        self.wanted.discard(slot)
        self._due_s.pop(slot, None)
        return self.worker(slot)

    def kill(self, slot: int) -> None:
        """SIGKILL; it is started again after a moment."""
        if self.worker(slot).status is None:
            self._killed.add(slot)
            self.worker(slot).kill()

    def kill_all(self) -> None:
        """SIGKILL of all, for good."""
        self.wanted.clear()
        for worker in self.installation.workers.values():
            if worker.status is None:
                worker.kill()

    async def leave(self, slot: int) -> int:
        """Stop one in order; returns its exit status. It is not started again."""
        worker = self.take_out(slot)
        return await asyncio.to_thread(worker.stop)

    async def until_ready(self, *slots: int, within_s: float = READY_MAX_S) -> None:
        """Wait until these workers, by default all, say that they are ready.

        Raises:
            NotHealed: they do not.
        """
        deadline_s = time.monotonic() + within_s
        for slot in slots or sorted(self.wanted):
            while not await self._is_ready(slot):
                if time.monotonic() > deadline_s:
                    raise NotHealed(f"worker-{slot} is not ready {within_s:g} s after it should be")
                await asyncio.sleep(POLL_S)

    async def _is_ready(self, slot: int) -> bool:
        if slot not in self.wanted:
            return True  # it has left meanwhile
        worker = self.worker(slot)
        return worker.status is None and await asyncio.to_thread(lambda: worker.is_ready)

    def _look(self, slot: int) -> None:
        worker, now_s = self.worker(slot), time.monotonic()
        status = worker.status
        if status is None:
            return
        if slot not in self._due_s:
            self._ended(slot, status, now_s - worker.started_s)
        elif self._due_s[slot] <= now_s:
            del self._due_s[slot]
            self.installation.worker(slot)

    def _ended(self, slot: int, status: int, uptime_s: float) -> None:
        if status == EX_CONFIG:
            raise LabError(f"worker-{slot} cannot run with its settings:\n{self.worker(slot).last_lines()}")
        delay_s = self._delay_s.get(slot, RESTART_FIRST_S) if uptime_s < RESET_S else RESTART_FIRST_S
        self._delay_s[slot] = min(2 * delay_s, RESTART_LONGEST_S)
        self._due_s[slot] = time.monotonic() + delay_s
        if slot in self._killed:
            self._killed.discard(slot)
        else:
            self.ends.append(End(round(time.monotonic() - self._began_s, 1), slot, status))
            self._say(f"worker-{slot} ended by itself (status {status}); it is started again in {delay_s:g} s")
