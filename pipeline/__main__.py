"""The program `leads`: our commands, and for every other word the Faust CLI of the app.

Each module of `pipeline.commands` holds a click command of the module's name. It is imported only when it is called,
because most do not need the app, and importing that takes a second.
"""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

import pipeline.commands
from pipeline.embedded import BrokerError
from pipeline.kafka import CannotConnect
from pipeline.settings import BadSetting
from pipeline.slots import SlotError

__all__ = ["Commands", "leads", "main"]

APP = "pipeline.app"


class Commands(click.Group):
    """The commands in `pipeline.commands`, by the names of their modules (`_` is written `-`)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        names = [module.name for module in pkgutil.iter_modules(pipeline.commands.__path__)]
        return sorted(name.replace("_", "-") for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now, or None when it is none of ours."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"pipeline.commands.{name}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=Commands,
    epilog="Every other command is Faust's, for this app: worker, agents, tables, model, models, reset, "
    "clean-versions, completion, livecheck. `leads worker -l info` is `faust -A pipeline.app worker -l info`.",
)
def leads() -> None:
    """Captures leads and writes each to the CRM once."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run `leads` with these arguments (default: those of the process) and exit.

    An expected error ends it with one sentence on stderr and the status of that error, one of sysexits.h.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    _open_closed_streams()
    _escape_what_cannot_be_encoded()
    try:
        _run(args)
    except (BadSetting, SlotError, BrokerError, CannotConnect) as error:
        click.echo(f"leads: {error}", err=True)
        sys.exit(error.status)


def _open_closed_streams() -> None:
    """Give what is printed a place to go to (`2>&-`): else a file opened later gets its descriptor."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program runs
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program runs


def _escape_what_cannot_be_encoded() -> None:
    """Where the locale has no UTF-8 a name of a lead, or a dash, is no reason to end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(args: list[str]) -> None:
    if not args or args[0] == "--help" or args[0] in leads.list_commands(click.Context(leads)):
        leads(args=args, prog_name="leads")
    else:
        _run_faust(args)


def _run_faust(args: list[str]) -> None:
    # Faust looks for the app in sys.argv itself before click parses anything, so that is where it must stand.
    sys.argv[1:] = ["-A", APP, *args]
    from faust.cli.faust import cli

    cli(prog_name="leads")


if __name__ == "__main__":
    main()
