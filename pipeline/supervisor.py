"""Keeps a broker and some workers running until it is told to stop, then stops them in order.

What ends is started again under its name, after a growing delay. The only exception is a worker that says with status
78 (EX_CONFIG) that its settings are wrong: no restart mends that, so everything is stopped.

The main thread starts and stops all processes: on Linux a child that is to die with its parent dies with the *thread*
that started it. The children's own threads only report to a queue.
"""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from pipeline.child import Child, Ended
from pipeline.embedded import BrokerError

__all__ = ["EX_CONFIG", "BackOff", "BrokerLike", "Supervisor"]

#: The status of a worker that cannot run with its settings (sysexits.h).
EX_CONFIG = os.EX_CONFIG

#: Workers have so long to stop, in seconds, before they are killed; the broker has the rest of `STOP_S`.
GRACE_S = 7.0
STOP_S = 9.5

_BROKER_START_S = 60.0
_BROKER_STOP_MIN_S = 1.5
_KILL_S = 1.0
# The broker is asked so often, in seconds, whether it lives; the ends of workers are reported at once.
_POLL_S = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BrokerLike(Protocol):
    """What the supervisor needs of a broker; `pipeline.embedded.Broker` is one. All times are in seconds."""

    @property
    def running(self) -> bool:
        """Whether its process lives."""

    def start(self, *, timeout_s: float) -> None:
        """Return when it serves; raise BrokerError when it does not in time."""

    def stop(self, *, timeout_s: float) -> None:
        """Stop in order, or by force after the timeout; may be called again."""


class BackOff:
    """How long something that ended waits before it is started again: 0.5 s, doubling to 30 s (pure)."""

    FIRST_S = 0.5
    LONGEST_S = 30.0
    #: After so long a life an end counts as the first one.
    RESET_S = 60.0

    def __init__(self) -> None:
        self._next_s = self.FIRST_S

    def after(self, uptime_s: float) -> float:
        """The delay in seconds after an end that followed on `uptime_s` of life."""
        delay_s = self.FIRST_S if uptime_s >= self.RESET_S else self._next_s
        self._next_s = min(2 * delay_s, self.LONGEST_S)
        return delay_s


class _Interrupted(Exception):
    """A signal came while the main thread was in a long call."""


class Supervisor:
    """Runs the broker, if any, and the workers.

    Args:
        workers: makes the workers, not yet started; called once, when the broker serves.
        broker: not yet started; None: it is somebody else's.
        say: takes a line for the user.
        grace_s: how long workers may take to stop before they are killed.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[Child]],
        *,
        broker: BrokerLike | None = None,
        say: Callable[[str], None],
        grace_s: float = GRACE_S,
    ) -> None:
        self._make_workers = workers
        self._broker = broker
        self._say = say
        self._grace_s = grace_s
        self._events: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self._running: set[Child] = set()
        self._due_s: dict[Child, float] = {}
        self._back_off: dict[Child, BackOff] = {}
        self._broker_back_off = BackOff()
        self._broker_started_s = 0.0
        self._broker_due_s: float | None = None
        self._stops = 0
        self._interrupt_at: int | None = None
        self._status = 0

    def run(self) -> int:
        """Start everything and keep it running; return the exit status when all of it has stopped again.

        Call this in the main thread. SIGINT, SIGTERM and SIGHUP stop it; a second one kills at once.

        Raises:
            BrokerError: the broker does not start at all.
            Exception: whatever the making of the workers raises.
        """
        with self._signals():
            try:
                self._start()
                while not self._stops:
                    self._step()
            except _Interrupted:
                pass
            finally:
                self._say("stopping")
                self._stop_all()
        return self._status

    def stop(self) -> None:
        """Ask for the end: in order at the first call, at once at the second. Any thread may call this."""
        self._stops += 1
        self._events.put(None)

    def _start(self) -> None:
        self._start_broker()
        with self._interruptible(at=1):
            workers = list(self._make_workers())
        for worker in workers if not self._stops else []:
            self._back_off[worker] = BackOff()
            self._start_worker(worker)

    def _step(self) -> None:
        event = self._next_event(self._wait_s())
        if event is not None:
            self._take_end(event)
        for worker in [w for w, due_s in self._due_s.items() if due_s <= time.monotonic()]:
            del self._due_s[worker]
            self._start_worker(worker)
        self._watch_broker()

    def _wait_s(self) -> float:
        due_s = min(self._due_s.values(), default=float("inf"))
        return min(_POLL_S, max(0.0, due_s - time.monotonic()))

    def _next_event(self, timeout_s: float) -> Ended | None:
        try:
            event = self._events.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
        if event is not None:
            self._running.discard(event.child)
        return event

    def _start_worker(self, worker: Child) -> None:
        worker.start(self._events.put)
        self._running.add(worker)

    def _take_end(self, event: Ended) -> None:
        if event.status == EX_CONFIG:
            self._status = EX_CONFIG
            self._say(f"{event.child.name} cannot run with its settings, so all is stopped: {event.child.last_line}")
            self.stop()
            return
        delay_s = self._back_off[event.child].after(event.uptime_s)
        self._due_s[event.child] = time.monotonic() + delay_s
        self._say(f"{event}; it is started again in {delay_s:g} s")

    def _start_broker(self) -> None:
        if self._broker is None:
            return
        self._broker_due_s = None
        with self._interruptible(at=1):
            self._say("broker starts")
            self._broker.start(timeout_s=_BROKER_START_S)
            self._broker_started_s = time.monotonic()

    def _watch_broker(self) -> None:
        if self._broker is None or self._broker.running or self._stops:
            return
        if self._broker_due_s is None:
            self._postpone_broker("broker ended", uptime_s=time.monotonic() - self._broker_started_s)
        elif self._broker_due_s <= time.monotonic():
            try:
                self._start_broker()
            except BrokerError as error:
                self._postpone_broker(str(error), uptime_s=0.0)

    def _postpone_broker(self, why: str, uptime_s: float) -> None:
        delay_s = self._broker_back_off.after(uptime_s)
        self._broker_due_s = time.monotonic() + delay_s
        sentence, _, log = why.partition("\n")
        self._say(f"{sentence.rstrip('.:')}; it is started again in {delay_s:g} s")
        if log:
            self._say(log)

    def _stop_all(self) -> None:
        started_s = time.monotonic()
        self._stop_workers(started_s + self._grace_s)
        self._stop_broker(max(_BROKER_STOP_MIN_S, started_s + STOP_S - time.monotonic()))

    def _stop_workers(self, deadline_s: float) -> None:
        for worker in self._running:
            worker.terminate()
        while self._running and self._stops < 2 and time.monotonic() < deadline_s:
            self._next_event(deadline_s - time.monotonic())
        for worker in self._running:
            self._say(f"{worker.name} has not stopped, so it is killed")
            worker.kill()
        deadline_s = time.monotonic() + _KILL_S
        while self._running and time.monotonic() < deadline_s:
            self._next_event(deadline_s - time.monotonic())

    def _stop_broker(self, timeout_s: float) -> None:
        if self._broker is None:
            return
        try:
            with self._interruptible(at=2):
                self._broker.stop(timeout_s=timeout_s)
        except _Interrupted:
            self._broker.stop(timeout_s=0.0)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # What is ignored stays ignored: SIGHUP under nohup. SIGINT is not asked, shells ignore it for background jobs.
        taken = [s for s in _SIGNALS if s == signal.SIGINT or signal.getsignal(s) != signal.SIG_IGN]
        former = {number: signal.signal(number, self._on_signal) for number in taken}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()
        if self._interrupt_at is not None and self._stops >= self._interrupt_at:
            raise _Interrupted

    @contextmanager
    def _interruptible(self, at: int) -> Iterator[None]:
        """Here the `at`-th request to stop that comes as a signal raises, because what is called takes seconds."""
        self._interrupt_at = at
        try:
            if self._stops >= at:
                raise _Interrupted
            yield
        finally:
            self._interrupt_at = None
