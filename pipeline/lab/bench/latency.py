"""The benchmark `latency`: from the broker's acknowledgement of a lead to the commit of its row in PostgreSQL."""

from __future__ import annotations

from statistics import quantiles

from pipeline.embedded import Postgres
from pipeline.lab.bench.installation import Installation
from pipeline.lab.bench.result import OURS, Benchmark, Figure, Run
from pipeline.lab.bench.timed import AGENTS, Flow, Times, database, until_ready
from pipeline.lab.worker import Worker

__all__ = ["latencies_ms", "latency"]

#: Leads per second, sent whether the ones before are written or not.
RATE = 1_000.0
#: Before what is measured: code and the broker's JVM are cold.
WARM_UP_S = 5.0


async def latency(at: Installation) -> Benchmark:
    """How long a lead is on its way when there is no hurry."""
    with database(at, "latency-postgres") as server:
        measured = [await _measure(at, server, f"latency_{number}") for number in range(1, at.sizes.rounds + 1)]
    cuts = [quantiles(values, n=1000) for _, values in measured]
    return Benchmark(
        name="latency", title=f"acknowledged -> committed in PostgreSQL, at {RATE:,.0f} leads/s", unit="rows/s",
        runs=[run for run, _ in measured],
        figures=[
            Figure(name="p50", unit="ms", values=[cut[499] for cut in cuts], at_most=15),
            Figure(name="p99", unit="ms", values=[cut[989] for cut in cuts], at_most=100),
            Figure(name="p99.9", unit="ms", values=[cut[998] for cut in cuts]),
            Figure(name="worst", unit="ms", values=[max(values) for _, values in measured]),
        ],
    )  # fmt: skip


async def _measure(at: Installation, server: Postgres, name: str) -> tuple[Run, list[float]]:
    async with Flow(at, server, name, rate=RATE, seconds=WARM_UP_S + at.sizes.latency_s) as flow:
        with at.ours(name, AGENTS, name, sink_url=flow.url) as worker:
            await until_ready(worker)
            cpu_s = worker.cpu_s
            await flow.begin()
            times = await flow.end()
            run = _run(at, times, worker, worker.cpu_s - cpu_s)
    return at.told("latency", run), latencies_ms(times, WARM_UP_S)


def _run(at: Installation, times: Times, worker: Worker, cpu_s: float) -> Run:
    found = [row.time_s for row in times.committed.values()]
    return Run(
        contender=OURS, rate=len(found) / (max(found) - min(found)), seconds=max(found) - min(found),
        cpu_s_per_100k=cpu_s / len(found) * 100_000, peak_rss_mib=worker.peak_rss_mib, start_s=0.0, committed_s=0.0,
        results=len(found), expected=len(times.accepted),
    )  # fmt: skip


def latencies_ms(times: Times, warm_up_s: float) -> list[float]:
    """Milliseconds from acknowledgement to commit, of each lead that was acknowledged after the warm-up. It may be
    negative: the worker need not wait until the producer has read its answer.
    """
    begin_s = min(one.acknowledged_s for one in times.accepted.values()) + warm_up_s
    return [
        (times.committed[key].time_s - one.acknowledged_s) * 1000
        for key, one in times.accepted.items()
        if one.acknowledged_s >= begin_s
    ]
