"""`leads offsets`: how far every consumer group has come, asked of Kafka alone."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live

from pipeline.inspection.connection import connected
from pipeline.inspection.offsets import NoSuchGroup, NoTopics, positions
from pipeline.inspection.positions import GroupPosition
from pipeline.inspection.tables import brief, full
from pipeline.settings import Settings

__all__ = ["offsets"]

REFRESH_S = 2.0

#: What was found, or why nothing was.
_Moment = list[GroupPosition] | str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables; with --watch one per line.")
@click.option("--watch", is_flag=True, help=f"Again every {REFRESH_S:g} s, until Ctrl-C.")
@click.option("--group", "only", metavar="NAME", help="Of this consumer group alone.")
def offsets(as_json: bool, watch: bool, only: str | None) -> None:
    """Show how far the workers have come: offsets, lag and owner of every partition.

    Kafka is asked directly, so this works while all workers are down. COMMITTED is the next offset to read, LAG counts
    from there to the end of the log, OLDEST PENDING is the age of the first record to read. The owner of a partition is
    a worker, by its URL.

    The JSON object has `at` (UTC) and `positions`: for each topic and group `topic`, `group`, `state` (Kafka's word),
    `members`, `lag`, `oldest_pending_age_s`, `warnings` (sentences) and `partitions`, each with `partition`,
    `log_start`, `log_end`, `committed`, `lag`, `oldest_pending_age_s`, `owner` and `lost` (offsets that retention
    deleted before they were read). What is not known is null. With --watch an object has `error` instead of `positions`
    while the broker is away.

    The exit status is 69 when the broker does not answer, 1 when there are no topics or no such group.
    """
    settings = Settings.from_env()
    if watch:
        with suppress(KeyboardInterrupt), _interrupts() as interrupted:
            _show(_moments(settings, only, interrupted), settings.app_id, as_json=as_json, live=True)
    else:
        _show(iter([_asked(settings, only)]), settings.app_id, as_json=as_json)


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Set by Ctrl-C. It raises as well, but what it raises can be lost: in a task that swallows its cancellation, or in
    the finalizer of what a broken connection left behind.
    """
    interrupted = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, former)


def _show(moments: Iterator[_Moment], app_id: str, *, as_json: bool, live: bool = False) -> None:
    if as_json:
        _as_json(moments, app_id)
    else:
        _as_tables(moments, app_id, live=live)


def _moments(settings: Settings, only: str | None, interrupted: threading.Event) -> Iterator[_Moment]:
    """What is found, again and again; only the first time a failure ends it: later a broker may come back."""
    yield _asked(settings, only)
    while not interrupted.wait(REFRESH_S):
        try:
            yield _asked(settings, only)
        except click.ClickException as error:
            yield error.message


def _asked(settings: Settings, only: str | None) -> list[GroupPosition]:
    try:
        return asyncio.run(_ask(settings, only))
    except (NoTopics, NoSuchGroup) as error:
        raise click.ClickException(str(error)) from None


async def _ask(settings: Settings, only: str | None) -> list[GroupPosition]:
    # A connection for each time: whatever happens to a broker in between, the next one starts afresh.
    async with connected(settings) as connection:
        return await positions(connection, settings, only)


def _as_json(moments: Iterator[_Moment], app_id: str) -> None:
    for moment in moments:
        at = {"at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        click.echo(json.dumps(at | _members(moment, app_id)))


def _members(moment: _Moment, app_id: str) -> dict[str, Any]:
    if isinstance(moment, str):
        return {"error": moment}
    return {"positions": [one.as_json(app_id) for one in moment]}


def _as_tables(moments: Iterator[_Moment], app_id: str, *, live: bool) -> None:
    console = Console(highlight=False)
    if not (live and console.is_terminal):
        for moment in moments:
            console.print(_view(moment, app_id))
        return
    with Live(console=console, auto_refresh=False) as display:
        for moment in moments:
            display.update(_fitting(console, moment, app_id), refresh=True)


def _fitting(console: Console, moment: _Moment, app_id: str) -> RenderableType:
    """All of it, or as much as the window has room for: what does not fit would be cut off where the totals are."""
    whole = _view(moment, app_id)
    lines = len(console.render_lines(whole))
    if lines < console.height or isinstance(moment, str):
        return whole
    views = (brief(moment, app_id, rows=rows, lines=lines) for rows in range(console.height, 0, -1))
    smallest = brief(moment, app_id, rows=0, lines=lines)
    return next((view for view in views if len(console.render_lines(view)) < console.height), smallest)


def _view(moment: _Moment, app_id: str) -> RenderableType:
    return moment if isinstance(moment, str) else full(moment, app_id)
