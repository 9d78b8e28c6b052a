"""Faults of workers: killed, frozen, robbed of their disk, joining and leaving."""

from __future__ import annotations

import asyncio
from random import Random

from pipeline.lab.crew import Crew
from pipeline.lab.faults_site import Site

__all__ = ["kill", "pause", "rebalance", "wipe"]

#: One that is stopped in order reports 0.
_LEFT = 0


async def kill(site: Site, random: Random) -> str:
    """SIGKILL of one worker, of all at times; they are started again as `leads up` would."""
    slots = _some(site.crew, random)
    for slot in slots:
        site.crew.kill(slot)
    await site.crew.until_ready()
    return _named(slots)


async def pause(site: Site, random: Random) -> str:
    """A worker that is taken for dead, and goes on later where it was: a zombie."""
    slot = random.choice(sorted(site.crew.wanted))
    worker = site.crew.worker(slot)
    if worker.status is not None:
        await site.crew.until_ready(slot)
        worker = site.crew.worker(slot)
    beyond_s = random.uniform(1.0, 4.0)
    worker.pause()
    try:
        await asyncio.sleep(site.session_s + beyond_s)
    finally:
        if worker.status is None:
            worker.resume()
    await site.crew.until_ready()
    return f"{_named([slot])} for {site.session_s + beyond_s:.1f} s"


async def rebalance(site: Site, random: Random) -> str:
    """One joins, another one leaves in order, soon after or at the same time."""
    joins = random.choice(sorted(set(site.slots) - site.crew.wanted))
    leaves = random.choice(sorted(site.crew.wanted))
    waits = random.random() < 0.7
    site.crew.add(joins)
    if waits:
        await site.crew.until_ready(joins)
        await asyncio.sleep(random.uniform(0, 3.0))
    status = await site.crew.leave(leaves)
    await site.crew.until_ready()
    how = "" if status == _LEFT else f" (status {status})"
    return f"{_named([joins])} joins, {_named([leaves])} leaves{how}{'' if waits else ' meanwhile'}"


async def wipe(site: Site, random: Random) -> str:
    """A worker is killed, and starts again with an empty disk."""
    slot = random.choice(sorted(site.crew.wanted))
    worker = site.crew.take_out(slot)
    if worker.status is None:
        worker.kill()
    site.installation.wipe(slot)
    site.crew.add(slot)
    await site.crew.until_ready()
    return _named([slot])


def _some(crew: Crew, random: Random) -> list[int]:
    every = sorted(crew.wanted)
    return every if random.random() < 0.2 else [random.choice(every)]


def _named(slots: list[int]) -> str:
    return ", ".join(f"worker-{slot}" for slot in slots)
