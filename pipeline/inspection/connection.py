"""The questions to the brokers: topics, groups, offsets, records. One admin client and one consumer without a group."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    NodeNotReadyError,
    RequestTimedOutError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import TopicPartition

from pipeline.connection import connect
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.members import Member
from pipeline.kafka import CannotConnect, client_options, closed
from pipeline.records import install_reader
from pipeline.settings import Settings

__all__ = ["Connection", "Group", "connected", "each"]

#: For each answer of a broker.
REQUEST_TIMEOUT_MS = 5_000
#: How long a question is asked again after "loading", "no coordinator yet" and the like, and when one of several
#: brokers has just gone.
PATIENCE_S = 5.0
RETRY_S = 0.1
#: Of one partition in one fetch; a broker sends a larger record batch whole when it is the first.
FETCH_SIZE_MAX_BYTES = 64 * 1024

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Group:
    """A consumer group: its state in Kafka's words, its members, and what it has committed (next offsets)."""

    name: str
    state: str
    members: list[Member]
    committed: dict[TopicPartition, int]


class Connection:
    """An open connection. Every method raises KafkaError when a broker does not answer."""

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        self._admin = admin
        self.consumer = consumer

    async def brokers(self) -> list[str]:
        """The brokers of the cluster as `host:port`."""
        described = await _patiently(self._admin.describe_cluster)
        return sorted(f"{broker['host']}:{broker['port']}" for broker in described["brokers"])

    async def topics(self) -> dict[str, list[dict[str, Any]]]:
        """The partitions of every topic: objects with `partition`, `leader`, `replicas` and `isr`."""
        # Of all, because a question for one by name creates it where the broker is set so.
        return {one["topic"]: one["partitions"] for one in await _patiently(self._admin.describe_topics)}

    async def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """The settings of topics, each with what holds for it by default."""
        asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        found: dict[str, dict[str, str]] = {}
        for answer in await _patiently(lambda: self._admin.describe_configs(asked)) if asked else ():
            for code, message, _, topic, entries in answer.resources:
                if code:
                    raise for_code(code)(message or topic)
                found[topic] = {name: value for name, value, *_ in entries}
        return found

    async def group_names(self) -> list[str]:
        """Every group of consumers that the cluster knows."""
        # A group without a protocol type has offsets that were committed from outside.
        listed = await _patiently(self._admin.list_consumer_groups)
        return sorted(name for name, kind in listed if kind in ("consumer", ""))

    async def group(self, name: str) -> Group:
        """What the coordinator of the group knows; of an unknown group nothing, and the state Dead."""
        return await _patiently(lambda: self._group(name))

    async def bounds(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        """Start and end of the log of each partition; all must have a leader."""
        asked = list(tps)
        starts = await self.consumer.beginning_offsets(asked)
        ends = await self.consumer.end_offsets(asked)
        return {tp: (starts[tp], ends[tp]) for tp in asked}

    async def _group(self, name: str) -> Group:
        node = await self._admin.find_coordinator(name)
        # Not aiokafka's list_consumer_group_offsets: that takes an error of the whole group for "nothing committed".
        offsets = await self.consumer._client.send(node, OffsetFetchRequest(name, None))
        _require(offsets.error_code, name)
        # One at a time: aiokafka reads the answer for a second one at the wrong place (it lacks a field of version 3).
        (described,) = await self._admin.describe_consumer_groups([name], group_coordinator_id=node)
        code, _, state, _, _, members, *_ = described.groups[0]
        _require(code, name)
        return Group(name, state, [Member(*member[:5]) for member in members], _committed(offsets.topics))


@asynccontextmanager
async def connected(
    settings: Settings, *, fetch_size_max_bytes: int = FETCH_SIZE_MAX_BYTES
) -> AsyncIterator[Connection]:
    """A connection to the broker of `settings`.

    Args:
        settings: those of the broker.
        fetch_size_max_bytes: of one partition in one fetch; whoever reads much wants much.

    Raises:
        Unavailable: there is none, or it fails while it is used.
    """
    # What matters is raised; aiokafka also logs it, several times over.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    install_reader()
    try:
        await connect(settings)
    except CannotConnect as error:
        raise Unavailable(str(error), status=error.status) from None
    options = {**client_options(settings), "request_timeout_ms": REQUEST_TIMEOUT_MS}
    admin = AIOKafkaAdminClient(**options)
    consumer = AIOKafkaConsumer(
        **options,
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=fetch_size_max_bytes,
        fetch_max_wait_ms=100,
    )
    try:
        await admin.start()
        await consumer.start()
        yield Connection(admin, consumer)
    except (KafkaError, OSError) as error:
        raise Unavailable(_sentence(settings, error)) from None
    finally:
        await closed(consumer.stop(), admin.close())


async def each(names: Iterable[str], ask: Callable[[str], Awaitable[_Answer]], *, at_once: int = 8) -> list[_Answer]:
    """The answers for all names, `at_once` questions on the way at any time."""
    turns = asyncio.Semaphore(at_once)

    async def one(name: str) -> _Answer:
        async with turns:
            return await ask(name)

    return await asyncio.gather(*(one(name) for name in names))


async def _patiently(ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or asyncio.get_running_loop().time() > deadline_s:
                raise
        await asyncio.sleep(RETRY_S)


def _require(code: int, name: str) -> None:
    if code:
        raise for_code(code)(name)


def _committed(topics: Iterable[tuple[str, Iterable[tuple[int, int, str, int]]]]) -> dict[TopicPartition, int]:
    found = {}
    for topic, partitions in topics:
        for number, offset, _, code in partitions:
            _require(code, f"{topic}/{number}")
            if offset >= 0:
                found[TopicPartition(topic, number)] = offset
    return found


def _sentence(settings: Settings, error: Exception) -> str:
    todo = "Start it with `leads up` or `leads broker`" if settings.embedded else "See that it runs"
    return (
        f"The broker at {settings.broker_url} does not answer ({_reason(error)}). "
        f"{todo}, or set LEADS_BROKER_URL to where it is."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, KafkaConnectionError | NodeNotReadyError):
        return "no connection"  # their texts list addresses and node ids in the words of a programmer
    if isinstance(error, KafkaTimeoutError | RequestTimedOutError | TimeoutError):
        return "no answer in time"  # these name what was called, or nothing
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error).rstrip(".") or type(error).__name__
