"""What a worker takes on at a time, and what one address may send: more is refused at once, before it costs anything.

Load        requests in work and the bytes that they hold; beyond, 503 `busy`
RateLimit   leads of an address; beyond, 429 `too-many`
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from math import ceil
from typing import TypeGuard

from aiohttp import hdrs

from pipeline.web.access import Address
from pipeline.web.problems import Problem

__all__ = ["BURST_S", "BUSY_RETRY_AFTER_S", "Held", "Load", "RateLimit", "busy", "network", "too_many"]

#: What is in work is over much sooner.
BUSY_RETRY_AFTER_S = 1
#: An address may send what it has not sent in so many seconds at once.
BURST_S = 10
ADDRESSES_MAX = 65_536
#: Much less than an array of the largest leads: what a worker holds in memory for one request.
BODY_SIZE_MAX_BYTES = 8 * 1024 * 1024
#: Whoever has one address of IPv6 has a network of them.
IPV6_PREFIX_BITS = 64


def busy() -> Problem:
    """503: the worker has as much in work as it can finish soon. Nothing of the request was kept."""
    return Problem(
        503, "Busy", "The worker has too much in work right now, and kept nothing of this. Send it again.",
        kind="busy", headers={hdrs.RETRY_AFTER: str(BUSY_RETRY_AFTER_S)},
    )  # fmt: skip


def too_many(retry_after_s: int) -> Problem:
    """429: its address has sent too many leads."""
    return Problem(
        429, "Too many leads", "Too many leads came from this address, and this was not kept. Send it again later.",
        kind="too-many", headers={hdrs.RETRY_AFTER: str(retry_after_s)},
    )  # fmt: skip


class Load:
    """Requests in work, and the bytes of their bodies.

    A request counts from when its body is there, its bytes as they arrive. So that nobody who sends slowly keeps others
    out, the bodies of one address hold at most an eighth of the room.
    """

    def __init__(self, requests_max: int, size_max_bytes: int) -> None:
        self._requests_max = requests_max
        self._size_max_bytes = size_max_bytes
        self._of_address_max_bytes = max(size_max_bytes // 8, BODY_SIZE_MAX_BYTES)
        self.requests = 0
        self.size_bytes = 0
        #: Of addresses that are not this machine's.
        self.bytes_of: Counter[Address] = Counter()

    def has_room(self, size_bytes: int) -> bool:
        """Whether there is room for a request, and for so many bytes more."""
        return self.requests < self._requests_max and self.size_bytes + size_bytes <= self._size_max_bytes

    def enter(self, size_bytes: int) -> None:
        """Take on a request whose body is there, and for which there is room. It must `leave`."""
        self.requests += 1
        self.size_bytes += size_bytes

    def leave(self, size_bytes: int) -> None:
        """It is answered."""
        self.requests -= 1
        self.size_bytes -= size_bytes

    @contextmanager
    def hold(self, client: Address | None) -> Iterator[Held]:
        """What one request of `client` holds, from its first byte to its answer."""
        held = Held(self, None if client is None or client.is_loopback else network(client))
        try:
            yield held
        finally:
            held.release()


class Held:
    """The bytes that a request has sent so far; once it is `entered` it counts as a request."""

    def __init__(self, load: Load, owner: Address | None) -> None:
        self._load = load
        self._owner = owner
        self._requests = 0
        self._size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """More of its body has arrived.

        Raises:
            Problem: 503, the bodies of all, or those of this address, hold too much.
        """
        self._load.size_bytes += size_bytes
        self._size_bytes += size_bytes
        if self._owner is not None:
            self._load.bytes_of[self._owner] += size_bytes
            if self._load.bytes_of[self._owner] > self._load._of_address_max_bytes:
                raise busy()
        if not self._load.has_room(0):
            raise busy()

    def enter(self) -> None:
        """All of it is there.

        Raises:
            Problem: 503, there are too many.
        """
        if not self._load.has_room(0):
            raise busy()
        self._load.enter(0)
        self._requests = 1

    def release(self) -> None:
        """It is answered."""
        self._load.requests -= self._requests
        self._load.size_bytes -= self._size_bytes
        if self._owner is not None:
            self._load.bytes_of[self._owner] -= self._size_bytes
            if not self._load.bytes_of[self._owner]:
                del self._load.bytes_of[self._owner]


class RateLimit:
    """A token bucket for each address: `per_s` leads a second, `BURST_S` times as many at once.

    A request passes when its address has something left, and is charged with what it holds, even into debt. Of more
    than `ADDRESSES_MAX` addresses the one that was quiet for longest is forgotten. 0 is no limit.
    """

    def __init__(self, per_s: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._now = now
        #: What is left of each address, and when that was.
        self._left: OrderedDict[Address, tuple[float, float]] = OrderedDict()

    def require(self, address: Address | None) -> None:
        """See that this address may send, and charge it with one lead.

        Raises:
            Problem: 429.
        """
        self._spend(address, 1, left_min=1)

    def charge(self, address: Address | None, count: int) -> None:
        """Charge it with `count` leads, which it was let in with.

        Raises:
            Problem: 429, it is in debt: others came in beside it.
        """
        self._spend(address, count, left_min=0)

    def _spend(self, address: Address | None, count: int, *, left_min: int) -> None:
        if not self._limits(address):
            return
        name, now_s = network(address), self._now()
        left = self._refilled(name, now_s)
        if left < left_min:
            raise too_many(ceil((1 - left) / self._per_s))
        self._left[name] = left - count, now_s
        self._left.move_to_end(name)
        if len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)

    def _limits(self, address: Address | None) -> TypeGuard[Address]:
        return bool(self._per_s) and address is not None and not address.is_loopback

    def _refilled(self, name: Address, now_s: float) -> float:
        full = float(self._per_s * BURST_S)
        left, at_s = self._left.get(name, (full, now_s))
        return min(full, left + (now_s - at_s) * self._per_s)


def network(address: Address) -> Address:
    """By what an address is counted."""
    if isinstance(address, IPv6Address):
        host_bits = 128 - IPV6_PREFIX_BITS
        return IPv6Address(int(address) >> host_bits << host_bits)
    return address
