"""`leads status`: what has become of a lead."""

from __future__ import annotations

import asyncio

import click

from pipeline.inspection.answers import BadName, in_words, problem, state, status_url
from pipeline.inspection.asking import Answer, get
from pipeline.inspection.errors import Unavailable
from pipeline.settings import Settings
from pipeline.showing import printable

__all__ = ["status"]


@click.command()
@click.argument("name", metavar="TENANT/ID")
@click.option("--url", metavar="URL", help="A worker. [default: one of this machine]")
@click.option("--json", "as_json", is_flag=True, help="The worker's answer as it came.")
def status(name: str, url: str | None, as_json: bool) -> None:
    """Say what has become of a lead: pending, written or dead-lettered.

    ID alone is of the tenant `default`. The `status_url` of a receipt can be given too: with its partition and offset a
    lead that the workers have not come to yet is pending rather than unknown.

    The exit status is 0 for any state, 1 when there is no such lead, 2 when the name cannot be one, 69 when no worker
    can say.
    """
    settings = Settings.from_env()
    base = url or settings.workers_url
    base = base if "://" in base else f"http://{base}"
    try:
        asked = status_url(base, name)
    except BadName as error:
        raise click.UsageError(f"That names no lead: {error}.") from None
    _tell(asyncio.run(get(asked, token=settings.ops_token)), as_json)


def _tell(answer: Answer, as_json: bool) -> None:
    found = state(answer.body) if answer.status == 200 else None
    if found is not None:
        return click.echo(answer.body.decode() if as_json else in_words(found))
    refused = problem(answer.body)
    if refused is None or answer.status == 200:
        raise Unavailable(
            f"What answers is no worker: status {answer.status}, and nothing about a lead. Give its --url."
        )
    if as_json:
        click.echo(answer.body)
    if answer.status == 404:
        raise click.ClickException(str(refused))
    if answer.status == 400:
        raise click.UsageError(str(refused))
    again = f" Ask again in {printable(answer.retry_after_s)} s." if answer.retry_after_s else ""
    raise Unavailable(f"{refused}{again}")
