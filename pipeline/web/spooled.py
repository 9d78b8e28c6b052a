"""What a question for a lead finds in the spool of this worker's data directory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pipeline.spool import SpoolError
from pipeline.web.peers import cannot_say

__all__ = ["IsSpooled", "waits_in_spool"]

#: Whether a lead with this record key waits in the spool. Raises `SpoolError`.
IsSpooled = Callable[[bytes], Awaitable[bool]]


async def waits_in_spool(is_spooled: IsSpooled, tenant: str, message_id: str) -> bool:
    """Whether the lead with this name, which is a valid one, waits in the spool.

    Raises:
        Problem: 503, the spool cannot be read; then nobody can say that there is no such lead.
    """
    try:
        return await is_spooled(f"{tenant}/{message_id}".encode())
    except SpoolError:
        raise cannot_say("The spool of this worker cannot be read.") from None
