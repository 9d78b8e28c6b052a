"""From acknowledgements and commits to latencies, and to when writes went on."""

from __future__ import annotations

import pytest

from pipeline.lab.bench.failover import resumed_s
from pipeline.lab.bench.latency import latencies_ms
from pipeline.lab.bench.timed import Committed, Times
from pipeline.lab.compare_measures import Accepted
from pipeline.lab.program import LabError

KILLED_S = 100.0


def times(*leads: tuple[int, float, float]) -> Times:
    """Of leads as (partition, acknowledged, committed)."""
    accepted = {f"m{n}": Accepted(part, n, told_s, told_s) for n, (part, told_s, _) in enumerate(leads)}
    return Times(accepted, {f"m{n}": Committed(part, row_s) for n, (part, _, row_s) in enumerate(leads)})


def test_latencies_are_those_after_the_warm_up() -> None:
    found = times((0, 10.0, 10.5), (0, 11.0, 11.25), (0, 12.0, 12.125))
    assert latencies_ms(found, 1.0) == [250.0, 125.0]


def test_writes_go_on_when_they_do_in_the_last_partition() -> None:
    found = times((0, 101.0, 103.0), (0, 101.5, 104.0), (1, 101.0, 106.0), (2, 101.0, 120.0))
    assert resumed_s(found, frozenset([0, 1]), KILLED_S) == 6.0


def test_what_the_dead_worker_had_sent_is_not_meant() -> None:
    found = times((0, 99.9, 100.1), (0, 101.0, 103.0))
    assert resumed_s(found, frozenset([0]), KILLED_S) == 3.0


@pytest.mark.parametrize("orphaned", [frozenset(), frozenset([0, 1])])
def test_a_partition_in_which_nothing_was_written(orphaned: frozenset[int]) -> None:
    with pytest.raises(LabError, match="did not go on"):
        resumed_s(times((0, 101.0, 103.0)), orphaned, KILLED_S)
