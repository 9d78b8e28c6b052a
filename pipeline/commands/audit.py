"""`leads audit`: what became of every captured lead, and sending again what is missing."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import time
from typing import Any

import click

from pipeline.audit.judgement import Judged
from pipeline.audit.report import Report, mended_lines, record_as_json
from pipeline.audit.runs import Request
from pipeline.audit.runs import audit as run_audit
from pipeline.audit.span import Range
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.offsets import NoTopics
from pipeline.interrupts import STATUS_INTERRUPTED, interruptible
from pipeline.letters.filters import moment_ms
from pipeline.letters.output import CannotPrint
from pipeline.letters.sending import AGAIN, GaveUp
from pipeline.settings import Settings

__all__ = ["audit"]

STATUS_ANOMALIES = 1

_OFFSET = click.IntRange(min=0, max=2**63 - 1)


def _moment(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else moment_ms(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--since", "since_ms", metavar="TIME", callback=_moment, help="ISO 8601 (UTC), or 2h: two hours ago.")
@click.option("--until", "until_ms", metavar="TIME", callback=_moment, help="Before it; as --since.")
@click.option("--partition", type=click.IntRange(0, 65535), metavar="NUMBER", help="Only this one.")
@click.option("--from", "start", type=_OFFSET, metavar="OFFSET", help="With --partition: from this offset on.")
@click.option("--to", "end", type=_OFFSET, metavar="OFFSET", help="With --partition: before this offset.")
@click.option("--deduped-by", metavar="GROUP", help="The group that dedupes, where another app does and several may.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of lines.")
@click.option("--records", "is_each", is_flag=True, help="Before it one JSON object a line for each record; as --json.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="COUNT",
    help="List so many anomalies of each kind; all are counted.",
)  # fmt: skip
@click.option("--mend", is_flag=True, help="Send what is lost or missing to lead-accepted again.")
@click.option("--dry-run", is_flag=True, help="With --mend: say how many that are, send nothing.")
@click.option(
    "--patience", "patience_s", type=click.IntRange(min=1), default=30, show_default=True, metavar="SECONDS",
    help="Give up when the broker has sent or acknowledged nothing for so long.",
)  # fmt: skip
def audit(
    is_json: bool, is_each: bool, limit: int, mend: bool, dry_run: bool, patience_s: int, deduped_by: str | None,
    **meant: Any,
) -> None:  # fmt: skip
    """Say what became of every record of lead-captured, while everything runs; only --mend writes anything.

    Each record is one of these: written (the CRM has it), a duplicate of an earlier one, dead-lettered, or pending. All
    else is an anomaly: lost, missing (it was in lead-accepted, and is not in the CRM), differs (the row with its id has
    other content), phantom and doubled (rows), counter (a contact's number of submissions is not its number of rows).
    What is not in the CRM and older than the oldest dead letter that is kept is counted as forgotten.

    Give the settings (LEADS_*) of the app whose CRM is meant. Of a part of the log, a repeat of a lead that came before
    is told as what became of that lead, and phantoms are not looked for.

    The JSON object has `app`, `deduped_by`, `at`, `everything`, `seconds`, `records`, `rows`, the counts `written`,
    `duplicate`, `dead_lettered` (by `reasons`), `pending`, `forgotten` and `anomalies` (`by_kind`), `listed` (each with
    `kind`, `partition`, `offset`, `tenant`, `message_id`, `what` and `mendable`; wrong counters with `submissions` and
    `rows`), `spooled` (`depth` and `age_s`, of the spool of this machine), `mended` (`sent`, `skipped` by reason; else
    null) and `dry_run`. With --records an object has `partition`, `offset`, `verdict`, and `of` or `reason`.

    The exit status is 1 when there are anomalies that were not mended, 69 when broker or CRM do not answer, 75 when
    mending was given up, 78 when the settings are not those of the CRM that was written, 130 at Ctrl-C.
    """
    if (meant["start"] is not None or meant["end"] is not None) and meant["partition"] is None:
        raise click.UsageError("Offsets are those of a partition: give --partition too.")
    if dry_run and not mend:
        raise click.UsageError("--dry-run is for --mend.")
    settings = Settings.from_env()
    report = Report(settings.app_id)
    request = Request(
        meant=Range(**meant), deduped_by=deduped_by, limit=limit, patience_s=patience_s, is_mend=mend,
        is_dry_run=dry_run, told=_print_record if is_each else None,
    )  # fmt: skip
    _run(settings, request, report)
    _print_report(report, is_json or is_each)
    sys.exit(STATUS_ANOMALIES if report.left else 0)


def _run(settings: Settings, request: Request, report: Report) -> None:
    try:
        asyncio.run(interruptible(run_audit(settings, request, report)))
    except NoTopics as error:
        raise Unavailable(str(error)) from None
    except GaveUp:
        _stopped(report)
        raise
    except CannotPrint as error:
        raise _unprintable(error.error) from None
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        _stopped(report)
        sys.exit(STATUS_INTERRUPTED)


def _stopped(report: Report) -> None:
    """Say how far mending has come."""
    if report.mended is not None:
        for line in mended_lines(report.mended, is_dry_run=report.is_dry_run):
            click.echo(line, err=True)
        click.echo(f"The rest is not confirmed. {AGAIN}", err=True)


def _print_record(one: Judged) -> None:
    try:
        click.echo(json.dumps(record_as_json(one)))
    except OSError as error:
        # No OSError, which would be taken for one of the broker's.
        raise CannotPrint(error) from None


def _print_report(report: Report, is_json: bool) -> None:
    try:
        for line in [json.dumps(report.as_json())] if is_json else report.lines():
            click.echo(line)
    except OSError as error:
        raise _unprintable(error) from None


def _unprintable(error: OSError) -> Exception:
    if error.errno == errno.EPIPE:
        return error  # `… | head`: click ends it quietly
    return Unavailable(f"What was found cannot be printed: {error.strerror}.", status=os.EX_IOERR)
