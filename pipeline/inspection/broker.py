"""Checks of the broker and of our topics on it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import Any

from aiokafka.structs import TopicPartition

from pipeline import topics
from pipeline.embedded.process import port_is_free
from pipeline.inspection.ages import first_records
from pipeline.inspection.connection import Connection, connected
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.findings import Finding, ok, problem, skipped, warning
from pipeline.inspection.judgement import TopicState, as_they_should_be, clock, one_dedupes, safe, topic_state
from pipeline.settings import Settings

__all__ = ["broker"]

#: ConsumerRecord.timestamp_type of the broker's time.
_LOG_APPEND_TIME = 1


async def broker(settings: Settings) -> list[Finding]:
    """Whether the broker answers, keeps what it acknowledged, has our topics as they should be, and the right time."""
    started_s = time.perf_counter()
    try:
        async with connected(settings) as connection:
            connected_s = time.perf_counter()
            brokers = await connection.brokers()
            answered_s = time.perf_counter()
            number = f"{len(brokers)} broker{'' if len(brokers) == 1 else 's'}"
            times = f"answers in {_ms(answered_s - connected_s)}, connected in {_ms(connected_s - started_s)}"
            reached = ok("broker", f"{settings.broker_url} {times}; {number}")
            return [
                reached,
                *await _topics(connection, settings, len(brokers)),
                *one_dedupes(await _deduping(connection)),
                await _clock(connection, settings),
            ]
    except Unavailable as error:
        return [_unreachable(settings, error), *(skipped(n, "the broker does not answer") for n in _OF_BROKER)]


_OF_BROKER = ("safety", "topics", "clock")


def _unreachable(settings: Settings, error: Unavailable) -> Finding:
    found, advice = re.split(r"[.;] ", error.message, maxsplit=1)
    # The embedded broker is started by `leads up`: before that, nothing is wrong, unless `leads up` would say so.
    is_startable = settings.embedded and error.exit_code != os.EX_CONFIG and port_is_free(settings.broker_port)
    return (warning if is_startable else problem)("broker", found, f"{advice[:1].upper()}{advice[1:]}")


async def _topics(connection: Connection, settings: Settings, brokers: int) -> list[Finding]:
    wanted = {spec.name: topics.configs(settings, spec) for spec in topics.specs(settings)}
    described = await connection.topics()
    there = [name for name in wanted if name in described]
    configs = await connection.configs(there)
    states = [topic_state(name, described[name], configs[name]) for name in there]
    missing = [name for name in wanted if name not in described]
    differences = [one for state in states for one in as_they_should_be(state, wanted[state.name], settings.partitions)]
    return [
        *(safe(states, brokers) if states else [skipped("safety", "there are no topics yet")]),
        *(differences or _well(states)),
        *_missing(settings, missing, brokers),
    ]


def _well(states: Sequence[TopicState]) -> list[Finding]:
    if not states:
        return []
    return [ok("topics", f"{', '.join(state.name for state in states)}: as they should be")]


def _missing(settings: Settings, missing: Sequence[str], brokers: int) -> list[Finding]:
    if not missing:
        return []
    found = f"{', '.join(missing)}: not there yet"
    if settings.replication_factor > brokers:
        return [
            problem(
                "topics",
                f"{found}, and {settings.replication_factor} replicas cannot be made with {brokers} broker"
                f"{'' if brokers == 1 else 's'}",
                f"Set LEADS_REPLICATION to {brokers}, or add brokers.",
            )
        ]
    return [ok("topics", f"{found}; the first worker makes them")]


async def _deduping(connection: Connection) -> list[str]:
    """The groups that read lead-captured."""
    groups = [await connection.group(name) for name in await connection.group_names()]
    return [group.name for group in groups if any(tp.topic == topics.CAPTURED for tp in group.committed)]


async def _clock(connection: Connection, settings: Settings) -> Finding:
    described = await connection.topics()
    names = [spec.name for spec in topics.specs(settings) if spec.name in described]
    tps = [TopicPartition(n, p["partition"]) for n in names for p in described[n] if p["leader"] >= 0]
    bounds = await connection.bounds(tps)
    last = {tp: [end - 1] for tp, (start, end) in bounds.items() if end > start}
    records = await first_records(connection.consumer, last, {tp: end for tp, (_, end) in bounds.items()})
    return clock(_newest_ms(records.values()), time.time() * 1000)


def _newest_ms(records: Any) -> float | None:
    # The time of a client says nothing of the broker's clock.
    return max((r.timestamp for r in records if r.timestamp_type == _LOG_APPEND_TIME), default=None)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
