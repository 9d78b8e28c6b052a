"""What an answer says of each lead; and that the load goes on whatever workers do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from pipeline.embedded import free_port
from pipeline.lab.chaos_leads import ChaosLeads
from pipeline.lab.history import Event, Outcome, read
from pipeline.lab.load import PLAN_VARIABLE, LoadPlan, answered
from pipeline.lab.program import Program
from tests.integration.children import ended as has_ended
from tests.integration.children import python

RECEIPT = {"message_id": "x", "tenant": "default", "partition": 3, "offset": 9, "status_url": "/"}
Handler = Callable[[web.Request], Awaitable[web.Response]]


class TestAnAnswer:
    def test_202_is_ok_where_the_receipt_says(self) -> None:
        assert answered(202, json.dumps(RECEIPT).encode(), [5], 1.0) == [Event(5, 1.0, Outcome.OK, 3, 9)]

    def test_202_is_ok_where_it_is_spooled(self) -> None:
        spooled = {"message_id": "x", "tenant": "default", "spooled": True, "status_url": "/"}
        assert answered(202, json.dumps(spooled).encode(), [5], 1.0) == [Event(5, 1.0, Outcome.OK)]
        body = json.dumps({"results": [RECEIPT, spooled]}).encode()
        assert answered(202, body, [5, 6], 1.0) == [Event(5, 1.0, Outcome.OK, 3, 9), Event(6, 1.0, Outcome.OK)]

    def test_202_of_an_array_says_it_of_each(self) -> None:
        body = {"results": [RECEIPT, {"status": 503}, {"status": 400}]}
        found = answered(202, json.dumps(body).encode(), [5, 6, 7], 1.0)
        assert [event.outcome for event in found] == [Outcome.OK, Outcome.INFO, Outcome.FAIL]

    @pytest.mark.parametrize("status", [400, 413, 415])
    def test_a_refusal_is_fail(self, status: int) -> None:
        assert answered(status, b"{}", [5, 6], 1.0) == [Event(n, 1.0, Outcome.FAIL) for n in (5, 6)]

    @pytest.mark.parametrize("status", [200, 408, 500, 502, 503, 504])
    def test_everything_else_may_have_happened(self, status: int) -> None:
        assert answered(status, b"{}", [5], 1.0) == [Event(5, 1.0, Outcome.INFO)]

    def test_as_may_a_receipt_that_cannot_be_read(self) -> None:
        assert answered(202, b"{", [5], 1.0) == [Event(5, 1.0, Outcome.INFO)]


def receipts(body: bytes) -> Any:
    items = json.loads(body)
    return {"results": [RECEIPT for _ in items]} if isinstance(items, list) else RECEIPT


async def accept(request: web.Request) -> web.Response:
    return web.json_response(receipts(await request.read()), status=202)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[int]]]:
    """Start a worker that answers so; returns its port."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> int:
        app = web.Application()
        app.router.add_post("/leads", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return port

    yield start
    for runner in runners:
        await runner.cleanup()


def plan(tmp_path: Path, *ports: int, leads_max: int | None = 300, **more: Any) -> LoadPlan:
    return LoadPlan(7, list(ports), 2000, str(tmp_path / "history"), leads_max, **more)


def program(tmp_path: Path, of: LoadPlan) -> Program:
    environ = {PLAN_VARIABLE: msgspec.json.encode(of).decode()}
    return Program(["pipeline.lab.load"], environ, tmp_path / "load.log")


async def ended(load: Program) -> int:
    while load.status is None:  # noqa: ASYNC110 - a process
        await asyncio.sleep(0.02)
    return load.status


def counts(of: LoadPlan) -> Counter[Outcome]:
    return Counter(event.outcome for event in read(Path(of.history)))


class TestTheLoad:
    async def test_sends_every_lead_and_repeats_some(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        leads, received = ChaosLeads(7), Counter[int | None]()

        async def note(request: web.Request) -> web.Response:
            items = await request.json()
            for item in items if isinstance(items, list) else [items]:
                received[leads.number(item["message_id"])] += 1
            return await accept(request)

        sent = plan(tmp_path, await serve(note))
        with program(tmp_path, sent) as load:
            assert await ended(load) == 0, load.last_lines()
        assert received.keys() == set(range(300))
        assert 10 < received.total() - 300 < 70
        found = counts(sent)
        assert found == {Outcome.SENT: received.total(), Outcome.OK: received.total()}

    async def test_sends_again_what_was_not_answered_202(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        refusals = iter([503] * 20)

        async def late(request: web.Request) -> web.Response:
            return web.json_response({}, status=503) if next(refusals, None) else await accept(request)

        sent = plan(tmp_path, await serve(late))
        with program(tmp_path, sent) as load:
            assert await ended(load) == 0, load.last_lines()
        events = list(read(Path(sent.history)))
        assert {event.number for event in events if event.outcome is Outcome.OK} == set(range(300))
        assert counts(sent)[Outcome.INFO] >= 20

    async def test_goes_to_another_worker_when_nobody_listens(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        sent = plan(tmp_path, free_port(), await serve(accept))
        with program(tmp_path, sent) as load:
            assert await ended(load) == 0, load.last_lines()
        found = counts(sent)
        assert found[Outcome.FAIL] > 0
        assert found[Outcome.INFO] == 0
        assert found[Outcome.SENT] == found[Outcome.OK] + found[Outcome.FAIL]

    async def test_is_not_held_up_by_a_worker_that_does_not_answer(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=1000) as frozen:
            sent = plan(tmp_path, frozen.getsockname()[1], await serve(accept), timeout_s=0.5)
            with program(tmp_path, sent) as load:
                assert await ended(load) == 0, load.last_lines()
        events = list(read(Path(sent.history)))
        assert {event.number for event in events if event.outcome is Outcome.OK} == set(range(300))
        assert counts(sent)[Outcome.INFO] > 0

    async def test_ends_when_a_worker_refuses_a_lead(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        async def refuse(request: web.Request) -> web.Response:
            return web.json_response({}, status=400)

        sent = plan(tmp_path, await serve(refuse))
        with program(tmp_path, sent) as load:
            assert await ended(load) == 1
            assert "a worker refused lead 0 as invalid" in load.last_lines()
        assert counts(sent)[Outcome.FAIL] > 0

    async def test_sends_nothing_new_after_a_sigterm(
        self, tmp_path: Path, serve: Callable[[Handler], Awaitable[int]]
    ) -> None:
        seen = asyncio.Event()

        async def note(request: web.Request) -> web.Response:
            seen.set()
            return await accept(request)

        sent = plan(tmp_path, await serve(note), leads_max=None)
        with program(tmp_path, sent) as load:
            await seen.wait()
            load.signal(signal.SIGTERM)
            assert await ended(load) == 0, load.last_lines()
        found = counts(sent)
        assert found[Outcome.SENT] == found[Outcome.OK] > 0

    def test_ends_with_its_parent(self, tmp_path: Path) -> None:
        sent = msgspec.json.encode(plan(tmp_path, free_port(), leads_max=None)).decode()
        parent = python(
            """if True:
            import sys, time
            from pathlib import Path
            from pipeline.lab.program import Program
            load = Program(["pipeline.lab.load"], {"LAB_LOAD": sys.argv[1]}, Path(sys.argv[2]))
            print(load.pid, flush=True)
            time.sleep(60)
            """,
            sent,
            tmp_path / "load.log",
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.kill()
        assert has_ended(descriptor, 20.0)
        os.close(descriptor)
        parent.wait()
        parent.stdout.close()
