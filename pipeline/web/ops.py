"""Is the worker alive, and is it ready: `GET /healthz`, `GET /readyz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

__all__ = ["Check", "Ops", "assignment_checks"]

#: Answers None when all is well, else what is not, in words.
Check = Callable[[], str | None]


class Ops:
    """The endpoints for probes. `checks` are the conditions of readiness, by name."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks

    def routes(self) -> list[web.RouteDef]:
        """`GET /healthz` and `GET /readyz`."""
        return [web.get("/healthz", self.healthz), web.get("/readyz", self.readyz)]

    async def healthz(self, request: web.Request) -> web.Response:
        """200 as long as the event loop answers."""
        return web.json_response({"status": "alive"})

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when every check is well, else 503 with what is not."""
        problems = {name: check() for name, check in self._checks.items()}
        ready = not any(problems.values())
        status = {"status": "ready" if ready else "not ready", "checks": {n: p or "ok" for n, p in problems.items()}}
        return web.json_response(status, status=200 if ready else 503)


def assignment_checks(app: Any) -> dict[str, Check]:
    """The conditions of a worker that runs agents."""

    def partitions() -> str | None:
        if app.rebalancing:
            return "being assigned"
        return None if app.tables.recovery.completed.is_set() else "not assigned yet"

    def tables() -> str | None:
        if app.tables.actives_ready:
            return None
        to_go = app.tables.recovery.to_go
        return "recovering" if to_go is None else f"recovering, {sum(to_go.values())} changelog records to go"

    return {"partitions": partitions, "tables": tables}
