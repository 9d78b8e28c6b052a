"""The membership of the process that ran in this place before: it ends when the next one starts.

A process that was killed has not left its consumer group, and the broker gives its partitions to nobody before the
session timeout, not even to the one that takes its place. So each notes its member id beside its tables, and the next
one lets that member leave. It must be sure that the former process is over; here it holds a lock on the place.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.group import LeaveGroupRequest
from mode import get_logger

__all__ = ["leave_as_former", "note_member"]

logger = get_logger(__name__)

#: Without an answer the broker waits for the session timeout, as it would have done.
PATIENCE_S = 2.0


def note_member(coordinator: Any, note: Path) -> None:
    """Keep the member id that `coordinator` (aiokafka's `GroupCoordinator`) has now."""
    # Without the note the next start takes as long as the session timeout; no reason to end.
    with suppress(OSError):
        note.write_text(f"{coordinator.group_id}\n{coordinator.member_id}\n")


async def leave_as_former(coordinator: Any, note: Path) -> None:
    """Let the member that is noted leave the group, if it is one of this group; returns when it has, or cannot."""
    try:
        group, member_id, *_ = (*note.read_text().split("\n"), "", "")
    except (OSError, ValueError):
        return  # there is none, or it is damaged
    if group == coordinator.group_id and member_id:
        with suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await coordinator.ensure_coordinator_known()
                response = await coordinator._send_req(LeaveGroupRequest(group, member_id))
                if not response.error_code:
                    logger.info("The process that was here before had not left its group, and has now")
    with suppress(OSError):
        note.unlink()
