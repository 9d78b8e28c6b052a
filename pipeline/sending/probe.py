"""Whether what listens is a Kafka broker, asked in its own protocol without a client library."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

from yarl import URL

__all__ = ["speaks_kafka"]

TIMEOUT_S = 2.0

_API_VERSIONS = 18
_CORRELATION_ID = 0x6C656164


async def speaks_kafka(url: URL) -> bool:
    """Whether host and port of `url` answer the question that every broker answers, also before it asks for a user."""
    # Size; header: api, version 0, correlation id, no client id.
    request = struct.pack(">ihhih", 10, _API_VERSIONS, 0, _CORRELATION_ID, -1)
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            try:
                writer.write(request)
                # Size and correlation id. A web server begins with other bytes, whatever it thinks of the question.
                return (await reader.readexactly(8))[4:] == struct.pack(">i", _CORRELATION_ID)
            finally:
                writer.close()
    return False
