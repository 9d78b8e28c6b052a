"""What is shown on stderr: a progress bar where somebody looks at it, and lines that it does not overwrite."""

from __future__ import annotations

import sys
from types import TracebackType

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

__all__ = ["Display"]


class Display:
    """A progress bar by the bytes of the file, or without an end when its size is not known; a context manager.

    Arguments:
        size_bytes: of the file, None when it is not known.
        what: becomes of the leads that are counted, such as "sent".
    """

    def __init__(self, size_bytes: int | None, what: str) -> None:
        self._progress = _progress(what, is_size_known=bool(size_bytes)) if sys.stderr.isatty() else None
        self._size_bytes = size_bytes

    def __enter__(self) -> Display:
        if self._progress:
            self._task = self._progress.add_task("", total=self._size_bytes or None, count="0", rate="0")
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def show(self, read_bytes: int, leads: int) -> None:
        """Move the bar: so much of the file is read, so many leads are done."""
        if self._progress:
            elapsed_s = self._progress.tasks[0].elapsed or 0.0
            rate = f"{leads / elapsed_s:,.0f}" if elapsed_s else "0"
            self._progress.update(self._task, completed=read_bytes, count=f"{leads:,}", rate=rate)

    def say(self, line: str) -> None:
        """Print a line."""
        if self._progress:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            click.echo(line, err=True)


def _progress(what: str, *, is_size_known: bool) -> Progress:
    return Progress(
        BarColumn(),
        *([TaskProgressColumn()] if is_size_known else []),
        TextColumn("{task.fields[count]} " + what),
        TextColumn("{task.fields[rate]} leads/s"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
