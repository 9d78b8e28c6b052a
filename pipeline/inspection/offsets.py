"""How far every consumer group has come in our topics, asked of Kafka alone: no worker need run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from aiokafka.structs import TopicPartition

from pipeline.inspection.ages import first_records
from pipeline.inspection.connection import Connection, Group, each
from pipeline.inspection.members import owners
from pipeline.inspection.positions import GroupPosition, PartitionPosition
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER, READ_BY

__all__ = ["TOPICS", "NoSuchGroup", "NoTopics", "positions"]

#: In the order of the flow.
TOPICS = (CAPTURED, ACCEPTED, DEAD_LETTER)


class NoTopics(LookupError):
    """None of our topics exists; the text is a sentence."""


class NoSuchGroup(LookupError):
    """The group that was asked for has committed nothing in our topics; the text is a sentence."""


async def positions(connection: Connection, settings: Settings, only: str | None = None) -> list[GroupPosition]:
    """Where the groups stand: by topic, the app id of `settings` first, then the others by name.

    Args:
        only: of this group alone.

    Raises:
        NoTopics: there is nothing to stand in.
        NoSuchGroup: there is no such group as `only`.
        KafkaError: a broker does not answer.
    """
    described = await connection.topics()
    topics = {name: described[name] for name in TOPICS if name in described}
    if not topics:
        raise NoTopics(
            f"No worker has started yet: the broker at {settings.broker_url} has none of {', '.join(TOPICS)}."
        )
    groups = await _groups(connection, settings, only)
    pairs = [(topic, group) for topic in topics for group in groups if _concerns(settings, group, topic)]
    if only is not None and not pairs:
        raise NoSuchGroup(f"The group {only} has no offset in {', '.join(topics)}.")
    led = {topic: [p["partition"] for p in parts if p["leader"] >= 0] for topic, parts in topics.items()}
    bounds = await connection.bounds(TopicPartition(topic, n) for topic, ns in led.items() for n in ns)
    found = [_position(topic, group, sorted(p["partition"] for p in topics[topic]), bounds) for topic, group in pairs]
    return await _with_ages(connection, found, bounds)


async def _groups(connection: Connection, settings: Settings, only: str | None) -> list[Group]:
    if only is not None:
        return [await connection.group(only)]
    others = sorted(set(await connection.group_names()) - {settings.app_id})
    return await each([settings.app_id, *others], connection.group)


def _concerns(settings: Settings, group: Group, topic: str) -> bool:
    """Whether the group has a position in the topic, or will have one as soon as its workers run."""
    is_read = group.name == settings.app_id and topic in {READ_BY.get(agent) for agent in settings.agents}
    return is_read or any(tp.topic == topic for tp in group.committed)


def _position(
    topic: str, group: Group, numbers: Sequence[int], bounds: dict[TopicPartition, tuple[int, int]]
) -> GroupPosition:
    owned_by = owners(group.members)
    tps = [TopicPartition(topic, number) for number in numbers]
    partitions = [
        PartitionPosition(tp.partition, start, end, group.committed.get(tp), owned_by.get(tp))
        for tp in tps
        for start, end in [bounds.get(tp, (None, None))]
    ]
    return GroupPosition(topic, group.name, group.state, len(group.members), partitions)


async def _with_ages(
    connection: Connection, found: list[GroupPosition], bounds: dict[TopicPartition, tuple[int, int]]
) -> list[GroupPosition]:
    wanted: dict[TopicPartition, set[int]] = {}
    for tp, one in _lagging(found):
        assert one.next_offset is not None
        wanted.setdefault(tp, set()).add(one.next_offset)
    if not wanted:
        return found
    records = await first_records(connection.consumer, wanted, {tp: end for tp, (_, end) in bounds.items()})
    now_ms = time.time() * 1000
    return [
        replace(group, partitions=[_aged(one, _oldest(records, tp, one), now_ms) for tp, one in _each(group)])
        for group in found
    ]


def _lagging(found: Iterable[GroupPosition]) -> list[tuple[TopicPartition, PartitionPosition]]:
    return [(tp, one) for group in found for tp, one in _each(group) if one.lag]


def _each(group: GroupPosition) -> list[tuple[TopicPartition, PartitionPosition]]:
    return [(TopicPartition(group.topic, one.partition), one) for one in group.partitions]


def _oldest(records: dict[tuple[TopicPartition, int], Any], tp: TopicPartition, one: PartitionPosition) -> Any:
    return None if one.next_offset is None else records.get((tp, one.next_offset))


def _aged(one: PartitionPosition, record: Any, now_ms: float) -> PartitionPosition:
    if record is None or not one.lag:
        return one
    # The topics have the broker's time; its clock may be a little ahead of ours.
    return replace(one, oldest_pending_age_s=max(0.0, now_ms - record.timestamp) / 1000)
