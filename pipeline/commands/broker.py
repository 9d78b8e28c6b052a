"""`leads broker`: the embedded broker alone, for as long as the command runs."""

from __future__ import annotations

import signal
from pathlib import Path

import click

from pipeline.embedded import Broker, BrokerError
from pipeline.settings import EMBEDDED_BROKER_URL, BadSetting, Settings

__all__ = ["broker"]

_DEFAULT_PORT = int(EMBEDDED_BROKER_URL.rpartition(":")[2])


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=_DEFAULT_PORT, show_default=True, help="TCP port on 127.0.0.1."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where it keeps its data. [default: LEADS_DATA_DIR/broker]",
)
def broker(port: int, data_dir: Path | None) -> None:
    """Run a Kafka broker until Ctrl-C.

    It needs no installation: the first start fetches Kafka. What it acknowledges survives killed processes, but not a
    loss of power, because there is no second broker.
    """
    # A supervisor's SIGTERM is to stop the broker in order, as Ctrl-C does, also while it is being started.
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _run(port, data_dir)
    except (BrokerError, BadSetting) as error:
        raise click.ClickException(str(error)) from None
    finally:
        signal.signal(signal.SIGTERM, former)


def _run(port: int, data_dir: Path | None) -> None:
    server = Broker(data_dir or Settings.from_env().data_dir / "broker", port=port)
    try:
        with server:
            click.echo(
                f"Kafka listens on {server.url} (data in {server.data_dir}). "
                "What it acknowledges survives killed processes, but not a loss of power."
            )
            status = server.wait()
    except KeyboardInterrupt:
        return
    raise BrokerError(f"The broker ended by itself with status {status}; its log is {server.log_file}.")
