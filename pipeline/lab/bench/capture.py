"""The benchmark `capture`: `POST /leads` to a worker that only captures, each lead acknowledged by the broker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import Benchmark, Figure, Run, there_and_back
from pipeline.lab.http_load import LoadReport
from pipeline.lab.program import LabError, Program
from pipeline.lab.worker import Worker
from pipeline.lab.workload import Workload
from pipeline.topics import CAPTURED
from pipeline.web.bounds import BUSY_RETRY_AFTER_S

__all__ = ["ARRAYS", "SINGLE", "capture", "ready"]

SINGLE = "one lead a request, 64 connections"
ARRAYS = "arrays of 100 leads, 16 connections"
OVERLOAD = "one lead a request, 2,560 connections"
#: Five times as many requests at a time as a worker takes on (LEADS_CAPTURE_MAX_REQUESTS).
OVERLOAD_CONNECTIONS = 5 * 512
#: As the answer says.
OVERLOAD_PAUSE_S = float(BUSY_RETRY_AFTER_S)

POLL_S = 0.1
#: A worker is ready, and a load done, long before; reached only when something hangs.
READY_MAX_S = 60.0
LOAD_MAX_S = 300.0
#: Share of the requests that are answered before the clock starts: connections, code and the broker's JVM are cold.
WARM_UP = 0.15


@dataclass(frozen=True)
class _Shape:
    leads: int
    per_request: int
    connections: int
    #: After which a request that was refused is sent again; 0: none is.
    pause_s: float = 0.0


@dataclass(frozen=True)
class _Measured:
    contender: str
    load: LoadReport
    run: Run


async def capture(at: Installation) -> Benchmark:
    """How fast leads come in over HTTP, and how long a client waits."""
    shapes = {
        SINGLE: _Shape(at.sizes.capture_single, 1, 64),
        ARRAYS: _Shape(at.sizes.capture_arrays, 100, 16),
        OVERLOAD: _Shape(at.sizes.capture_single, 1, OVERLOAD_CONNECTIONS, OVERLOAD_PAUSE_S),
    }
    measured = []
    for number, contender in enumerate(there_and_back(list(shapes), at.sizes.rounds), 1):
        measured.append(await _measure(at, contender, shapes[contender], f"capture-{number}"))
        at.told("capture", measured[-1].run)
    return Benchmark(
        name="capture", title="POST /leads -> lead-captured, acks=all", unit="leads/s",
        runs=[one.run for one in measured], figures=_figures(measured),
    )  # fmt: skip


def _figures(measured: Sequence[_Measured]) -> list[Figure]:
    single, arrays, overload = (
        [one.load for one in measured if one.contender == name] for name in (SINGLE, ARRAYS, OVERLOAD)
    )
    return [
        Figure(name="single leads", unit="leads/s", values=[_rate(one) for one in single], at_least=8_000),
        Figure(name="single leads, answered, p50", unit="ms", values=[one.p50_ms for one in single]),
        Figure(name="single leads, answered, p99", unit="ms", values=[one.p99_ms for one in single], at_most=25),
        Figure(name="single leads, answered, worst", unit="ms", values=[one.worst_ms for one in single]),
        Figure(name="arrays", unit="leads/s", values=[_rate(one) for one in arrays], at_least=50_000),
        Figure(name="arrays, answered, p99", unit="ms", values=[one.p99_ms for one in arrays]),
        Figure(name="overload, refused for each lead taken", unit="", values=[_refused(one) for one in overload]),
        Figure(name="overload, taken, p50", unit="ms", values=[one.p50_ms for one in overload]),
        Figure(name="overload, taken, p99", unit="ms", values=[one.p99_ms for one in overload], at_most=250),
        Figure(name="load generator, single leads", unit="CPU s/100k", values=[_cpu_s_per_100k(one) for one in single]),
        Figure(name="load generator, peak RSS", unit="MiB", values=[one.peak_rss_mib for one in single]),
    ]


async def _measure(at: Installation, contender: str, shape: _Shape, name: str) -> _Measured:
    leads = replace(at.leads, count=shape.leads)
    await at.emptied("none", CAPTURED)
    with at.ours(name, "none", "leads") as worker:
        await ready(worker)
        cpu_s = worker.cpu_s
        load = await _load(at, worker, leads, shape, name)
        cpu_s = worker.cpu_s - cpu_s
        run = Run(
            contender=contender,
            rate=_rate(load),
            seconds=load.seconds,
            cpu_s_per_100k=cpu_s / load.accepted * 100_000,
            peak_rss_mib=worker.peak_rss_mib,
            start_s=0.0,
            committed_s=0.0,
            results=load.accepted,
            expected=leads.count,
        )
    await _require_exact(at, leads, load)
    return _Measured(contender, load, run)


async def ready(worker: Worker) -> None:
    """Wait until it is."""
    async with asyncio.timeout(READY_MAX_S):
        while not worker.is_ready:
            worker.check()
            await asyncio.sleep(POLL_S)


async def _load(at: Installation, worker: Worker, leads: Workload, shape: _Shape, name: str) -> LoadReport:
    """Send everything, from a process of its own; it makes the requests before it begins."""
    report = at.directory / f"{name}-load.json"
    environ = {
        "LAB_SEED": str(leads.seed),
        "LAB_LEADS": str(leads.count),
        "LAB_PER_REQUEST": str(shape.per_request),
        "LAB_CONNECTIONS": str(shape.connections),
        "LAB_WARM_UP": str(int(WARM_UP * leads.count / shape.per_request)),
        "LAB_PAUSE_S": str(shape.pause_s),
        "LAB_PORT": str(worker.port),
        "LAB_REPORT": str(report),
    }
    with Program(["pipeline.lab.http_load"], environ, at.directory / f"{name}-load.log") as program:
        async with asyncio.timeout(LOAD_MAX_S):
            while program.status is None:
                worker.check()
                await asyncio.sleep(POLL_S)
        if program.status != 0:
            raise LabError(f"The load ended with status {program.status}:\n{program.last_lines()}")
    return LoadReport.read(report)


async def _require_exact(at: Installation, leads: Workload, load: LoadReport) -> None:
    """The topic holds what was acknowledged, each record once: a rate of wrong results is worth nothing."""
    if load.flaws or load.accepted != leads.count:
        answers = "\n".join(load.flaws)
        raise LabError(f"Our capture accepted {load.accepted:,} of {leads.count:,} leads, and answered:\n{answers}")
    wanted: Counter[bytes | None] = Counter(f"default/{leads.message_id(n)}".encode() for n in leads.numbers())
    found = Counter(await at.kafka.keys(CAPTURED))
    if found != wanted:
        missing, more = (wanted - found).total(), (found - wanted).total()
        raise LabError(f"Our capture is wrong: {missing:,} records are missing, {more:,} are too many")


def _rate(load: LoadReport) -> float:
    return load.timed / load.seconds


def _refused(load: LoadReport) -> float:
    return load.refused / load.accepted


def _cpu_s_per_100k(load: LoadReport) -> float:
    return load.cpu_s / load.timed * 100_000
