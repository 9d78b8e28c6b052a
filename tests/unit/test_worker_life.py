"""A worker that cannot do its work ends; it never idles (rules 1, 8 and 10). The stock behaviour first, then ours."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiohttp import web
from faust.tables.recovery import Recovery
from mode import Service

from pipeline.batches import BatchApp, DiskFull, Epoch, Fatal, Refused
from pipeline.batches.checkpoints import Checkpoints
from pipeline.batches.recovery import BatchRecovery
from pipeline.batches.watched import TaskEnded, Watched
from tests.unit.engine import P0, batch_of


class Stock(Service):
    """A stock service whose task ends."""

    app: Any = SimpleNamespace(should_stop=False)

    def __post_init__(self) -> None:
        self.ended = asyncio.Event()

    @Service.task
    async def _task(self) -> None:
        self.ended.set()


class Ours(Watched, Stock):
    """The same, watched."""


class Refusing(Watched):
    """A service whose task finds that it cannot work."""

    def __post_init__(self) -> None:
        self.refused: list[Refused] = []
        self.app = SimpleNamespace(should_stop=True, refuse=self.refused.append)

    @Service.task
    async def _task(self) -> None:
        raise Refused("free some space")


async def ended(service: Service) -> None:
    """Until the tasks of `service` are done."""
    await asyncio.wait(service._futures)


class TestTasks:
    async def test_a_stock_service_goes_on_without_its_task(self) -> None:
        service = Stock()
        async with service:
            await ended(service)
            assert service.ended.is_set()
            assert not service.crashed

    async def test_ours_crashes(self) -> None:
        service = Ours()
        await service.start()
        await ended(service)
        assert service.crashed
        assert isinstance(service.crash_reason, TaskEnded)
        await service.stop()

    async def test_a_task_that_ends_because_the_worker_stops_is_no_crash(self) -> None:
        service = Ours()
        service.app = SimpleNamespace(should_stop=True)
        async with service:
            await ended(service)
            assert not service.crashed

    async def test_a_refusal_ends_the_worker_with_its_sentence(self) -> None:
        service = Refusing()
        async with service:
            await ended(service)
            assert [str(refusal) for refusal in service.refused] == ["free some space"]


class TestAFullDisk:
    async def test_that_a_timer_finds_ends_the_worker_with_its_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def on_bug(batch: Any, error: Exception) -> None: ...

        def refuse(refusal: Refused) -> None:
            raise SystemExit(refusal.status)

        app = BatchApp("full-disk", grace_s=1, on_bug=on_bug)
        monkeypatch.setattr(app, "refuse", refuse)
        with pytest.raises(SystemExit, match=str(os.EX_IOERR)):
            await app.crash(DiskFull(Path("/var/leads")))

    def test_is_no_fault_of_a_record(self) -> None:
        assert isinstance(DiskFull(Path("/var/leads")), Fatal)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of agents, one of which needs a module that is not there."""
    package = tmp_path / "broken_agents"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sink.py").write_text("import a_driver_that_is_not_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "broken_agents"


class TestAgentsThatCannotBeImported:
    def test_the_stock_app_warns_and_runs_without_them(self, broken: str, caplog: pytest.LogCaptureFixture) -> None:
        app = faust.App("stock-discovery", autodiscover=[broken])
        with caplog.at_level(logging.WARNING):
            app.discover()
        assert "a_driver_that_is_not_installed" in caplog.text

    def test_ours_does_not_start(self, broken: str) -> None:
        async def on_bug(batch: Any, error: Exception) -> None: ...

        app = BatchApp("our-discovery", modules=[f"{broken}.sink"], grace_s=1, on_bug=on_bug)
        with pytest.raises(ModuleNotFoundError, match="a_driver_that_is_not_installed"):
            app.worker_init()


class TestChangelogsThatEndInAMarker:
    """Offsets 0 to 8 hold records and 9 a transaction marker, which nobody will ever deliver (faust #176)."""

    def test_stock_waits_for_it(self) -> None:
        recovery = Recovery.__new__(Recovery)
        recovery.active_highwaters, recovery.active_offsets = Counter({P0: 10 - 1}), Counter({P0: 8})
        assert recovery.need_recovery()

    def test_ours_is_done_when_the_consumer_has_stepped_over_it(self) -> None:
        recovery, checkpoints, epoch = BatchRecovery.__new__(BatchRecovery), Checkpoints(), Epoch()
        consumer: Any = SimpleNamespace(checkpoints=checkpoints)
        checkpoints.start(P0, 0)
        for batch in (batch_of(range(9), epoch=epoch), batch_of([], epoch=epoch, next_offset=10)):
            checkpoints.deliver(batch)
            assert recovery._count(consumer, {P0: 10}) > 0
            checkpoints.ack(batch)
        assert recovery._count(consumer, {P0: 10}) == 0


def test_every_middleware_is_passed_through_once() -> None:
    """Faust asks for the endpoints three times at a start."""
    served = web.Application()
    worker: Any = SimpleNamespace(_has_endpoints=False, middlewares=[lambda: None], routes=[], web_runner=None)
    for _ in range(3):
        BatchApp.on_webserver_init(worker, SimpleNamespace(web_app=served))
    assert len(served.middlewares) == 1
