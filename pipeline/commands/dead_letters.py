"""`leads dead-letters`: what could not be written and why, and sending it on its way again."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click

from pipeline.dead_letters import REASONS
from pipeline.inspection.answers import BadName, lead_name
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.offsets import NoTopics
from pipeline.interrupts import STATUS_INTERRUPTED, interruptible
from pipeline.letters.filters import Filters, moment_ms
from pipeline.letters.found import DeadLetter
from pipeline.letters.output import CannotPrint
from pipeline.letters.replay import Outcome
from pipeline.letters.runs import replay as replay_letters
from pipeline.letters.runs import tell
from pipeline.letters.sending import AGAIN, GaveUp
from pipeline.letters.shown import as_json, header, in_full, in_full_as_json, line
from pipeline.settings import Settings

__all__ = ["dead_letters"]

STATUS_SKIPPED = 1

_Result = TypeVar("_Result")
_Command = TypeVar("_Command", bound=Callable[..., Any])


@click.group()
def dead_letters() -> None:
    """Show what could not be written, and send it on its way again.

    Kafka is asked directly, so this works while all workers are down. The place of a letter is its PARTITION and OFFSET
    in lead-dead-letter. A letter that was appended again after a crash is shown once.

    The exit status is 69 when the broker does not answer, 1 when there is no such topic yet, 130 at Ctrl-C.
    """


def _moment(context: click.Context, option: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else moment_ms(text, time.time())
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _key(context: click.Context, option: click.Parameter, name: str | None) -> bytes | None:
    try:
        return None if name is None else "/".join(lead_name(name)).encode()
    except BadName as error:
        raise click.BadParameter(str(error)) from None


_FILTERS = (
    click.option("--reason", "reasons", type=click.Choice(REASONS), multiple=True, help="May be given several times."),
    click.option("--tenant", metavar="NAME"),
    click.option("--id", "key", metavar="TENANT/ID", callback=_key, help="Of this lead, named as for `leads status`."),
    click.option("--since", "since_ms", metavar="TIME", callback=_moment, help="ISO 8601 (UTC), or 2h: two hours ago."),
    click.option("--until", "until_ms", metavar="TIME", callback=_moment, help="Before it; as --since."),
    click.option("--group", metavar="NAME", help="Written by this consumer group."),
    click.option("--json", "is_json", is_flag=True, help="One JSON object a line."),
)


def _filtered(command: _Command) -> _Command:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


def _filters(reasons: tuple[str, ...], **given: Any) -> Filters:
    return Filters(reasons=frozenset(reasons), **given)


@dead_letters.command("list")
@_filtered
def list_letters(is_json: bool, **given: Any) -> None:
    """List dead letters, each in a line: nothing of a lead but its name.

    The JSON objects have `time`, `reason`, `tenant`, `message_id`, `group`, `origin` (`topic`, `partition`, `offset`),
    `letter` (`partition`, `offset`) and `detail`.
    """
    head, shown = (None, _json(as_json)) if is_json else (header(), line)
    reading = _run(tell(Settings.from_env(), _filters(**given), shown, head=head))
    repeats = f" ({reading.repeats:,} repeated after a crash, not shown again)" if reading.repeats else ""
    _say(f"{reading.count:,} dead letter{'' if reading.count == 1 else 's'}{repeats}.", err=is_json)


@dead_letters.command()
@click.argument("place", nargs=-1, type=click.IntRange(min=0), metavar="[PARTITION OFFSET]")
@_filtered
def show(place: tuple[int, ...], is_json: bool, **given: Any) -> None:
    """Show everything of dead letters, the leads too. Give the place of one, or filters.

    The JSON objects have all members of those of `list`, the whole `detail`, and `key`, `value` and `headers`; what is
    not UTF-8 is an object with its `base64`. The exit status is 1 when there is no such letter.
    """
    filters = _filters(**given)
    if len(place) not in (0, 2):
        raise click.UsageError("Give both the partition and the offset of a letter, or neither.")
    if not place and filters.is_empty:
        raise click.UsageError("Say which: give the partition and the offset of a letter, or a filter.")
    shown = _json(in_full_as_json) if is_json else lambda one: f"{in_full(one)}\n"
    at = (place[0], place[1]) if place else None
    if not _run(tell(Settings.from_env(), filters, shown, place=at)).count:
        raise click.ClickException("There is no such dead letter.")


@dead_letters.command()
@_filtered
@click.option("--all", "is_all", is_flag=True, help="Every letter; else give a filter.")
@click.option("--dry-run", is_flag=True, help="List the letters whose leads would be sent, send nothing.")
@click.option(
    "--patience", "patience_s", type=click.IntRange(min=1), default=30, show_default=True, metavar="SECONDS",
    help="Give up when the broker has sent or acknowledged nothing for so long.",
)  # fmt: skip
def replay(is_all: bool, dry_run: bool, patience_s: int, is_json: bool, **given: Any) -> None:
    """Send leads of dead letters to the CRM again, when what kept them out is mended.

    They go to lead-accepted as they were, and every CRM that reads it keeps what it has. Letters of other CRMs are left
    alone unless --group names theirs. Skipped is what a replay cannot help: an id-conflict, and what is no lead.

    With --json there is an object for each letter: those of `list`, `outcome` (sent, would-be-sent or skipped) and
    `why`; the counts go to stderr. To replay again is harmless. Exit status: 0 all sent, 1 letters skipped, 75 given
    up, 69 the broker does not answer or refuses, 130 Ctrl-C.
    """
    filters = _filters(**given)
    if is_all is not filters.is_empty:
        raise click.UsageError("Say which: give a filter, or --all and none.")
    outcome = Outcome()
    sent = "would be sent, none was" if dry_run else "sent to lead-accepted"
    work = replay_letters(
        Settings.from_env(),
        filters,
        outcome,
        _replayed_as_json(dry_run) if is_json else _would_be_replayed if dry_run else lambda one, why: "",
        head=None if is_json else header(),
        dry_run=dry_run,
        patience_s=patience_s,
    )
    _run(work, before_its_end=lambda: _stopped(outcome, sent, is_json))
    _sum_up(outcome, sent, is_json)
    sys.exit(STATUS_SKIPPED if outcome.skipped else 0)


def _json(members: Callable[[DeadLetter], dict[str, Any]]) -> Callable[[DeadLetter], str]:
    return lambda one: json.dumps(members(one))


def _replayed_as_json(dry_run: bool) -> Callable[[DeadLetter, str | None], str]:
    sent = "would-be-sent" if dry_run else "sent"
    return lambda one, why: json.dumps({**as_json(one), "outcome": "skipped" if why else sent, "why": why})


def _would_be_replayed(one: DeadLetter, why: str | None) -> str:
    return "" if why else line(one)


def _sum_up(outcome: Outcome, sent: str, is_json: bool) -> None:
    for text in outcome.lines(sent):
        _say(text, err=is_json)


def _stopped(outcome: Outcome, sent: str, is_json: bool) -> None:
    _sum_up(outcome, f"{sent}, the rest not confirmed", is_json)
    click.echo(AGAIN, err=True)


def _run(work: Coroutine[Any, Any, _Result], before_its_end: Callable[[], None] = lambda: None) -> _Result:
    """The result of `work`. When it cannot go on, `before_its_end` says how far it came."""
    try:
        return asyncio.run(interruptible(work))
    except NoTopics as error:
        raise click.ClickException(str(error)) from None
    except GaveUp:
        before_its_end()
        raise
    except CannotPrint as error:
        before_its_end()
        raise _unprintable(error.error) from None
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        before_its_end()
        sys.exit(STATUS_INTERRUPTED)


def _say(text: str, *, err: bool) -> None:
    try:
        click.echo(text, err=err)
    except OSError as error:
        raise _unprintable(error) from None


def _unprintable(error: OSError) -> Exception:
    if error.errno == errno.EPIPE:
        return error  # `… | head`: click ends it quietly
    return Unavailable(f"What was found cannot be printed: {error.strerror}.", status=os.EX_IOERR)
