"""The first record at or after an offset, of many partitions at once, in bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

__all__ = ["TIMEOUT_S", "first_records"]

#: For all records together.
TIMEOUT_S = 5.0
_POLL_MS = 200


async def first_records(
    consumer: AIOKafkaConsumer,
    wanted: Mapping[TopicPartition, Iterable[int]],
    ends: Mapping[TopicPartition, int],
    *,
    timeout_s: float = TIMEOUT_S,
) -> dict[tuple[TopicPartition, int], Any]:
    """The first record at or after each wanted offset: by partition and offset.

    Missing are those that the log does not have (nothing but gaps up to its end, or retention was faster), and those
    that did not come in `timeout_s`.

    Args:
        consumer: one without a group; its assignment is replaced. `auto_offset_reset` must be `none`.
        wanted: offsets within the log, by partition.
        ends: the end of the log of each of these partitions.
    """
    # A consumer has one position in a partition, so several offsets of one are asked one after the other.
    queues = {tp: sorted(set(offsets)) for tp, offsets in wanted.items() if offsets}
    found: dict[tuple[TopicPartition, int], Any] = {}
    consumer.assign(list(queues))
    for tp, offsets in queues.items():
        consumer.seek(tp, offsets[0])
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while queues and loop.time() < deadline_s:
        for tp, record in (await _some(consumer, queues)).items():
            offset = queues[tp].pop(0)
            if record is not None:
                found[tp, offset] = record
            _go_on(consumer, tp, queues)
        await _leave_ended(consumer, queues, ends)
    return found


async def _some(consumer: AIOKafkaConsumer, queues: Mapping[TopicPartition, list[int]]) -> dict[TopicPartition, Any]:
    """The next record of some partitions; None for those whose offset is no longer in the log."""
    try:
        fetched = await consumer.getmany(*queues, timeout_ms=_POLL_MS)
    except OffsetOutOfRangeError as error:
        return dict.fromkeys(error.args[0])
    return {tp: records[0] for tp, records in fetched.items() if records}


async def _leave_ended(
    consumer: AIOKafkaConsumer, queues: dict[TopicPartition, list[int]], ends: Mapping[TopicPartition, int]
) -> None:
    """Wait for no more of a partition that was read to its end: transaction markers are no records."""
    for tp in list(queues):
        if await consumer.position(tp) >= ends[tp]:
            queues[tp].clear()
            _go_on(consumer, tp, queues)


def _go_on(consumer: AIOKafkaConsumer, tp: TopicPartition, queues: dict[TopicPartition, list[int]]) -> None:
    if queues[tp]:
        consumer.seek(tp, queues[tp][0])
    else:
        del queues[tp]
        consumer.pause(tp)
