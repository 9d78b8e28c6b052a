"""`leads check-sink`: whether the CRM can be written, and what to do where not."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import click

from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.sink import require_sink
from pipeline.settings import Settings
from pipeline.showing import without_secrets

__all__ = ["check_sink"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def check_sink(as_json: bool) -> None:
    """Say whether the CRM of LEADS_SINK_URL can be reached and written. Nothing in it is changed.

    The JSON object has `sink` (its URL, without secrets), `ok`, `found` and `advice`. The exit status is 0 when workers
    can write it, 69 when it cannot be reached or written now, 78 when what is set is wrong.
    """
    settings = Settings.from_env()
    found, advice, status = asyncio.run(_look(settings))
    if as_json:
        told = {"sink": without_secrets(settings.crm_url), "ok": status == os.EX_OK, "found": found, "advice": advice}
        click.echo(json.dumps(told))
    elif status == os.EX_OK:
        click.echo(f"{_sentence(found)}.")
    else:
        click.echo(f"Error: {found}. {advice}", err=True)
    sys.exit(status)


async def _look(settings: Settings) -> tuple[str, str, int]:
    try:
        return await require_sink(settings), "", os.EX_OK
    except SinkUnusable as error:
        return error.found, error.advice, error.status


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" if text.startswith("the ") else text
