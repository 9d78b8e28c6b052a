"""`leads send`: the leads of a file to a worker."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

import aiohttp
import click
from yarl import URL

from pipeline.interrupts import STATUS_INTERRUPTED, interruptible
from pipeline.sending.client import Client, NotAccepting, leads_url
from pipeline.sending.display import Display
from pipeline.sending.entry import BadFile, FileError, Numbered, Refused, Unreadable
from pipeline.sending.files import FORMATS, Format, format_of_name, read
from pipeline.sending.sender import LANES, GaveUp, Sender
from pipeline.sending.source import Source
from pipeline.sending.tally import Tally
from pipeline.settings import Settings

__all__ = ["send"]

STATUS_REFUSED = 1

#: Between two moves of the bar when nothing is sent.
_SHOWN_EVERY_LINES = 200

_AGAIN = "Run the same command again later: what was accepted does not become another row."


class _Ended(click.ClickException):
    """Nothing more is to be done; one sentence on stderr, and a status of sysexits.h."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.exit_code = status


@click.command()
@click.argument("file")
@click.option("--url", help="A worker, such as http://host:6066.  [default: one of this machine]")
@click.option(
    "--format", "file_format", type=click.Choice(FORMATS), help="Of FILE; otherwise its name or content says."
)
@click.option("--dry-run", is_flag=True, help="Check every line, send nothing; needs no worker.")
@click.option(
    "--patience", type=click.IntRange(min=0), default=300, show_default=True, metavar="SECONDS",
    help="Give up when the worker has accepted nothing for so long.",
)  # fmt: skip
def send(file: str, url: str | None, file_format: Format | None, dry_run: bool, patience: int) -> None:
    """Send the leads of FILE, JSON lines or CSV, gzip or not; - is stdin.

    CSV needs a header. Columns that a lead does not have go into its fields; empty cells are left out. A row
    with more or fewer cells than the header is refused, and so is an empty tenant.

    A lead keeps its message_id. One that has none gets an id that follows from its content, so a file can be sent twice
    and adds nothing; two equal lines without an id are one lead.

    Refused lines are reported on stderr, the others are sent. Exit status: 0 everything accepted, 1 lines refused,
    65 the file is cut off or not what it should be, 66 it cannot be read, 69 what is at the URL takes no leads,
    74 the counts cannot be printed, 75 the worker has accepted nothing for too long.
    """
    settings = Settings.from_env()
    target = None if dry_run else _target(settings, url)
    tally = Tally()
    file_format = file_format or format_of_name(file)
    try:
        with _opened(file) as source:
            if target is None:
                _check(source, file_format, tally)
            else:
                asyncio.run(interruptible(_send(source, file_format, target, patience, tally)))
    except KeyboardInterrupt:
        _print(f"Stopped. {_summary(tally, dry_run)}, the rest not {'checked' if dry_run else 'confirmed'}.")
        if not dry_run:
            click.echo(_AGAIN, err=True)
        sys.exit(STATUS_INTERRUPTED)
    except (FileError, GaveUp, NotAccepting) as error:
        raise _ended(file, error, tally, dry_run) from None
    _print(f"{_summary(tally, dry_run)}.")
    sys.exit(STATUS_REFUSED if tally.refused else 0)


def _target(settings: Settings, url: str | None) -> URL:
    try:
        return leads_url(url or settings.workers_url)
    except ValueError:
        # Not the value: a URL may hold a password.
        raise click.BadParameter("write it as http://host:6066", param_hint="--url") from None


@contextmanager
def _opened(file: str) -> Iterator[Source]:
    """The file, unbuffered."""
    if file == "-":
        yield _source(_stdin())
    else:
        try:
            stream = io.FileIO(file)
        except OSError as error:
            raise Unreadable.of(error) from None
        with stream:
            yield _source(cast(BinaryIO, stream))


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise Unreadable("it is closed")
    # Its raw stream: at the end of the program nobody then waits for a thread that still reads a buffered one.
    return cast(BinaryIO, getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))


def _source(stream: BinaryIO) -> Source:
    return Source(stream, _size_bytes(stream))


def _size_bytes(stream: IO[bytes]) -> int | None:
    try:
        state = os.fstat(stream.fileno())
    except OSError:
        return None
    return state.st_size if stat.S_ISREG(state.st_mode) else None


def _check(source: Source, file_format: Format | None, tally: Tally) -> None:
    with Display(source.size_bytes, "checked") as display:
        for number, entry in enumerate(read(source, file_format)):
            if isinstance(entry, Numbered):
                tally.accept(entry.lead)
            else:
                _refuse(entry, tally, display)
            if number % _SHOWN_EVERY_LINES == 0:
                display.show(source.read_bytes, tally.accepted)
        display.show(source.read_bytes, tally.accepted)


def _refuse(refused: Refused, tally: Tally, display: Display) -> None:
    tally.refused += 1
    display.say(str(refused))


async def _send(source: Source, file_format: Format | None, url: URL, patience_s: int, tally: Tally) -> None:
    connector = aiohttp.TCPConnector(limit=LANES)
    with Display(source.size_bytes, "sent") as display:
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            await Sender(
                Client(session, url),
                tally,
                say=display.say,
                moved=lambda: display.show(source.read_bytes, tally.accepted),
                patience_s=patience_s,
            ).send(read(source, file_format))


def _summary(tally: Tally, dry_run: bool) -> str:
    return tally.text("valid") + ", nothing sent" if dry_run else tally.text("accepted")


def _print(text: str) -> None:
    try:
        click.echo(text)
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # `… | head`: click ends it quietly
        # What is left in its buffer: the end of the program would try once more, and fail in other words.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise _Ended(f"stdout takes nothing ({error.strerror}). It would say: {text}", os.EX_IOERR) from None


def _ended(file: str, error: Exception, tally: Tally, dry_run: bool) -> _Ended:
    """Print the counts; returns the sentence with which it ends."""
    if tally.accepted or tally.refused or isinstance(error, GaveUp):
        rest = "read" if isinstance(error, FileError) else "confirmed"
        _print(f"{_summary(tally, dry_run)}, the rest not {rest}.")
    name = "stdin" if file == "-" else file
    if isinstance(error, GaveUp):
        return _Ended(f"{error}. {_AGAIN}", os.EX_TEMPFAIL)
    if isinstance(error, BadFile):
        return _Ended(f"{name} cannot be used. {error}", os.EX_DATAERR)
    if isinstance(error, Unreadable):
        return _Ended(f"{name} cannot be read: {error}.", os.EX_NOINPUT)
    return _Ended(str(error), os.EX_UNAVAILABLE)
