"""Is the worker alive, and is it ready: `GET /healthz`, `GET /readyz`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from pipeline.web.access import Access

__all__ = ["Check", "Ops", "assignment_checks"]

#: Answers None when all is well, else what is not, in words.
Check = Callable[[], str | None]


class Ops:
    """The endpoints for probes.

    Arguments:
        checks: The conditions of readiness, by name; they are told to operators only.
        access: Who is one.
        workers_of: Names app and Kafka cluster, by which workers know each other on a port that they share.
        shown: What operators are told besides.
    """

    def __init__(
        self,
        checks: Mapping[str, Check],
        access: Access,
        workers_of: Callable[[], str],
        shown: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._checks = checks
        self._access = access
        self._workers_of = workers_of
        self._shown = shown

    def routes(self) -> list[web.RouteDef]:
        """`GET /healthz` and `GET /readyz`."""
        return [web.get("/healthz", self.healthz), web.get("/readyz", self.readyz)]

    async def healthz(self, request: web.Request) -> web.Response:
        """200 as long as the event loop answers."""
        return web.json_response({"status": "alive", "workers_of": self._workers_of()})

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when every check is well, else 503; with what is not, for operators."""
        problems = {name: check() for name, check in self._checks.items()}
        ready = not any(problems.values())
        answer: dict[str, Any] = {"status": "ready" if ready else "not ready"}
        if self._access.may_operate(request):
            checks = {name: problem or "ok" for name, problem in problems.items()}
            answer |= {"checks": checks, **self._shown()}
        return web.json_response(answer, status=200 if ready else 503)


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
