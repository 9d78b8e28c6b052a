"""Groups whose table knows many leads from the start: a changelog that was built, not worked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pipeline import topics
from pipeline.dedupe import Seen
from pipeline.lab.bench.installation import Installation
from pipeline.lab.program import LabError
from pipeline.lab.worker import Worker

__all__ = ["build", "entries", "knowing", "ready_s", "require_known"]

POLL_S = 0.03
READY_MAX_S = 180.0
#: Keys that are looked up in a table.
SAMPLE_KEYS = 500
#: At once: each waits for the broker, too.
ASKING = 16


async def knowing(at: Installation, keys: int) -> str:
    """A group that has read all of `lead-captured`, and in whose changelog of `seen` are the first `keys` leads.

    Built once for each number of keys. Returns the group's name, which is the app id of its workers.
    """
    group = f"knows-{keys}"
    if group not in at.groups:
        at.say(f"building a changelog of {keys:,} keys")
        await build(at, group, keys)
        at.groups.add(group)
    await at.kafka.skip(group, topics.CAPTURED)
    return group


async def build(at: Installation, group: str, keys: int) -> None:
    """Give `group` a changelog of `seen` with the first `keys` leads."""
    changelog = topics.changelog(group, "seen")
    await topics.ensure(at.settings("dedupe", group))
    await at.kafka.appear(topics.CAPTURED, changelog)
    await at.kafka.append(changelog, entries(at, keys))


def entries(at: Installation, keys: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of the table, as if each lead had come once, the first one at offset 0."""
    now_ms = int(time.time() * 1000)
    return ((at.leads.key(number), Seen(number, now_ms, number.to_bytes(8)).pack()) for number in range(keys))


async def ready_s(worker: Worker) -> float:
    """Wait until a worker is ready; returns the seconds from the start of its process."""
    while not worker.is_ready:
        worker.check()
        if time.monotonic() - worker.started_s > READY_MAX_S:
            raise LabError(f"Not ready within {READY_MAX_S:g} s:\n{worker.last_lines()}")
        await asyncio.sleep(POLL_S)
    return time.monotonic() - worker.started_s


def require_known(at: Installation, worker: Worker, keys: int) -> None:
    """Ask for keys from all over the table: to be fast with holes in it is worth nothing."""
    numbers = range(0, keys, max(1, keys // SAMPLE_KEYS))
    paths = [f"/tables/seen/default/{at.leads.message_id(number)}" for number in numbers]
    with ThreadPoolExecutor(ASKING) as pool:
        for number, entry in zip(numbers, pool.map(worker.ask, paths), strict=True):
            if entry is None or entry.get("offset") != number:
                raise LabError(f"Our table is wrong: key {number} of {keys} is {entry}")
