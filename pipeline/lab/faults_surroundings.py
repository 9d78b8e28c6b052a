"""Faults of what lies around: the network and the disk."""

from __future__ import annotations

import asyncio
import errno
from random import Random

from pipeline.lab.faults_site import Site
from pipeline.lab.proxy import Proxy

__all__ = ["fill_disk", "slow_network"]

SLOW_S = (4.0, 10.0)
DELAYS_S = (0.01, 0.05, 0.2)
STEP_S = (0.2, 1.5)
#: How long a connection passes nothing on: beyond some time-outs, below others.
HOLD_S = (0.5, 6.0)

FULL_S = (3.0, 8.0)
_FILLER = "filler"
_PIECE = bytes(1 << 20)


async def slow_network(site: Site, random: Random) -> str:
    """Connections of workers to brokers, to the database, or both, are slow; some are held, some are cut."""
    proxies = _struck(site, random)
    seconds, delay_s = random.uniform(*SLOW_S), random.choice(DELAYS_S)
    cuts = holds = 0
    loop = asyncio.get_running_loop()
    end_s = loop.time() + seconds
    try:
        for proxy in proxies:
            proxy.delay_s = delay_s
        while loop.time() < end_s:
            await asyncio.sleep(random.uniform(*STEP_S))
            proxy = random.choice(proxies)
            if random.random() < 0.25:
                holds += 1
                proxy.holds = True
                await asyncio.sleep(random.uniform(*HOLD_S))
                proxy.holds = False
            else:
                cuts += 1
                proxy.cut()
    finally:
        for proxy in proxies:
            proxy.delay_s, proxy.holds = 0.0, False
    await site.crew.until_ready()
    return f"{len(proxies)} ways, {delay_s * 1000:.0f} ms, cut {cuts} times, held {holds} times"


def _struck(site: Site, random: Random) -> list[Proxy]:
    brokers, database = site.installation.broker_proxies, site.installation.database_proxy
    if database is None:
        return list(brokers)
    return random.choice([list(brokers), [database], [*brokers, database]])


async def fill_disk(site: Site, random: Random) -> str:
    """No room is left where the workers keep their state. They end, and are started again until there is some."""
    assert site.disk is not None
    full_s = random.uniform(*FULL_S)
    path = site.disk / _FILLER
    try:
        with path.open("wb", buffering=0) as filler:
            _fill(filler)
            await asyncio.sleep(full_s / 2)
            _fill(filler)  # what was freed meanwhile
        await asyncio.sleep(full_s / 2)
    finally:
        path.unlink(missing_ok=True)
    await site.crew.until_ready()
    return f"for {full_s:.1f} s"


def _fill(filler: object) -> None:
    size = len(_PIECE)
    while size:
        try:
            filler.write(_PIECE[:size])  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2
