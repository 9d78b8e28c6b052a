"""To find the damage and mend it, and how long that takes.

For the generic contenders a plain script: read the topic, compare it with the table, insert what is missing. It must
run when nothing is on its way, else that looks missing, too. Submissions that were counted twice it cannot mend:
nothing says which ones.
"""

from __future__ import annotations

import asyncio
import time
from importlib.util import find_spec
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pipeline.lab import compare_crm
from pipeline.lab.bench_kafka import PARTITIONS
from pipeline.lab.compare_contenders import Contender, Place
from pipeline.lab.compare_result import OUR_TOOL, SCRIPT, Repair
from pipeline.lab.plain_crm import Taken, connect, write
from pipeline.lab.program import LabError, Program

__all__ = ["left", "repair"]

_AUDIT = "pipeline.commands.audit"
_AUDIT_MAX_S = 120.0
_WRITE_LEADS = 1000


async def repair(contender: Contender, place: Place, missing: int) -> Repair:
    """Mend what can be mended.

    Raises:
        LabError: it is not as it should be afterwards.
    """
    # ---- THE PLACE FOR `leads audit --mend`: it is used as soon as there is such a command. ----
    if contender.is_ours and find_spec(_AUDIT) is not None:
        return await _ours(contender, place, missing)
    return await _generic(contender, place)


async def _ours(contender: Contender, place: Place, missing: int) -> Repair:
    """`leads audit`, and when something is missing `leads audit --mend`: each a process, its start included."""
    audit_s = await _audit(contender, place)
    if not missing:
        return Repair(OUR_TOOL, audit_s, 0.0, 0)
    return Repair(OUR_TOOL, audit_s, await _audit(contender, place, "--mend"), missing)


async def _audit(contender: Contender, place: Place, *options: str) -> float:
    with Program(["pipeline", "audit", *options], contender.environ(place), place.directory / "audit.log") as program:
        while (status := program.status) is None:
            if time.monotonic() - program.started_s > _AUDIT_MAX_S:
                raise LabError(f"leads audit does not end:\n{program.last_lines()}")
            await asyncio.sleep(0.02)
        # 1 says that something is amiss, which is what was asked.
        if status not in (0, 1):
            raise LabError(f"leads audit ended with status {status}:\n{program.last_lines()}")
        return time.monotonic() - program.started_s


async def _generic(contender: Contender, place: Place) -> Repair:
    started_s = time.monotonic()
    pool = await connect(place.crm_url)
    try:
        async with pool.acquire() as connection:
            there = await compare_crm.written(connection)
        captured = await _records(place.bootstrap, contender.topics[0])
        missing = [record for key, record in captured.items() if key not in there]
        found_s = time.monotonic()
        for start in range(0, len(missing), _WRITE_LEADS):
            await write(pool, missing[start : start + _WRITE_LEADS])
    finally:
        await pool.close()
    mend_s = time.monotonic() - found_s if missing else 0.0
    return Repair(SCRIPT, found_s - started_s, mend_s, len(missing))


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
                    found.setdefault(record.key.decode(), _taken(record))
    return found


def _taken(record: Any) -> Taken:
    return Taken(record.value, record.partition, record.offset, record.timestamp)


async def left(url: str, accepted: int) -> tuple[int, int]:
    """Leads that are missing, and submissions counted too often, as they stand now."""
    connection = await asyncpg.connect(url)
    try:
        counted = await compare_crm.counts(connection)
    finally:
        await connection.close()
    return accepted - counted.rows, counted.submissions - counted.rows
