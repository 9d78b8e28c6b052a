"""`leads chaos`: faults by schedule over a steady load, and a checker that counts every lead."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from pipeline.embedded import BrokerError
from pipeline.interrupts import STATUS_INTERRUPTED
from pipeline.lab.chaos import run
from pipeline.lab.chaos_report import ChaosPlan, Report
from pipeline.lab.faults import FAULTS, nodes_for
from pipeline.lab.installation import POSTGRESQL, SQLITE
from pipeline.lab.program import LabError
from pipeline.sending.display import Display
from pipeline.settings import AT_LEAST_ONCE, EXACTLY_ONCE, Settings

__all__ = ["chaos"]

STATUS_VIOLATIONS = 1
RATE_DEFAULT = 500


def _names(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(FAULTS) if text == "all" else tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in FAULTS]:
        raise click.BadParameter(f"{unknown[0]!r} is none of: {', '.join(FAULTS)}.")
    return tuple(dict.fromkeys(names))


_LIST = "\n".join(f"  {fault.name:15}{fault.about}" for fault in FAULTS.values())


@click.command(epilog=f"\b\nThe faults:\n{_LIST}")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Another seed, another schedule."
)
@click.option(
    "--minutes", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="How long faults are inflicted."
)
@click.option(
    "--faults", default="all", show_default=True, metavar="NAME,...", callback=_names, help="Which; see below."
)
@click.option(
    "--guarantee",
    type=click.Choice((EXACTLY_ONCE, AT_LEAST_ONCE)),
    default=EXACTLY_ONCE,
    show_default=True,
    help="Of the workers.",
)
@click.option(
    "--database", type=click.Choice((POSTGRESQL, SQLITE)), default=POSTGRESQL, show_default=True, help="The CRM."
)
@click.option(
    "--nodes", type=click.Choice(("1", "3")), help="Brokers; 3 have three replicas. Default: 3 if a fault needs them."
)
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=RATE_DEFAULT,
    show_default=True,
    help="Leads per second, repeats and retries among them.",
)
@click.option("--leads", type=click.IntRange(min=1), help="End when so many different leads are accepted.")
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Keep everything there: logs, history, data of brokers and database. It must be new or empty.",
)  # fmt: skip
def chaos(keep: Path | None, nodes: str | None, faults: tuple[str, ...], **given: object) -> None:
    """Torture an installation of its own, and check that every lead is in its CRM once.

    Leads are sent to the workers over HTTP, about a tenth of them twice, while faults are inflicted by a schedule that
    follows from the seed. At the end everything is healed, and what was answered is compared with brokers and database:
    nothing may be lost, doubled, made up, altered, miscounted, and no checkpoint may have been ahead of a write.

    The report is a JSON file in LEADS_DATA_DIR/chaos. What a run with violations leaves behind is kept. Exit status: 0
    nothing is wrong, 1 violations or the run could not be made, 130 Ctrl-C.
    """
    plan = ChaosPlan(faults=faults, nodes=int(nodes or nodes_for(faults)), **given)  # type: ignore[arg-type]
    settings = Settings.from_env()
    directory = _directory(keep)
    # So that a SIGTERM too leaves no broker, no workers and no files behind.
    former = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    is_kept = keep is not None
    try:
        with Display(int(plan.minutes * 60), "answers of 202") as display:
            report = run(plan, directory, say=display.say, show=lambda s, count: display.show(int(s), count))
        is_kept = is_kept or not report.verdict.is_clean
    except (LabError, BrokerError) as error:
        is_kept = True
        raise click.ClickException(f"{error}\nWhat there is of it is in {directory}.") from None
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(STATUS_INTERRUPTED)
    finally:
        if not is_kept:
            shutil.rmtree(directory, ignore_errors=True)
        signal.signal(signal.SIGTERM, former)
    _tell(report, settings, directory if is_kept else None)
    sys.exit(0 if report.verdict.is_clean else STATUS_VIOLATIONS)


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="leads-chaos-"))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise click.BadParameter(f"{keep} is not empty.", param_hint="--keep")
    except OSError as error:
        raise click.BadParameter(f"{keep} cannot be used ({os.strerror(error.errno or 0)}).") from None
    return keep.absolute()


def _tell(report: Report, settings: Settings, kept: Path | None) -> None:
    console = Console(highlight=False)
    console.print(report.shown())
    console.print(f"Written to {report.write(settings.data_dir / 'chaos')}", soft_wrap=True)
    if kept:
        console.print(f"Logs, history and data are in {kept}", soft_wrap=True)
