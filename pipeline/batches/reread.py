"""Reading a piece of a topic again, beside the consumer: rare, and a few thousand records."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.types import TP

__all__ = ["REREAD_MAX", "reread"]

#: More records are not read again beside the work: the next recovery does.
REREAD_MAX = 100_000
PATIENCE_S = 5.0
CLOSE_TIMEOUT_S = 1.0


async def reread(app: Any, tp: TP, start: int, end: int) -> list[Any] | None:
    """The records of `tp` from offset `start` up to, not including, `end`, in order.

    None when they are more than `REREAD_MAX`, or the broker does not give them in time.
    """
    if end - start > REREAD_MAX:
        return None
    consumer = _consumer(app)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await consumer.start()
            return await _read(consumer, TopicPartition(*tp), start, end)
    except (KafkaError, TimeoutError):
        return None
    finally:
        # In a task of its own: while a broker is away, aiokafka lets out the cancellation of a request that waits to be
        # tried again, which would be taken for ours.
        stopping = asyncio.ensure_future(consumer.stop())
        stopping.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        await asyncio.wait({stopping}, timeout=CLOSE_TIMEOUT_S)


def _consumer(app: Any) -> Any:
    transport, conf = app.transport, app.conf
    return AIOKafkaConsumer(
        bootstrap_servers=server_list(transport.url, transport.default_port),
        enable_auto_commit=False,
        auto_offset_reset="none",
        **credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
    )


async def _read(consumer: Any, tp: TopicPartition, start: int, end: int) -> list[Any]:
    consumer.assign([tp])
    consumer.seek(tp, start)
    records: list[Any] = []
    # Not until the last record: the piece may end in offsets without one.
    while await consumer.position(tp) < end:
        records += (await consumer.getmany(tp, timeout_ms=1000)).get(tp, [])
    return [record for record in records if record.offset < end]
