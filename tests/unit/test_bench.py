"""The pure parts of the benchmark: the clock, the medians and ratios, the table, the verdicts, the file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.commands.bench import bench, text
from pipeline.lab.bench.clock import Clock, Reading
from pipeline.lab.bench.report import Report
from pipeline.lab.bench.result import OURS, STOCK, STOCK_TAKE, Benchmark, Figure, Run, Target, there_and_back
from pipeline.lab.bench.sizes import QUICK
from pipeline.lab.bench.table import table, verdicts


def run(contender: str, rate: float, *, peak_rss_mib: float = 100.0) -> Run:
    return Run(
        contender=contender, rate=rate, seconds=10.0, cpu_s_per_100k=1.0, peak_rss_mib=peak_rss_mib, start_s=2.0,
        committed_s=0.1, results=1000, expected=1000,
    )  # fmt: skip


def benchmark(*runs: Run, rss_max_mib: float | None = 400.0) -> Benchmark:
    return Benchmark(
        name="dedupe", title="captured -> accepted", unit="leads/s", targets=[Target(OURS, STOCK, 20)],
        rss_max_mib=rss_max_mib, runs=runs,
    )  # fmt: skip


RUNS = [run(OURS, 60_000), run(STOCK, 2_000), run(STOCK_TAKE, 3_000), run(STOCK, 3_000), run(OURS, 50_000)]


class TestClock:
    def test_it_runs_from_the_first_results_to_the_last(self) -> None:
        clock = Clock()
        for time_s, count, cpu_s in [(10.0, 100, 2.0), (11.0, 600, 2.5), (12.0, 1100, 3.0), (15.0, 1100, 3.5)]:
            clock.take(Reading(time_s, count, cpu_s))
        assert (clock.seconds, clock.timed, clock.cpu_s, clock.count) == (2.0, 1000, 1.0, 1100)
        assert clock.rate == 500.0
        assert clock.idle_s(15.0) == 3.0

    def test_what_was_there_when_it_started_does_not_count(self) -> None:
        clock = Clock()
        clock.take(Reading(1.0, 900, 0.0))
        clock.take(Reading(2.0, 1000, 0.0))
        assert clock.rate == 100.0

    def test_it_may_start_at_no_results(self) -> None:
        clock = Clock()
        clock.take(Reading(1.0, 0, 0.0))
        clock.take(Reading(5.0, 0, 0.0))
        clock.take(Reading(6.0, 1000, 0.0))
        assert clock.rate == 200.0

    @pytest.mark.parametrize("readings", [[], [Reading(1.0, 5, 0.0)]])
    def test_too_few_readings_tell_nothing(self, readings: list[Reading]) -> None:
        clock = Clock()
        for reading in readings:
            clock.take(reading)
        assert (clock.rate, clock.seconds, clock.timed) == (0.0, 0.0, 0)


def test_medians_are_compared() -> None:
    found = benchmark(*RUNS)
    assert found.rate(OURS) == 55_000
    assert found.rate(STOCK) == 2_500
    assert found.ratio(OURS, STOCK) == 22.0
    assert found.contenders == [OURS, STOCK, STOCK_TAKE]


def test_the_table_has_a_line_for_each_contender_and_every_run() -> None:
    title, head, *lines = table(benchmark(*RUNS)).splitlines()
    assert title == "dedupe: captured -> accepted, leads/s"
    assert "peak RSS MiB" in head
    assert [line.split("  ")[1] for line in lines] == [OURS, STOCK, STOCK_TAKE]
    assert "60,000 / 50,000" in lines[0]
    assert len({len(line) for line in [head, *lines]}) == 1


def test_a_target_that_is_met_is_ok_and_one_that_is_not_says_so() -> None:
    assert [str(verdict) for verdict in verdicts(benchmark(*RUNS))] == [
        "dedupe: this product 22.0x stock Faust (target 20x) ok",
        "dedupe: peak RSS of our worker 100 MiB (target < 400 MiB) ok",
    ]
    slow = benchmark(run(OURS, 19_999, peak_rss_mib=400.0), run(STOCK, 1_000))
    assert [str(verdict) for verdict in verdicts(slow)] == [
        "dedupe: this product 20.0x stock Faust (target 20x) below the target",
        "dedupe: peak RSS of our worker 400 MiB (target < 400 MiB) missed",
    ]


def test_memory_is_a_target_only_where_it_is_one() -> None:
    assert len(verdicts(benchmark(*RUNS, rss_max_mib=None))) == 1


def test_the_file_holds_every_run(tmp_path: Path) -> None:
    report = Report(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 7, False, QUICK, 414.2, 0.1, [benchmark(*RUNS)])
    path = report.write(tmp_path / "bench")
    assert path.name == "20260102T030405Z.json"
    found = json.loads(path.read_text())
    assert found["workload"]["seed"] == 7
    assert found["benchmarks"]["dedupe"]["ratio"][STOCK] == 22.0
    assert [one["rate"] for one in found["benchmarks"]["dedupe"]["runs"]] == [one.rate for one in RUNS]
    assert found["versions"]["faust-streaming"]
    plot = path.with_suffix(".svg").read_text()
    assert plot.count("<text") >= 2 * 3
    assert "stock Faust, take(1000)" in plot


def test_figures_are_shown_with_their_targets() -> None:
    figures = [
        Figure(name="p50", unit="ms", values=[12.0, 30.0, 14.0], at_most=15),
        Figure(name="p99", unit="ms", values=[120.0], at_most=100),
        Figure(name="of the load generator", unit="CPU s", values=[3.0]),
    ]
    latency = Benchmark(name="latency", title="captured -> committed", unit="ms", figures=figures)
    assert [str(verdict) for verdict in verdicts(latency)] == [
        "latency: p50 14 ms (target at most 15) ok",
        "latency: p99 120 ms (target at most 100) missed",
    ]
    assert "12 / 30 / 14" in table(latency)
    assert "of the load generator" in table(latency)


def test_a_target_against_somebody_who_could_not_run_is_not_one() -> None:
    left_out = "Kafka Streams is left out: there is no javac."
    alone = Benchmark(
        name="dedupe", title="", unit="leads/s", runs=[run(OURS, 1.0)], targets=[Target(OURS, STOCK, 2)],
        left_out=[left_out],
    )  # fmt: skip
    assert verdicts(alone) == []
    assert left_out in table(alone)


def test_contenders_run_there_and_back() -> None:
    assert there_and_back("abc", 3) == list("abccbaabc")


def test_the_text_says_which_leads_and_ends_with_the_verdicts() -> None:
    lines = text(Report(datetime.now(UTC), 7, False, QUICK, 414.2, 0.1, [benchmark(*RUNS)])).splitlines()
    assert "Leads of 414 bytes with time-ordered ids, seed 7" in lines[1]
    assert lines[-1].endswith("ok")


def test_an_unknown_benchmark_is_refused_before_anything_starts() -> None:
    result = CliRunner().invoke(bench, ["dedup"])
    assert result.exit_code == 2
    assert "dedupe" in result.output
