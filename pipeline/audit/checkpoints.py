"""How far `dedupe` and the CRM of an app are, and whose `dedupe` it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.structs import TopicPartition

from pipeline.audit.crm import CRM
from pipeline.batches.identity import log_ids
from pipeline.inspection.connection import Connection, each
from pipeline.inspection.errors import Unavailable
from pipeline.settings import EXACTLY_ONCE, Settings
from pipeline.topic_names import ACCEPTED, CAPTURED

__all__ = ["Checkpoints", "checkpoints", "front_group"]


@dataclass(frozen=True)
class Checkpoints:
    """Next offsets by partition: of `dedupe` in `lead-captured`, of the CRM in `lead-accepted`. Where a partition is
    missing nothing was read yet.
    """

    front: Mapping[int, int]
    crm: Mapping[int, int]


async def front_group(connection: Connection, settings: Settings, given: str | None) -> str | None:
    """The consumer group whose workers dedupe for this app: its own, or that of the app in front of it.

    An app that only writes another CRM does not read `lead-captured`; who does is found by its offsets there. None:
    nobody has begun.

    Args:
        given: what the user says that it is.

    Raises:
        Unavailable: several might be it, or the one that is given is not.
        KafkaError: a broker does not answer.
    """
    if given is not None:
        if not _of((await connection.group(given)).committed, CAPTURED):
            raise Unavailable(f"The group {given} has read nothing of {CAPTURED}.", status=os.EX_USAGE)
        return given
    if "dedupe" in settings.agents:
        return settings.app_id
    groups = await each(await connection.group_names(), connection.group)
    found = [group.name for group in groups if any(tp.topic == CAPTURED for tp in group.committed)]
    if len(found) > 1:
        raise Unavailable(
            f"{settings.app_id} does not dedupe, and several groups read {CAPTURED}: {', '.join(found)}. Say with "
            "--deduped-by which one does.",
            status=os.EX_USAGE,
        )
    return found[0] if found else None


async def checkpoints(connection: Connection, settings: Settings, crm: CRM, front: str | None) -> Checkpoints:
    """Where both stand now.

    Raises:
        Unavailable: the CRM cannot be read, or is not the one that was written.
        KafkaError: a broker does not answer.
    """
    own = (await connection.group(settings.app_id)).committed
    of_front = own if front == settings.app_id else (await connection.group(front)).committed if front else {}
    written = _of(own, ACCEPTED)
    in_crm = await crm.offsets(settings.app_id, ACCEPTED)
    if written and (in_crm is None or (not in_crm and settings.guarantee == EXACTLY_ONCE)):
        lacks = "has not the tables of one" if in_crm is None else f"has no checkpoint of {settings.app_id}"
        raise Unavailable(
            f"{settings.app_id} has written a CRM, and the one that is set {lacks}: see LEADS_SINK_URL, LEADS_DATA_DIR "
            "and LEADS_GUARANTEE.",
            status=os.EX_CONFIG,
        )
    if settings.guarantee == EXACTLY_ONCE:
        # The rows are the truth, and Kafka's offsets only follow.
        ids = {at.log_id for at in (in_crm or {}).values()}
        if ids - {(await log_ids(connection.consumer._client, [ACCEPTED]))[ACCEPTED].hex()}:
            raise _another(ACCEPTED)
        written = {number: at.next_offset for number, at in (in_crm or {}).items()}
    await _require_within(connection, {**_in(CAPTURED, _of(of_front, CAPTURED)), **_in(ACCEPTED, written)})
    return Checkpoints(_of(of_front, CAPTURED), written)


async def _require_within(connection: Connection, offsets: Mapping[TopicPartition, int]) -> None:
    """See that no checkpoint is behind the end of its log, asked for after it."""
    for tp, (_, end) in (await connection.bounds(offsets)).items() if offsets else ():
        if offsets[tp] > end:
            raise _another(tp.topic)


def _another(topic: str) -> Unavailable:
    return Unavailable(
        f"The checkpoint of {topic} is of another log: of another cluster, or the topic was made anew. Workers refuse "
        "to go on, and say what to do; audit then.",
        status=os.EX_DATAERR,
    )


def _of(committed: Mapping[TopicPartition, int], topic: str) -> dict[int, int]:
    return {tp.partition: offset for tp, offset in committed.items() if tp.topic == topic}


def _in(topic: str, offsets: Mapping[int, int]) -> dict[TopicPartition, int]:
    return {TopicPartition(topic, number): offset for number, offset in offsets.items()}
