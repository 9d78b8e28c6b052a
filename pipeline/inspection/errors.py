"""What ends a command that asks others."""

from __future__ import annotations

import os

import click

__all__ = ["Unavailable"]


class Unavailable(click.ClickException):
    """The broker or the worker that was asked does not answer; the text is a sentence with what to do.

    The exit status is 69, or another of sysexits.h that says why.
    """

    def __init__(self, text: str, *, status: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.exit_code = status
