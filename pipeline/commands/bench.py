"""`leads bench`: how fast this machine is with this product, and with stock Faust beside it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable

import click

from pipeline.embedded import BrokerError
from pipeline.lab.bars import require_matplotlib
from pipeline.lab.bench.report import Report
from pipeline.lab.bench.run import BENCHMARKS, measure
from pipeline.lab.bench.sizes import FULL, QUICK
from pipeline.lab.bench.table import table, verdicts
from pipeline.lab.program import LabError
from pipeline.settings import Settings

__all__ = ["bench"]


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(list(BENCHMARKS)))
@click.option("--quick", is_flag=True, help="Small sizes: shows that it runs, not how fast.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, other leads.")
@click.option("--random-ids", is_flag=True, help="Message ids that are not ordered by time: harder for every index.")
def bench(names: tuple[str, ...], quick: bool, seed: int, random_ids: bool) -> None:
    """Measure this product beside stock Faust on a broker of their own.

    NAME is dedupe, path, sink, recovery, growth or scaleout; without one, all of them. The result also goes to a file
    in LEADS_DATA_DIR/bench. The exit status is 0 when everything was measured, whatever the rates are.
    """
    settings = Settings.from_env()
    # So that a SIGTERM too leaves no broker, no workers and no files behind.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What matters is raised; the rest is about topics and groups that are a moment old.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    started_s = time.monotonic()
    try:
        require_matplotlib("leads bench")
        sizes = QUICK if quick else FULL
        report = measure(names or tuple(BENCHMARKS), sizes, seed=seed, say=_progress(started_s), random_ids=random_ids)
    except (LabError, BrokerError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        raise click.Abort from None
    finally:
        signal.signal(signal.SIGTERM, former)
    click.echo(text(report))
    click.echo(f"Written to {report.write(settings.data_dir / 'bench')}; a plot of it beside.")


def text(report: Report) -> str:
    """The tables and the verdicts."""
    parts = [table(benchmark) for benchmark in report.benchmarks]
    lines = [str(verdict) for benchmark in report.benchmarks for verdict in verdicts(benchmark)]
    ids = "random" if report.random_ids else "time-ordered"
    leads = (
        f"Leads of {report.lead_size_mean_bytes:.0f} bytes with {ids} ids, seed {report.seed}. "
        f"One worker process each; the disk takes {report.fsync_ms:.2f} ms for an fsync."
    )
    return "\n" + "\n\n".join([leads, *parts, "\n".join(lines)])


def _progress(started_s: float) -> Callable[[str], None]:
    return lambda line: click.echo(f"[{time.monotonic() - started_s:5.0f} s] {line}", err=True)
