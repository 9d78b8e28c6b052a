"""`leads broker`: the embedded broker alone, for as long as the command runs."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from pipeline.embedded import Broker
from pipeline.settings import Settings

__all__ = ["broker"]


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port on 127.0.0.1. [default: LEADS_BROKER_PORT]")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where it keeps its data. [default: LEADS_DATA_DIR/broker]",
)
def broker(port: int | None, data_dir: Path | None) -> None:
    """Run a Kafka broker until Ctrl-C.

    It needs no installation: the first start fetches Kafka. What it acknowledges survives killed processes, but not a
    loss of power, because there is no second broker.
    """
    settings = Settings.from_env()
    # A supervisor's SIGTERM is to stop the broker in order, as Ctrl-C does, also while it is being started.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(Broker(data_dir or settings.data_dir / "broker", port=port or settings.broker_port))
    finally:
        signal.signal(signal.SIGTERM, former)


def _run(server: Broker) -> None:
    try:
        with server:
            click.echo(
                f"Kafka listens on {server.url} (data in {server.data_dir}). "
                "What it acknowledges survives killed processes, but not a loss of power."
            )
            status = server.wait()
    except KeyboardInterrupt:
        return
    raise server.failed(f"The broker ended by itself with status {status}; its log is {server.log_file}.")
