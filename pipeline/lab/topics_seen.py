"""What the cluster says of the topics' replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.kafka import client_options
from pipeline.settings import Settings
from pipeline.topic_names import CAPTURED

__all__ = ["in_sync", "leader"]

REQUEST_TIMEOUT_MS = 5_000


async def leader(settings: Settings, partition: int) -> int:
    """The node that leads a partition of `lead-captured`, -1 when nobody does, or nobody can say."""
    try:
        async with _admin(settings) as admin:
            (described,) = await admin.describe_topics([CAPTURED])
    except (KafkaError, OSError):
        return -1
    return next((int(one["leader"]) for one in described["partitions"] if one["partition"] == partition), -1)


async def in_sync(settings: Settings) -> bool:
    """Whether every partition of every topic has a leader and all its replicas."""
    try:
        async with _admin(settings) as admin:
            described = await admin.describe_topics()
    except (KafkaError, OSError):
        return False
    partitions = [one for topic in described for one in topic["partitions"]]
    return all(one["leader"] >= 0 and len(one["isr"]) == len(one["replicas"]) for one in partitions)


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=REQUEST_TIMEOUT_MS)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
