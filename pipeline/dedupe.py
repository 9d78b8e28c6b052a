"""Which captured leads are new: pure, from the records of a batch and what the table `seen` knows of them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.dead_letters import ID_CONFLICT, INVALID, SPAM, Rejection
from pipeline.lead import InvalidLead, content_hash, decode, key
from pipeline.records import Record

__all__ = ["SUSPECT", "Decision", "Seen", "decide"]

#: The header of a captured lead that looks as if a program had filled in the form; its value says why.
SUSPECT = "suspect"

SUSPICION_MAX_CHARS = 64

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


#: How an entry goes on while its lead has come once. Packed from there: most leads are new, and an object for each
#: took as long as its content hash.
_NEVER_AGAIN = Seen(0, 0, b"")[3:]


@dataclass(slots=True)
class Decision:
    """What becomes of the records of a batch: each is forwarded, rejected or a duplicate; and what the table learns."""

    forward: list[Record] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    duplicates: int = 0
    learned: dict[bytes, bytes] = field(default_factory=dict)


def decide(records: Sequence[Record], known: Mapping[bytes, bytes], *, window_ms: float) -> Decision:
    """Decide on `records` (of one partition, in order).

    `known` has the value in `seen` of every key that is there. A *duplicate* has the key and the content of an event
    with a smaller offset, at most `window_ms` older. The same offset again is a re-delivery after a crash, and is
    forwarded again. The same key with other content is two leads under one name: rejected, never dropped. What is
    suspect is rejected and not learned, so that the lead can still come under its id.
    """
    decision = Decision()
    forward, learned = decision.forward, decision.learned
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
        if record.headers and (why := _suspicion(record)):
            decision.rejected.append(Rejection(record, SPAM, why))
            continue
        digest = content_hash(lead)
        value = learned.get(name) or known.get(name)
        first = None if value is None else _first(value, record, window_ms)
        if first is None:
            forward.append(record)
            learned[name] = _ENTRY.pack(record.offset, record.timestamp, digest, *_NEVER_AGAIN)
            continue
        is_repeat = first.digest == digest
        learned[name] = first.counted(record.offset, is_repeat=is_repeat).pack()
        if is_repeat:
            decision.duplicates += 1
        else:
            detail = f"another lead has this id, at offset {first.offset}"
            decision.rejected.append(Rejection(record, ID_CONFLICT, detail))
    return decision


def _suspicion(record: Record) -> str | None:
    found = next((value for name, value in record.headers if name == SUSPECT and value), None)
    return None if found is None else ascii(found.decode(errors="replace"))[1:-1][:SUSPICION_MAX_CHARS]


def _first(value: bytes, record: Record, window_ms: float) -> Seen | None:
    """The earlier event that `record` repeats, if any."""
    first = Seen.unpack(value)
    is_earlier = first.offset < record.offset and record.timestamp - first.time_ms <= window_ms
    return first if is_earlier else None
