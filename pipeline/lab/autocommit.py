"""A plain aiokafka consumer that commits automatically, as most services do: `python -m pipeline.lab.autocommit`.

It follows the example in aiokafka's documentation (`AIOKafkaConsumer`, "Getting started"):

    await consumer.start()
    try:
        async for msg in consumer: ...
    finally:
        # Will leave consumer group; perform autocommit if enabled.
        await consumer.stop()

and where that leaves a choice, the choice is the careful one; each is commented. An error of the database ends the
process with a traceback, and whoever runs it starts it again.

Why it loses leads all the same: what is committed is how far `getmany` has handed records out, not how far they are
written. So it commits what is still being written: every five seconds, when the group is rebalanced, and in `stop()`,
also when what ends it is the very exception that the write has failed.

Run only by the comparison, which sets the variables.
"""

from __future__ import annotations

import asyncio
import os
import signal

from aiokafka import AIOKafkaConsumer

from pipeline.lab.plain_crm import Taken, connect, write

__all__ = ["consume"]

POLL_MS = 1000


async def consume(topic: str, url: str, *, bootstrap: str, group: str, client_id: str) -> None:
    """Write every record of `topic` until a SIGTERM comes."""
    # Before there is a consumer: a process that starts while the database is away takes no record with it.
    pool = await connect(url)
    stopping = asyncio.Event()
    # A service that is told to stop finishes its batch. With no handler, as in the documentation, the process would die
    # in the middle of it.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        client_id=client_id,
        # Both are the defaults, spelled out.
        enable_auto_commit=True,
        auto_commit_interval_ms=5000,
        # The default, `latest`, would lose whatever is captured before the first commit of a partition.
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while not stopping.is_set():
            # As the documentation shows it for batches: what there is of all partitions, written in one transaction.
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            records = [record for records in fetched.values() for record in records]
            if records:
                await write(pool, [Taken(r.value, r.partition, r.offset, r.timestamp) for r in records])
    finally:
        await consumer.stop()
    await pool.close()


if __name__ == "__main__":
    asyncio.run(
        consume(
            os.environ["LAB_TOPIC"],
            os.environ["LAB_CRM_URL"],
            bootstrap=os.environ["LAB_BOOTSTRAP"],
            group=os.environ["LAB_GROUP"],
            client_id=os.environ["LAB_CLIENT_ID"],
        )
    )
