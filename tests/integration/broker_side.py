"""What others do behind the back of the workers: retention, transactions, a disk that is wiped."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from pipeline import topics
from tests.integration.installation import PARTITIONS, Installation, key, lead, partition

CHANGELOG = topics.changelog("leads", "seen")


def leads_in(number: int, count: int, prefix: str = "p") -> list[dict[str, Any]]:
    """`count` leads whose keys are all in the partition `number`."""
    found: list[dict[str, Any]] = []
    candidate = 0
    while len(found) < count:
        one = lead(f"{prefix}-{candidate:06d}")
        candidate += 1
        if partition(key(one)) == number:
            found.append(one)
    return found


def wipe(installation: Installation, state: str = "worker-*") -> None:
    """Remove the state of all workers, which are not running."""
    for directory in (installation.directory / "var").glob(state):
        shutil.rmtree(directory)


def delete_records(installation: Installation, topic: str, offsets: dict[int, int]) -> None:
    """Delete what lies before `offsets`, by partition, as retention does."""
    asyncio.run(_delete(installation.bootstrap, topic, offsets))


async def _delete(bootstrap: list[str], topic: str, offsets: dict[int, int]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(topic, number): RecordsToDelete(before_offset=at) for number, at in offsets.items()}
        )
    finally:
        await admin.close()


def starts(installation: Installation, topic: str) -> dict[int, int]:
    """Where the log of each partition starts."""
    return asyncio.run(_starts(installation.bootstrap, topic))


async def _starts(bootstrap: list[str], topic: str) -> dict[int, int]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return {tp.partition: start for tp, start in (await consumer.beginning_offsets(tps)).items()}


def transactions(installation: Installation, topic: str, *batches: tuple[list[dict[str, Any]], bool]) -> None:
    """Append leads in transactions, one after the other; those marked False are aborted. Each leaves a marker."""
    asyncio.run(_transactions(installation.bootstrap, topic, batches))


async def _transactions(
    bootstrap: list[str], topic: str, batches: tuple[tuple[list[dict[str, Any]], bool], ...]
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="others") as producer:
        for leads, is_committed in batches:
            await producer.begin_transaction()
            for one in leads:
                await producer.send_and_wait(
                    topic, json.dumps(one).encode(), key=key(one), partition=partition(key(one))
                )
            await (producer.commit_transaction() if is_committed else producer.abort_transaction())
