"""How many connections a worker keeps open, in all and of one address, and how long each may take for a head."""

from __future__ import annotations

import resource
from collections import Counter

from pipeline.web.access import Access, Address
from pipeline.web.bounds import network
from pipeline.web.problems import Problem

__all__ = [
    "CONNECTIONS_MAX",
    "HEAD_TIMEOUT_S",
    "IDLE_TIMEOUT_S",
    "OF_ADDRESS_MAX",
    "Connections",
    "room_for_files",
    "slow_head",
]

CONNECTIONS_MAX = 4096
#: Of one address, which is neither this machine nor a trusted proxy: nobody alone can take all.
OF_ADDRESS_MAX = 256
#: From the first byte of a head, or from the connection, to its last one.
HEAD_TIMEOUT_S = 10.0
#: How long one may be open without a request. aiohttp's own is an hour.
IDLE_TIMEOUT_S = 75.0


def room_for_files() -> int:
    """How many files this process may have open; as many as the system lets it have, from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else soft


def slow_head() -> Problem:
    """408: the head of a request did not arrive in time."""
    return Problem(408, "The request takes too long", f"Its head did not arrive within {HEAD_TIMEOUT_S:g} s.")


class Connections:
    """Counts those that are open."""

    def __init__(self, access: Access) -> None:
        self._access = access
        # Half of the files are for the tables, the broker and what else a worker opens: no connection takes those.
        self._max = min(CONNECTIONS_MAX, room_for_files() // 2)
        self._of = Counter[Address | None]()
        self._count = 0

    def enter(self, client: Address | None) -> bool:
        """Count one; False when it is one too many. Either way it must `leave`."""
        name = client and network(client)
        self._of[name] += 1
        self._count += 1
        return self._count <= self._max and (self._of[name] <= OF_ADDRESS_MAX or self._is_exempt(client))

    def leave(self, client: Address | None) -> None:
        """It is closed."""
        name = client and network(client)
        self._count -= 1
        self._of[name] -= 1
        if not self._of[name]:
            del self._of[name]

    def _is_exempt(self, client: Address | None) -> bool:
        return client is None or client.is_loopback or self._access.is_proxy(client)
