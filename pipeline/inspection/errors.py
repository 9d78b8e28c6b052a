"""What ends a command that asks others."""

from __future__ import annotations

import os

import click

__all__ = ["SinkUnusable", "Unavailable"]


class Unavailable(click.ClickException):
    """The broker or the worker that was asked does not answer; the text is a sentence with what to do.

    The exit status is 69, or another of sysexits.h that says why.
    """

    def __init__(self, text: str, *, status: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.exit_code = status


class SinkUnusable(Exception):
    """The CRM cannot be written: what was found, and what to do about it. Neither holds a secret or a driver's text.

    `status` is 78 where what is set is wrong, 69 where it may be right, and the CRM can be mended or comes back.
    """

    def __init__(self, found: str, advice: str, *, status: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice
        self.status = status
