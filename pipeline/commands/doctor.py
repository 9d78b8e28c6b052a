"""`leads doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

import json
import os
import sys

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.inspection.checks import findings
from pipeline.inspection.findings import Finding, Level, worst

__all__ = ["doctor"]

_STYLES = {Level.OK: "green", Level.SKIPPED: "dim", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def doctor(as_json: bool) -> None:
    """Look at settings, machine, broker, topics, CRM and clocks, and say what to do about what is wrong.

    Nothing is changed. The JSON object has `status` (the worst of all: ok, warning or problem) and `checks`, each
    with `check`, `level` (these, or skipped), `found` and `advice`. The exit status is 1 when there is a problem, else
    0.
    """
    found: list[Finding] = []
    console = Console(highlight=False)
    for finding in findings(os.environ):
        found.append(finding)
        if not as_json:
            console.print(_line(finding))
    if as_json:
        click.echo(json.dumps({"status": worst(found), "checks": [finding.as_json() for finding in found]}))
    sys.exit(1 if worst(found) is Level.PROBLEM else 0)


def _line(finding: Finding) -> Table:
    line = Table.grid(padding=(0, 2, 0, 0))
    line.add_column(width=7)
    line.add_column(width=14)
    line.add_column(overflow="fold")
    text = f"{finding.found}\n→ {finding.advice}" if finding.advice else finding.found
    line.add_row(Text(finding.level, style=_STYLES[finding.level]), finding.check, Text(text))
    return line
