"""`leads compare`: what crashes and outages cost this product, and two others that do the same work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from pipeline.embedded import BrokerError, PostgresError
from pipeline.interrupts import STATUS_INTERRUPTED, interruptible
from pipeline.lab.bars import require_matplotlib
from pipeline.lab.compare import Comparison, Sizes, write
from pipeline.lab.compare_contenders import CONTENDERS, FULL, Contender
from pipeline.lab.compare_report import Report, costs, flaws, notes, table
from pipeline.lab.program import LabError
from pipeline.sending.display import Display
from pipeline.settings import Settings

__all__ = ["compare"]

STATUS_FLAWED = 1
#: Narrower, the table would be cut off in a file.
WIDTH_MIN_CHARS = 100


class _Ended(click.ClickException):
    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_code = status


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of leads and faults.")
@click.option("--leads", type=click.IntRange(min=100), default=10_000, show_default=True, help="For each contender.")
@click.option("--kills", type=click.IntRange(min=0), default=6, show_default=True, help="Workers killed by SIGKILL.")
@click.option("--full", is_flag=True, help="Also exactly once with a standby replica and static membership.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="For the result.  [default: a new directory in LEADS_DATA_DIR/compare]",
)  # fmt: skip
def compare(seed: int, leads: int, kills: int, full: bool, out: Path | None) -> None:
    """Run the same leads and faults through four services, and print what it cost each.

    They are a plain aiokafka consumer with automatic commits, stock Faust, and this product with both guarantees.
    Broker and PostgreSQL are its own and are removed afterwards. Workers are killed, one joins and leaves, the database
    hangs and stops, all at times that follow from the seed. It takes ten minutes on two cores.

    DIR gets compare.json, compare.svg and compare.html, which explains every measure.

    Exit status: 0 measured, and this product lost and doubled nothing; 1 it did; 69 broker or database cannot be
    started; 70 a service cannot be run or measured; 73 DIR cannot be written; 78 something is missing here; 130 Ctrl-C.
    """
    settings = Settings.from_env()
    out = out or settings.data_dir / "compare" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    try:
        require_matplotlib("leads compare")
    except LabError as error:
        raise _Ended(str(error), os.EX_CONFIG) from None
    _make(out)
    who = (*CONTENDERS, FULL) if full else CONTENDERS
    report = _measured(Sizes(seed, leads, kills, backlog=leads // 2), who)
    path = write(report, out)
    _print(report)
    click.echo(f"Written to {path}")
    sys.exit(STATUS_FLAWED if flaws(report.results) else 0)


def _make(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Ended(f"{out} cannot be made ({error.strerror}); give another --out.", os.EX_CANTCREAT) from None


def _measured(sizes: Sizes, who: tuple[Contender, ...]) -> Report:
    # So that a SIGTERM too leaves no broker, no workers and no files behind.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What matters is raised; the rest is about topics and groups that are a moment old, or that workers leave.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        with (
            Display(sizes.leads * len(who), "accepted") as display,
            Comparison(sizes, moved=lambda count: display.show(count, count), say=display.say) as comparison,
        ):
            return asyncio.run(interruptible(comparison.run(who)))
    except KeyboardInterrupt:
        click.echo("Stopped; there is no result.", err=True)
        sys.exit(STATUS_INTERRUPTED)
    except (BrokerError, PostgresError) as error:
        raise _Ended(str(error), error.status) from None
    except LabError as error:
        raise _Ended(str(error), os.EX_SOFTWARE) from None
    finally:
        signal.signal(signal.SIGTERM, former)


def _print(report: Report) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, WIDTH_MIN_CHARS))
    console.print(table(report))
    for line in (*notes(report), *costs(report.results), *flaws(report.results)):
        click.echo(line)
