"""`leads skip`: accept that records of a partition are not processed, and set the checkpoint behind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

import click
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline.batches.identity import log_ids
from pipeline.connection import connect
from pipeline.inspection.errors import SinkUnusable, Unavailable
from pipeline.inspection.sink import require_sink
from pipeline.kafka import client_options
from pipeline.settings import EXACTLY_ONCE, Settings
from pipeline.sinks import Lane, SinkUnavailable, StreamOffset, sink_for
from pipeline.topic_names import ACCEPTED

__all__ = ["skip"]


class _Number(click.ParamType):
    """A number, 0 or more, or one of some words."""

    name = "number"

    def __init__(self, *words: str) -> None:
        self._words = words

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if value in self._words:
            return value
        if not (value.isascii() and value.isdecimal()):
            self.fail(f"give a number, or {' or '.join(self._words)}", param, ctx)
        return int(value)


class _Step(NamedTuple):
    """Where the group stood in a partition (None: nowhere), and where it goes on."""

    before: int | None
    after: int


@click.command()
@click.argument("topic")
@click.argument("partition", type=_Number("all"))
@click.argument("offset", type=_Number("start", "end", "committed"))
def skip(topic: str, partition: str | int, offset: str | int) -> None:
    """Go on at OFFSET of PARTITION of TOPIC, whatever lies before it.

    For a checkpoint that retention has overtaken, or that belongs to another log. Stop all workers first. PARTITION may
    be `all`, OFFSET `start` or `end` of the log, or `committed`, where Kafka has the group. Where the CRM's database
    holds the checkpoint (lead-accepted, with LEADS_GUARANTEE=exactly-once), it is set there, too.

    The exit status is 69 when the broker or the CRM does not answer; run the command again then.
    """
    settings = Settings.from_env()
    # What matters is raised; aiokafka also logs it, in its own words.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        steps = asyncio.run(_skip(settings, topic, partition, offset))
    except CommitFailedError:
        raise click.ClickException(
            f"Workers of {settings.app_id} are running, or were until a moment ago. "
            f"Stop them all, and try again in {settings.session_timeout_s:g} s."
        ) from None
    except KafkaError as error:
        raise click.ClickException(f"The broker at {settings.broker_url} cannot do that: {error}") from None
    for tp, step in steps.items():
        stood = "nowhere" if step.before is None else f"at {step.before}"
        click.echo(f"{settings.app_id} goes on at {step.after} of {tp.topic}/{tp.partition} (it stood {stood}).")


async def _skip(settings: Settings, topic: str, partition: str | int, offset: str | int) -> dict[TopicPartition, _Step]:
    """Set the offsets, and return them and those of before."""
    in_sink = topic == ACCEPTED and settings.guarantee == EXACTLY_ONCE and "crm_sink" in settings.agents
    if in_sink:
        await _require_sink(settings)
    async with _consumer(settings) as consumer:
        tps = await _partitions(consumer, topic, partition)
        steps = await _steps(consumer, tps, offset)
        # Kafka first: it refuses while the group has members, and a worker's row must not be moved under it.
        await consumer.commit({tp: OffsetAndMetadata(step.after, "") for tp, step in steps.items()})
        if in_sink:
            await _put(settings, steps, (await log_ids(consumer._client, [topic]))[topic].hex())
    return steps


async def _require_sink(settings: Settings) -> None:
    """See that the CRM can be written before anything is."""
    try:
        await require_sink(settings)
    except SinkUnusable as error:
        raise Unavailable(f"{error.found}. Nothing was set. {error.advice}", status=error.status) from None


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    await connect(settings)
    consumer = AIOKafkaConsumer(**client_options(settings), group_id=settings.app_id, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str, partition: str | int) -> list[TopicPartition]:
    if topic not in await consumer.topics():  # else aiokafka would wait for it, and say so 400 times
        raise click.ClickException(f"There is no topic {topic}.")
    numbers = sorted(await consumer._client._wait_on_metadata(topic))
    if partition != "all" and partition not in numbers:
        raise click.ClickException(f"{topic} has no partition {partition}.")
    return [TopicPartition(topic, number) for number in numbers if partition in ("all", number)]


async def _steps(
    consumer: AIOKafkaConsumer, tps: list[TopicPartition], offset: str | int
) -> dict[TopicPartition, _Step]:
    consumer.assign(tps)
    starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
    steps = {}
    for tp in tps:
        committed = await consumer.committed(tp)
        words = {"start": starts[tp], "end": ends[tp], "committed": starts[tp] if committed is None else committed}
        after = words.get(str(offset), offset)
        if not starts[tp] <= int(after) <= ends[tp]:
            raise click.ClickException(
                f"{tp.topic}/{tp.partition} goes from {starts[tp]} to {ends[tp]}; choose from these. Nothing was set."
            )
        steps[tp] = _Step(committed, int(after))
    return steps


async def _put(settings: Settings, steps: Mapping[TopicPartition, _Step], log_id: str) -> None:
    """Put the rows of the CRM's database, by which its workers go."""
    sink = sink_for(settings.crm_url, password=settings.sink_password)
    try:
        await sink.open()
        for tp, step in steps.items():
            lane = Lane(settings.app_id, tp.topic, tp.partition)
            await sink.put_offset(lane, StreamOffset(step.after, log_id))
    except SinkUnavailable as error:
        raise Unavailable(
            f"The CRM cannot be written ({error}): Kafka's checkpoint is set, and the CRM's, by which workers go, "
            "may not be. Run the same command again."
        ) from None
    finally:
        await sink.close()
