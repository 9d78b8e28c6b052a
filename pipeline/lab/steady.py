"""Appends the leads of a seed to a topic at a steady rate, and writes down which ones the broker has acknowledged:
`python -m pipeline.lab.steady`. Only these count as accepted.

Each line of the journal is one lead: number, partition, offset, the broker's time in milliseconds since the epoch, and
when this process had the acknowledgement, in microseconds.
A process of its own, so that nothing that the lab does elsewhere makes it uneven. Run by comparison and benchmark.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import IO

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.lab.workload import Workload
from pipeline.lead import encode, key

__all__ = ["append"]

FLUSH_S = 0.1
#: A request for each lead would be most of the broker's work, and no part of what is measured.
LINGER_MS = 5


async def append(bootstrap: str, topic: str, leads: Workload, *, rate: float, journal: IO[str]) -> None:
    """Append the leads 0 to `leads.count`, each once, `rate` in a second; returns when all have been answered."""
    pending: set[asyncio.Task[None]] = set()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=LINGER_MS) as producer:
        await producer.partitions_for(topic)  # so that the first lead does not wait for it
        flushing = asyncio.create_task(_flush(journal))
        started_s = time.monotonic()
        for number in range(leads.count):
            await asyncio.sleep(max(0.0, started_s + number / rate - time.monotonic()))
            task = asyncio.create_task(_append(producer, topic, leads, number, journal))
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)
        flushing.cancel()
    journal.flush()


async def _append(producer: AIOKafkaProducer, topic: str, leads: Workload, number: int, journal: IO[str]) -> None:
    lead = leads.lead(number)
    try:
        at = await producer.send_and_wait(topic, encode(lead), key=key(lead))
    except KafkaError:
        return  # nobody was told that it is safe
    journal.write(f"{number} {at.partition} {at.offset} {at.timestamp} {time.time_ns() // 1000}\n")


async def _flush(journal: IO[str]) -> None:
    while True:
        journal.flush()
        await asyncio.sleep(FLUSH_S)


def _main() -> None:
    leads = Workload(int(os.environ["LAB_SEED"]), int(os.environ["LAB_LEADS"]))
    with Path(os.environ["LAB_JOURNAL"]).open("w") as journal:
        asyncio.run(
            append(
                os.environ["LAB_BOOTSTRAP"],
                os.environ["LAB_TOPIC"],
                leads,
                rate=float(os.environ["LAB_RATE"]),
                journal=journal,
            )
        )


if __name__ == "__main__":
    _main()
