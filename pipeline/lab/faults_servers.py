"""Faults of brokers and of the database: killed, stopped, locked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from random import Random

from pipeline.embedded import Broker, Postgres
from pipeline.embedded.probe import metadata
from pipeline.lab.faults_site import Site
from pipeline.lab.topics_seen import in_sync, leader

__all__ = ["away", "kill_broker", "kill_database", "kill_leader", "stop_database"]

#: How long something is away.
AWAY_S = (0.0, 8.0)
#: How long all brokers are away: many times what a worker waits for an acknowledgement, minutes at most.
LONG_AWAY_S = (60.0, 150.0)
#: How long SQLite is locked.
LOCKED_S = (2.0, 6.0)
SYNC_MAX_S = 180.0
START_MAX_S = 180.0
_LOCK_TIMEOUT_S = 10.0


async def kill_broker(site: Site, random: Random) -> str:
    """SIGKILL of one broker; if it is the only one, nothing can be captured or read for a while."""
    return await _kill(site, random, random.choice(site.installation.nodes))


async def kill_leader(site: Site, random: Random) -> str:
    """SIGKILL of the broker that leads a partition of `lead-captured`: another one has to."""
    partition = random.randrange(site.installation.settings.partitions)
    node_id = await leader(site.installation.settings, partition)
    nodes = {node.node_id: node for node in site.installation.nodes}
    # While nobody leads it, whoever is met.
    return f"leader of {partition}: {await _kill(site, random, nodes.get(node_id) or nodes[1])}"


async def _kill(site: Site, random: Random, broker: Broker) -> str:
    away_s = random.uniform(*AWAY_S)
    await _without(site, [broker], away_s)
    return f"broker {broker.node_id} for {away_s:.1f} s"


async def away(site: Site, random: Random) -> str:
    """SIGKILL of all brokers, and nothing can be captured but into the spool, for long."""
    away_s = random.uniform(*LONG_AWAY_S)
    await _without(site, site.installation.nodes, away_s)
    return f"for {away_s:.1f} s"


async def _without(site: Site, brokers: Sequence[Broker], away_s: float) -> None:
    for broker in brokers:
        broker.kill()
    await asyncio.sleep(away_s)
    for broker in brokers:
        broker.launch()
    for broker in brokers:
        await site.until(
            partial(_serves, broker),
            within_s=START_MAX_S,
            otherwise=f"broker {broker.node_id} does not serve {START_MAX_S:g} s after its start",
        )
    settings = site.installation.settings
    await site.until(
        lambda: in_sync(settings),
        within_s=SYNC_MAX_S,
        otherwise=f"replicas are not in sync {SYNC_MAX_S:g} s after a broker came back",
    )
    await site.crew.until_ready()


async def _serves(broker: Broker) -> bool:
    if not broker.running:
        raise broker.failed(f"Broker {broker.node_id} ended with status {broker.returncode}.")
    answer = await asyncio.to_thread(metadata, broker.port)
    return answer is not None and broker.node_id in answer.nodes


async def stop_database(site: Site, random: Random) -> str:
    """The database is stopped in order, and all its connections with it; SQLite is locked for writing."""
    postgres = site.installation.postgres
    if postgres is None:
        return await _lock(site, random)
    postgres.stop()
    return await _back(site, random, postgres)


async def kill_database(site: Site, random: Random) -> str:
    """SIGKILL of the database: it recovers when it starts."""
    postgres = site.installation.postgres
    assert postgres is not None
    postgres.kill()
    return await _back(site, random, postgres)


async def _back(site: Site, random: Random, postgres: Postgres) -> str:
    away_s = random.uniform(*AWAY_S)
    await asyncio.sleep(away_s)
    postgres.start(timeout_s=START_MAX_S)
    await site.crew.until_ready()
    return f"for {away_s:.1f} s"


async def _lock(site: Site, random: Random) -> str:
    locked_s = random.uniform(*LOCKED_S)
    path = site.installation.sqlite
    assert path is not None
    with closing(sqlite3.connect(path, timeout=_LOCK_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        await asyncio.sleep(locked_s)
        connection.execute("ROLLBACK")
    await site.crew.until_ready()
    return f"locked for {locked_s:.1f} s"
