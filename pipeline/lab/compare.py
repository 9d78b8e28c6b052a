"""`leads compare`: this product beside a plain consumer and stock Faust, the same leads and faults for all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded import Broker, Postgres, free_port
from pipeline.lab import bars, compare_crm
from pipeline.lab.compare_contenders import Contender, Place
from pipeline.lab.compare_page import page
from pipeline.lab.compare_plot import panels
from pipeline.lab.compare_report import Report
from pipeline.lab.compare_result import Result
from pipeline.lab.compare_run import Run
from pipeline.lab.compare_schedule import EPISODE_S, plan
from pipeline.lab.kafka import Kafka
from pipeline.lab.machine import machine
from pipeline.lab.workload import Workload

__all__ = ["COLUMNS", "Comparison", "Sizes", "write"]

VERSIONS = ("lead-pipeline", "aiokafka", "faust-streaming", "asyncpg")
#: Of the plot in a file and in a wide window.
COLUMNS = 3


@dataclass(frozen=True)
class Sizes:
    """What is run. The backlog comes after the faults; an episode is what the schedule has for each of them."""

    seed: int
    leads: int
    kills: int
    backlog: int
    episode_s: float = EPISODE_S


class Comparison:
    """Broker and PostgreSQL run inside its context; nothing is left behind. Enter it in the main thread.

    Args:
        sizes: what is run.
        moved: is told how many leads have been accepted, of all contenders.
        say: takes a line about the progress.
    """

    def __init__(self, sizes: Sizes, *, moved: Callable[[int], None], say: Callable[[str], None]) -> None:
        self._sizes = sizes
        self._moved = moved
        self._say = say

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="leads-compare-"))
        self._broker = Broker(self._directory / "broker", port=free_port())
        self._postgres = Postgres(self._directory / "postgres", port=free_port(taken=[self._broker.port]))
        try:
            self._broker.start()
            self._postgres.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        self._postgres.kill()
        self._broker.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def run(self, of: Sequence[Contender]) -> Report:
        """Compare them, one after the other.

        Raises:
            LabError: one of them cannot be run or measured.
        """
        started_at, sizes = datetime.now(UTC), self._sizes
        schedule = plan(sizes.seed, leads=sizes.leads, kills=sizes.kills, episode_s=sizes.episode_s)
        async with Kafka([self._bootstrap]) as kafka:
            results = [await self._one(kafka, contender, number) for number, contender in enumerate(of)]
        versions = {name: version(name) for name in VERSIONS}
        return Report(
            started_at, sizes.seed, sizes.leads, sizes.kills, sizes.backlog, schedule.seconds, schedule.rate,
            schedule.faults, machine(), versions, results,
        )  # fmt: skip

    async def _one(self, kafka: Kafka, contender: Contender, number: int) -> Result:
        sizes = self._sizes
        directory = self._directory / contender.id
        directory.mkdir()
        url = await compare_crm.create(self._postgres.url, contender.id)
        run = Run(
            contender,
            Place(self._bootstrap, url, directory),
            self._postgres,
            kafka,
            Workload(sizes.seed, sizes.leads),
            plan(sizes.seed, leads=sizes.leads, kills=sizes.kills, episode_s=sizes.episode_s),
            backlog=sizes.backlog,
            moved=lambda accepted: self._moved(number * sizes.leads + accepted),
            say=lambda line: self._say(f"{contender.title}: {line}"),
        )
        result = await run.measured()
        seen = result.measures
        self._say(
            f"{contender.title}: {seen.lost:,} of {seen.accepted:,} leads lost, {seen.doubled:,} counted twice, "
            f"in {result.seconds:.0f} s"
        )
        return result

    @property
    def _bootstrap(self) -> str:
        return f"127.0.0.1:{self._broker.port}"


def write(report: Report, directory: Path) -> Path:
    """Write `compare.json`, `compare.svg` and `compare.html` to `directory`; returns the path of the page.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "compare.json").write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    drawn = panels(report.results)
    wide, narrow = bars.svg(drawn, columns=COLUMNS), bars.svg(drawn, columns=1)
    (directory / "compare.svg").write_text(bars.standalone(wide), encoding="utf-8")
    path = directory / "compare.html"
    path.write_text(page(report, wide, narrow), encoding="utf-8")
    return path
