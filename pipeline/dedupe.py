"""Which captured leads are new: pure, from the records of a batch and what the table `seen` knows of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.dead_letters import ID_CONFLICT, INVALID, Rejection
from pipeline.lead import InvalidLead, content_hash, decode, key

__all__ = ["Decision", "Seen", "decide"]

_ENTRY = struct.Struct(">qq8sqII")
#: Entries of before `times` was counted.
_SHORT = struct.Struct(">qq8s")
_COUNT_MAX = 2**32 - 1


class Seen(NamedTuple):
    """The first event with a key: its offset in `lead-captured`, the broker's time (ms), its content hash. Then how
    often the id has come.

    Every event is counted once, however often it is delivered: `last_offset` is that of the last one counted after the
    first, -1 while there is none.
    """

    offset: int
    time_ms: int
    digest: bytes
    last_offset: int = -1
    #: Events with this content, the first one among them.
    times: int = 1
    #: Events with other content.
    conflicts: int = 0

    def pack(self) -> bytes:
        """40 bytes, the value in the table."""
        return _ENTRY.pack(*self)

    @classmethod
    def unpack(cls, value: bytes) -> Seen:
        """The entry in a value of the table."""
        return cls(*(_ENTRY if len(value) == _ENTRY.size else _SHORT).unpack(value))

    def counted(self, offset: int, *, is_repeat: bool) -> Seen:
        """The entry after a later event, at `offset`, that repeats the first one or conflicts with it."""
        if offset <= self.last_offset:
            return self
        if is_repeat:
            return self._replace(last_offset=offset, times=min(self.times + 1, _COUNT_MAX))
        return self._replace(last_offset=offset, conflicts=min(self.conflicts + 1, _COUNT_MAX))


@dataclass(slots=True)
class Decision:
    """What becomes of the records of a batch: each is forwarded, rejected or a duplicate; and what the table learns."""

    forward: list[Any] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    duplicates: int = 0
    learned: dict[bytes, bytes] = field(default_factory=dict)


def decide(records: Sequence[Any], known: Mapping[bytes, bytes], *, window_ms: float) -> Decision:
    """Decide on `records` (aiokafka's `ConsumerRecord`s of one partition, in order).

    `known` has the value in `seen` of every key that is there. A *duplicate* has the key and the content of an event
    with a smaller offset, at most `window_ms` older. The same offset again is a re-delivery after a crash, and is
    forwarded again. The same key with other content is two leads under one name: rejected, never dropped.
    """
    decision = Decision()
    for record in records:
        try:
            lead = decode(record.value)
        except InvalidLead as error:
            decision.rejected.append(Rejection(record, INVALID, str(error)))
            continue
        name = key(lead)
        if record.key != name:
            decision.rejected.append(Rejection(record, INVALID, "the record's key is not tenant/message_id"))
            continue
        this = Seen(record.offset, record.timestamp, content_hash(lead))
        first = _first(decision.learned.get(name) or known.get(name), this, window_ms)
        if first is None:
            decision.forward.append(record)
            decision.learned[name] = this.pack()
            continue
        is_repeat = first.digest == this.digest
        decision.learned[name] = first.counted(record.offset, is_repeat=is_repeat).pack()
        if is_repeat:
            decision.duplicates += 1
        else:
            detail = f"another lead has this id, at offset {first.offset}"
            decision.rejected.append(Rejection(record, ID_CONFLICT, detail))
    return decision


def _first(value: bytes | None, this: Seen, window_ms: float) -> Seen | None:
    """The earlier event that `this` repeats, if any."""
    if value is None:
        return None
    first = Seen.unpack(value)
    is_earlier = first.offset < this.offset and this.time_ms - first.time_ms <= window_ms
    return first if is_earlier else None
