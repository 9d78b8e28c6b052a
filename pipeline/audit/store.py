"""Millions of short entries in little memory, a part of them at a time in order to be compared (pure).

Entries are packed one behind the other, in parts by the first byte of their names. So all that is known of one lead is
in parts with one number, and what compares them needs tables for a 256th of the leads only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct
from typing import Any

from pipeline.audit.names import NAME_SIZE_BYTES

__all__ = ["PARTS", "Sieve", "Store"]

PARTS = 256


class Store:
    """Entries of one kind: a name, and numbers.

    Arguments:
        numbers: their sizes, as `struct` writes them, such as "HQ".
        name_size_bytes: of each name.
    """

    def __init__(self, numbers: str = "", *, name_size_bytes: int = NAME_SIZE_BYTES) -> None:
        self._entry = Struct(f"<{name_size_bytes}s{numbers}")
        self._parts = [bytearray() for _ in range(PARTS)]

    def add(self, name: bytes, *numbers: int) -> None:
        """Keep an entry."""
        self._parts[name[0]] += self._entry.pack(name, *numbers)

    def part(self, number: int) -> Iterator[tuple[Any, ...]]:
        """The entries whose names begin with the byte `number`, in the order in which they came."""
        return self._entry.iter_unpack(self._parts[number])

    def has(self, number: int) -> bool:
        """Whether there are any."""
        return bool(self._parts[number])

    def __len__(self) -> int:
        return sum(map(len, self._parts)) // self._entry.size

    @property
    def size_bytes(self) -> int:
        """What all entries take."""
        return sum(map(sys.getsizeof, self._parts))


class Sieve:
    """Lets through every name that was put into it, and few others: 16 MiB, whatever it holds."""

    def __init__(self) -> None:
        self._bits = bytearray(1 << 24)

    def add(self, name: bytes) -> None:
        """Let this one through."""
        index = int.from_bytes(name[:4])
        self._bits[index >> 8] |= 1 << (index & 7)

    def __contains__(self, name: bytes) -> bool:
        index = int.from_bytes(name[:4])
        return bool(self._bits[index >> 8] & 1 << (index & 7))
