"""What a command prints while it reads: rows on stdout, and a progress bar on stderr where somebody looks at it."""

from __future__ import annotations

import sys
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

    def __enter__(self) -> Output:
        self._display.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.__exit__(kind, error, trace)

    def print(self, text: str) -> None:
        """Print rows, or nothing when there are none.

        Raises:
            CannotPrint: stdout is closed, or its disk is full.
        """
        if not text:
            return
        head, self._head = self._head, None
        try:
            for one in filter(None, (head, text)):
                self._echo(one)
        except OSError as error:
            raise CannotPrint(error) from None

    def moved(self, offsets: int) -> None:
        """So many offsets are read."""
        self._display.show(offsets, self._reading.count)
