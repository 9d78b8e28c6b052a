"""What is shown on stderr: a progress bar where somebody looks at it, and lines that it does not overwrite."""

from __future__ import annotations

import sys
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

__all__ = ["Display"]


class Display:
    """A progress bar by what was read, or without an end when it is not known how much that will be; a context manager.

    Arguments:
        size: of what is read, such as the bytes of a file; None when it is not known.
        what: becomes of what is counted, such as "sent".
        unit: what is counted.
    """

    def __init__(self, size: int | None, what: str, *, unit: str = "leads") -> None:
        self._progress = _progress(what, unit, is_size_known=bool(size)) if sys.stderr.isatty() else None
        self._size = size

    def __enter__(self) -> Display:
        if self._progress:
            self._task = self._progress.add_task("", total=self._size or None, count="0", rate="0")
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def show(self, read: int, count: int) -> None:
        """Move the bar: so much is read, so many are done."""
        if self._progress:
            elapsed_s = self._progress.tasks[0].elapsed or 0.0
            rate = f"{count / elapsed_s:,.0f}" if elapsed_s else "0"
            self._progress.update(self._task, completed=read, count=f"{count:,}", rate=rate)

    def say(self, line: str) -> None:
        """Print a line."""
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def _progress(what: str, unit: str, *, is_size_known: bool) -> Progress:
    return Progress(
        BarColumn(),
        *([TaskProgressColumn()] if is_size_known else []),
        TextColumn("{task.fields[count]} " + what),
        TextColumn("{task.fields[rate]} " + f"{unit}/s"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        redirect_stdout=False,  # else what is printed goes to stderr, although stdout may be a file
    )
