"""A steady load of leads over HTTP, as real clients send them: `python -m pipeline.lab.load`, a process of its own.

Each request goes to a random worker, and to another one when nobody listens there. It is one lead or an array; about a
tenth of the leads repeat an earlier one; and what was not answered 202 is sent again, under the same id, until it is.
No fault holds it up: a worker that does not answer has its own few requests, and the rest goes to the others.

SIGTERM: no new leads, only what is still to be sent again. It ends by itself when its parent is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import msgspec

from pipeline.lab.chaos_leads import ChaosLeads
from pipeline.lab.history import Event, History, Outcome
from pipeline.lead import encode

__all__ = ["LoadPlan", "Sender", "main"]

PLAN_VARIABLE = "LAB_LOAD"

#: Share of leads that repeat an earlier one.
REPEATS = 0.1
#: Leads of a request: half of all requests are one lead, without an array around it.
SIZES = (0, 0, 0, 1, 3, 10, 25)
#: Requests that one worker may leave unanswered.
PER_WORKER_MAX = 24
TIMEOUT_S = 8.0
#: What waits to be sent again; with more, nothing new is sent.
WAITING_MAX_LEADS = 5_000
#: Where nobody listens, it is not tried again so soon.
AVOIDED_S = 0.5
RETRY_S = (0.3, 2.0)
TICK_S = 0.02
#: After SIGTERM, when nothing is answered 202 any more.
PATIENCE_S = 45.0


class LoadPlan(msgspec.Struct, frozen=True):
    """What to send.

    Attributes:
        seed: of the leads, and of what is done with them.
        ports: of the workers.
        rate: leads per second, repeats and retries among them.
        history: the file of the history.
        leads_max: different leads; None: until it is stopped.
        timeout_s: after which nobody waits for an answer any more.
    """

    seed: int
    ports: list[int]
    rate: float
    history: str
    leads_max: int | None = None
    timeout_s: float = TIMEOUT_S


class Sender:
    """Sends the leads of a plan. Every outcome is noted in the history."""

    def __init__(self, plan: LoadPlan, session: Any, history: History) -> None:
        self._plan = plan
        self._leads = ChaosLeads(plan.seed)
        self._random = Random(f"load {plan.seed}")
        self._session = session
        self._history = history
        self._next = 0
        self._open = dict.fromkeys(plan.ports, 0)
        self._avoided_until_s: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        #: When to send which lead again.
        self._waiting: list[tuple[float, int]] = []
        self._stopping = False
        self._failed: BaseException | None = None
        self._last_ok_s = time.monotonic()

    def stop(self) -> None:
        """Send nothing new from now on."""
        self._stopping = True
        self._last_ok_s = time.monotonic()

    async def run(self) -> None:
        """Send at the planned rate until everything that was to be sent is answered, or nobody answers any more.

        Raises:
            Exception: one of the sendings failed in a way that is no answer.
        """
        parent, before_s, allowed = os.getppid(), time.monotonic(), 0.0
        while not self._is_done() and not self._failed and os.getppid() == parent:
            now_s = time.monotonic()
            # What a slow second did not send is not sent in a burst after it.
            allowed = min(allowed + (now_s - before_s) * self._plan.rate, self._plan.rate / 2 + max(SIZES))
            before_s = now_s
            while allowed >= 1 and (numbers := self._chosen()):
                allowed -= len(numbers[1])
                self._start(*numbers)
            await asyncio.sleep(TICK_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failed:
            raise self._failed

    def _is_done(self) -> bool:
        if not self._stopping and not self._has_sent_all:
            return False
        if time.monotonic() - self._last_ok_s > PATIENCE_S and self._stopping:
            return True
        return not self._waiting and not self._tasks

    @property
    def _has_sent_all(self) -> bool:
        return self._plan.leads_max is not None and self._next >= self._plan.leads_max

    def _chosen(self) -> tuple[int, list[int]] | None:
        """How many leads the array has (0: there is none), and which; None when there is nothing to send now."""
        if len(self._tasks) >= PER_WORKER_MAX * len(self._open):
            return None
        if all(count >= PER_WORKER_MAX for count in self._open.values()):
            return None
        size = self._random.choice(SIZES)
        numbers = [number for _ in range(max(1, size)) if (number := self._number()) is not None]
        return (size, numbers) if numbers else None

    def _number(self) -> int | None:
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            return heappop(self._waiting)[1]
        if self._stopping or self._has_sent_all or len(self._waiting) > WAITING_MAX_LEADS:
            return None
        if self._next and self._random.random() < REPEATS:
            return self._random.randrange(self._next)
        self._next += 1
        return self._next - 1

    def _start(self, size: int, numbers: list[int]) -> None:
        task = asyncio.ensure_future(self._send(size, numbers))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Without what it did not note, or did not send again, a verdict would be worthless.
            self._failed = self._failed or error

    async def _send(self, size: int, numbers: list[int]) -> None:
        """Send to a worker that listens, and note what comes of it; what may not have happened waits for its turn."""
        parts = [encode(self._leads.lead(number)) for number in numbers]
        body = b"[" + b",".join(parts) + b"]" if size else parts[0]
        for port in self._ports():
            self._note(Event(number, time.time(), Outcome.SENT) for number in numbers)
            self._open[port] += 1
            try:
                outcomes = await self._post(port, body, numbers)
            except aiohttp.ClientConnectorError:
                self._avoided_until_s[port] = time.monotonic() + AVOIDED_S
                self._note(Event(number, time.time(), Outcome.FAIL) for number in numbers)
                continue
            except (aiohttp.ClientError, OSError, TimeoutError):
                outcomes = [Event(number, time.time(), Outcome.INFO) for number in numbers]
            finally:
                self._open[port] -= 1
            self._note(outcomes)
            if refused := [event.number for event in outcomes if event.outcome is Outcome.FAIL]:
                # Every lead of the lab is one. Were it passed over, it would be missing, and nobody would miss it.
                raise RuntimeError(f"a worker refused lead {refused[0]} as invalid")
            self._again(event.number for event in outcomes if event.outcome is Outcome.INFO)
            return
        self._again(numbers)

    def _ports(self) -> list[int]:
        """Of the workers to try, in this order. Who has refused a moment ago is left out, as a load balancer would."""
        free = [port for port, count in self._open.items() if count < PER_WORKER_MAX]
        listening = [port for port in free if self._avoided_until_s.get(port, 0.0) < time.monotonic()]
        return self._random.sample(listening, len(listening))

    async def _post(self, port: int, body: bytes, numbers: Sequence[int]) -> list[Event]:
        url = f"http://127.0.0.1:{port}/leads"
        async with self._session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            content = await response.read()
            return answered(response.status, content, numbers, time.time())

    def _note(self, events: Iterable[Event]) -> None:
        noted = list(events)
        self._history.append(noted)
        if any(event.outcome is Outcome.OK for event in noted):
            self._last_ok_s = time.monotonic()

    def _again(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            heappush(self._waiting, (time.monotonic() + self._random.uniform(*RETRY_S), number))


def answered(status: int, content: bytes, numbers: Sequence[int], time_s: float) -> list[Event]:
    """What an answer says of each lead of a request.

    A 503 is info: the broker may have what it did not acknowledge in time. So is what we do not understand. Only an
    answer that refuses the request as such says that nothing was taken.
    """
    if status in (400, 413, 415):
        return [Event(number, time_s, Outcome.FAIL) for number in numbers]
    if status != 202:
        return [Event(number, time_s, Outcome.INFO) for number in numbers]
    try:
        answer = msgspec.json.decode(content)
    except ValueError:
        return [Event(number, time_s, Outcome.INFO) for number in numbers]
    items = answer.get("results", [answer])
    return [_of(item, number, time_s) for item, number in zip(items, numbers, strict=True)]


def _of(item: dict[str, Any], number: int, time_s: float) -> Event:
    if "offset" in item:
        return Event(number, time_s, Outcome.OK, item["partition"], item["offset"])
    if item.get("spooled") is True:
        return Event(number, time_s, Outcome.OK)  # as safe, but nobody knows yet where it will stand
    return Event(number, time_s, Outcome.FAIL if item.get("status") == 400 else Outcome.INFO)


async def _run(plan: LoadPlan) -> None:
    history = History(Path(plan.history))
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=plan.timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        sender = Sender(plan, session, history)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sender.stop)
        await sender.run()
    history.close()


def main() -> None:
    """Send what the variable `LAB_LOAD` says."""
    try:
        plan = msgspec.json.decode(os.environ[PLAN_VARIABLE].encode(), type=LoadPlan)
    except (KeyError, msgspec.MsgspecError):
        sys.exit("This is started by the lab, which says what to send.")
    asyncio.run(_run(plan))


if __name__ == "__main__":
    main()
