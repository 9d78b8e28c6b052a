"""How much each contender gets to do. The slow ones get less, so that each run is some ten seconds of steady work."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """How much each contender gets to do, in leads or keys.

    Attributes:
        dedupe_ours, dedupe_stock, dedupe_take: leads for the dedupe; the other contenders get as many as we do.
        path_ours, path_stock, path_take: leads for the path to SQLite.
        sink: leads for the sink.
        postgresql: leads for the path to PostgreSQL.
        recovery_ours, recovery_stock: keys in the changelog; of ours, those that `growth` starts from, too.
        growth_few: keys that the other table of `growth` starts from.
        growth: leads in each run of `growth`.
        growth_idle_s: how long a worker without work is looked at.
        scaleout: leads in each run of `scaleout`.
        capture_single, capture_arrays: leads over HTTP.
        latency_s: how long leads flow for the latency.
        session_s: session timeout of the workers of the failover.
        rounds: how often each contender runs.
        limit_s: longest steady state of one run of ours, which is an error: it must come to its end to be checked.
        peer_limit_s: of one run of another contender, which is stopped there; its rate does not mind.
    """

    dedupe_ours: int
    dedupe_stock: int
    dedupe_take: int
    path_ours: int
    path_stock: int
    path_take: int
    sink: int
    postgresql: int
    recovery_ours: int
    recovery_stock: int
    growth_few: int
    growth: int
    growth_idle_s: float
    scaleout: int
    capture_single: int
    capture_arrays: int
    latency_s: float
    session_s: float
    rounds: int
    limit_s: float
    peer_limit_s: float


FULL = Sizes(
    dedupe_ours=1_000_000,
    dedupe_stock=50_000,
    dedupe_take=50_000,
    path_ours=300_000,
    path_stock=30_000,
    path_take=30_000,
    sink=250_000,
    postgresql=300_000,
    recovery_ours=10_000_000,
    recovery_stock=200_000,
    growth_few=100_000,
    growth=500_000,
    growth_idle_s=20.0,
    scaleout=500_000,
    capture_single=100_000,
    capture_arrays=500_000,
    latency_s=20.0,
    session_s=10.0,
    rounds=2,
    limit_s=150.0,
    peer_limit_s=30.0,
)
QUICK = Sizes(
    dedupe_ours=40_000,
    dedupe_stock=2_000,
    dedupe_take=2_000,
    path_ours=40_000,
    path_stock=500,
    path_take=1_000,
    sink=20_000,
    postgresql=20_000,
    recovery_ours=100_000,
    recovery_stock=10_000,
    growth_few=5_000,
    growth=20_000,
    growth_idle_s=3.0,
    scaleout=40_000,
    capture_single=20_000,
    capture_arrays=50_000,
    latency_s=5.0,
    session_s=6.0,
    rounds=1,
    limit_s=120.0,
    peer_limit_s=60.0,
)
