"""Appends leads to a topic at a steady rate until its standard input is closed; to lead-captured every tenth twice.

`python -m tests.integration.load HOST:PORT TOPIC PER_SECOND`. Prints `first last` for each acknowledged run of numbers.
What the broker does not acknowledge is sent again until it does: those leads are then there twice, as with any client.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from pipeline.topics import CAPTURED
from tests.integration.installation import key, lead, partition

STEPS_PER_S = 20


async def append(producer: AIOKafkaProducer, topic: str, numbers: range) -> None:
    """Append the leads of `numbers`, until all are acknowledged."""
    wanted = [lead(f"load-{number:07d}") for number in numbers]
    if topic == CAPTURED:
        wanted += wanted[::10]
    while True:
        try:
            sends = [
                await producer.send(topic, json.dumps(one).encode(), key=key(one), partition=partition(key(one)))
                for one in wanted
            ]
            await asyncio.gather(*sends)
            return
        except KafkaError:
            await asyncio.sleep(0.2)


async def main(bootstrap: str, topic: str, per_s: int) -> None:
    """Append until standard input ends."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=2, request_timeout_ms=5000)
    await producer.start()
    closed = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    started, number, step = time.monotonic(), 0, per_s // STEPS_PER_S
    while not closed.done():
        await append(producer, topic, range(number, number + step))
        print(number, number + step, flush=True)
        number += step
        # An outage is not made up for: the load is steady, not a flood afterwards.
        started = max(started + 1 / STEPS_PER_S, time.monotonic() - 1)
        await asyncio.sleep(max(0.0, started - time.monotonic()))
    await producer.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
