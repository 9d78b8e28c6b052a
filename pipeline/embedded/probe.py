"""The question whether a broker serves: one Metadata request of the Kafka protocol, without a client library.

`start` may be called while an event loop runs, where the asynchronous clients cannot be asked and waited for.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

__all__ = ["Metadata", "metadata"]

_METADATA = 3
# The last version before the protocol's compact encoding; Kafka 4 answers it.
_VERSION = 4
_REPLY_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Metadata:
    """What a broker says of its cluster: its id, and the nodes that are registered and alive."""

    cluster_id: str | None
    nodes: frozenset[int]


def metadata(port: int, *, timeout_s: float = 1.0) -> Metadata | None:
    """The answer of the broker on this port of 127.0.0.1, or None when there is none within `timeout_s` per step."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection, connection.makefile("rb") as reply:
            connection.sendall(_request())
            size = struct.unpack(">i", reply.read(4))[0]
            return _parsed(reply.read(size)) if 0 < size <= _REPLY_MAX_BYTES else None
    except (OSError, struct.error, IndexError, UnicodeDecodeError):
        return None


def _request() -> bytes:
    # Header: api, version, correlation id, no client id. Body: no topics (0), do not create any (0).
    body = struct.pack(">hhihib", _METADATA, _VERSION, 1, -1, 0, 0)
    return struct.pack(">i", len(body)) + body


def _parsed(reply: bytes) -> Metadata:
    reader = _Reader(reply, start=8)  # after correlation id and throttle time
    nodes = set()
    for _ in range(reader.int32()):
        nodes.add(reader.int32())
        reader.string()  # host
        reader.int32()  # port
        reader.string()  # rack
    return Metadata(reader.string(), frozenset(nodes))


class _Reader:
    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._at = start

    def int32(self) -> int:
        value: int = struct.unpack_from(">i", self._data, self._at)[0]
        self._at += 4
        return value

    def string(self) -> str | None:
        size: int = struct.unpack_from(">h", self._data, self._at)[0]
        start, self._at = self._at + 2, self._at + 2 + max(size, 0)
        return None if size < 0 else self._data[start : self._at].decode()
