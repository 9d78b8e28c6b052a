"""What a command prints while it reads: rows on stdout, and a progress bar on stderr where somebody looks at it."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import TracebackType

import click

from pipeline.letters.reading import Reading
from pipeline.sending.display import Display

__all__ = ["CannotPrint", "Output"]


class CannotPrint(Exception):
    """Nobody takes what is printed. No OSError, so that it is not mistaken for one of the broker's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Output:
    """Rows and the bar; a context manager.

    Arguments:
        reading: whose letters are counted.
        offsets: how many are to be read.
        head: printed before the first row.
    """

    def __init__(self, reading: Reading, offsets: int, head: str | None = None) -> None:
        self._reading = reading
        self._display = Display(offsets, "found", unit="letters")
        # On a terminal that shows both the rows must not go through the bar.
        self._echo = self._display.say if sys.stdout.isatty() and sys.stderr.isatty() else click.echo
        self._head = head
        self._rows: list[str] = []

    def __enter__(self) -> Output:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # What is known is shown, whatever the end is; nobody who takes it is no news then.
            with suppress(*(() if error is None else (CannotPrint,))):
                self._flush()
        finally:
            self._display.__exit__(kind, error, trace)

    def print(self, text: str) -> None:
        """Print rows, with the next move or at the end, or nothing when there are none."""
        if text:
            self._rows.append(text)

    def moved(self, offsets: int) -> None:
        """So many offsets are read.

        Raises:
            CannotPrint: stdout is closed, or its disk is full.
        """
        self._flush()
        self._display.show(offsets, self._reading.count)

    def _flush(self) -> None:
        """Print what waits, at once: above a bar each print costs as much as drawing that."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        head, self._head = self._head, None
        try:
            self._echo("\n".join([*filter(None, (head,)), *rows]))
        except OSError as error:
            raise CannotPrint(error) from None
