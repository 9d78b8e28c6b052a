"""The plain script with which the generic contenders are audited and mended: `python -m pipeline.lab.plain_repair`.

It reads the whole topic, compares it with the table, and inserts what is missing. It must run when nothing is on its
way, else that looks missing, too. Submissions that were counted twice it cannot mend: nothing says which ones.

Prints how many leads it brought back, and how many seconds that took. Run only by the comparison.
"""

from __future__ import annotations

import asyncio
import os
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pipeline.lab import compare_crm
from pipeline.lab.kafka import PARTITIONS
from pipeline.lab.plain_crm import Taken, connect, write

__all__ = ["mend"]

WRITE_LEADS = 1000


async def mend(bootstrap: str, topic: str, url: str) -> tuple[int, float]:
    """Insert what is missing; returns how many that were, and how long it took to insert them."""
    pool = await connect(url)
    try:
        async with pool.acquire() as connection:
            there = await compare_crm.written(connection)
        captured = await _records(bootstrap, topic)
        missing = [record for key, record in captured.items() if key not in there]
        found_s = time.monotonic()
        for start in range(0, len(missing), WRITE_LEADS):
            await write(pool, missing[start : start + WRITE_LEADS])
    finally:
        await pool.close()
    return len(missing), time.monotonic() - found_s if missing else 0.0


async def _records(bootstrap: str, topic: str) -> dict[str, Taken]:
    """The first record of each key."""
    found: dict[str, Taken] = {}
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as consumer:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        ends = await consumer.end_offsets(tps)
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    found.setdefault(
                        record.key.decode(), Taken(record.value, record.partition, record.offset, record.timestamp)
                    )
    return found


if __name__ == "__main__":
    print(*asyncio.run(mend(os.environ["LAB_BOOTSTRAP"], os.environ["LAB_TOPIC"], os.environ["LAB_CRM_URL"])))
