"""`leads skip`: accept that records of a partition are not processed, and set the checkpoint behind them."""

from __future__ import annotations

import asyncio

import click
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.connection import connect
from pipeline.kafka import client_options
from pipeline.settings import Settings

__all__ = ["skip"]


@click.command()
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@click.argument("offset", type=click.IntRange(min=0))
def skip(topic: str, partition: int, offset: int) -> None:
    """Go on at OFFSET of PARTITION of TOPIC, whatever lies before it.

    For a checkpoint that retention has overtaken, or that belongs to another log. Stop all workers first.
    """
    settings = Settings.from_env()
    try:
        before = asyncio.run(_set_offset(settings, TopicPartition(topic, partition), offset))
    except CommitFailedError:
        raise click.ClickException(
            f"Workers of {settings.app_id} are running, or were until a moment ago. "
            f"Stop them all, and try again in {settings.session_timeout_s:g} s."
        ) from None
    except KafkaError as error:
        raise click.ClickException(f"The broker at {settings.broker_url} cannot do that: {error}") from None
    click.echo(f"{settings.app_id} goes on at {offset} of {topic}/{partition} (it stood at {before}).")


async def _set_offset(settings: Settings, tp: TopicPartition, offset: int) -> int | None:
    """Set the group's offset, and return the one before. The broker refuses it while the group has members."""
    await connect(settings)
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=settings.app_id, enable_auto_commit=False)
    await consumer.start()
    try:
        known = tp.topic in await consumer.topics()  # else aiokafka would wait for it, and say so 400 times
        if not known or tp.partition not in await consumer._client._wait_on_metadata(tp.topic):
            raise click.ClickException(f"{tp.topic} has no partition {tp.partition}.")
        consumer.assign([tp])
        before: int | None = await consumer.committed(tp)
        log = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        if not log[0] <= offset <= log[1]:
            raise click.ClickException(f"{tp.topic}/{tp.partition} goes from {log[0]} to {log[1]}; choose from these.")
        await consumer.commit({tp: OffsetAndMetadata(offset, "")})
        return before
    finally:
        await consumer.stop()
