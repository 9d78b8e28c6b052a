"""The process of `dedupe` dies by SIGKILL at the batch number `FAULT_BATCH`, at the place `FAULT_PLACE`.

`before-accepted`: when the changelog has the batch, and `lead-accepted` has not; `before-put`: when both have it, and
RocksDB has not.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from typing import Any

import agents.dedupe  # noqa: F401
from pipeline.app import app
from pipeline.batches import Batch, Entry
from pipeline.batches.table import Logged
from pipeline.topics import ACCEPTED
from tables.seen import seen
from tests.integration.faulty import die

__all__ = ["app"]

_place, _last = os.environ["FAULT_PLACE"], int(os.environ["FAULT_BATCH"])
_numbers = count(1)
_append, _put = app.appender.append, seen.put_acknowledged
_logged: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)


async def append(batch: Batch, topic: str, entries: Iterable[Entry]) -> tuple[int, int]:
    """Append, but not the last one to lead-accepted."""
    if topic == ACCEPTED and _place == "before-accepted" and next(_numbers) == _last:
        await _logged[id(batch)].wait()
        die()
    span = await _append(batch, topic, entries)
    if topic == seen.changelog_topic_name:
        _logged[id(batch)].set()
    return span


def put_acknowledged(batch: Batch, logged: Logged) -> None:
    """Put, but not the last one."""
    if _place == "before-put" and next(_numbers) == _last:
        die()
    _put(batch, logged)


_patched: Any = app.appender
_patched.append = append
seen.put_acknowledged = put_acknowledged
