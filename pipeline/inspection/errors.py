"""What ends a command with status 69."""

from __future__ import annotations

import os

import click

__all__ = ["Unavailable"]


class Unavailable(click.ClickException):
    """The broker or the worker that was asked does not answer; the text is a sentence with what to do."""

    exit_code = os.EX_UNAVAILABLE
