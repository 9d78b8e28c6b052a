"""Dead letters: what can never become a row, with its bytes, where it comes from, and why."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from pipeline.batches import Entry

__all__ = [
    "BUG",
    "ID_CONFLICT",
    "INVALID",
    "REJECTED",
    "Letter",
    "Rejection",
    "dead_letter",
    "pack",
    "remember",
    "traceback_text",
    "unpack",
]

#: The reasons, in the header `reason`.
INVALID = "invalid"
ID_CONFLICT = "id-conflict"
REJECTED = "rejected"
BUG = "bug"

TRACEBACK_SIZE_MAX_BYTES = 8 * 1024
#: A longer key is no tenant and message id.
KEY_SIZE_MAX_BYTES = 1024


class Rejection(NamedTuple):
    """A record (aiokafka's `ConsumerRecord`) that goes to the dead letters, why, and what about it."""

    record: Any
    reason: str
    detail: str


class Letter(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of a dead letter: why, of which record, and where it stands. Nothing of the lead itself."""

    reason: str
    #: The consumer group that wrote it, and the record that it could not process.
    group: str
    topic: str
    partition: int
    offset: int
    #: Its own place in `lead-dead-letter`, and the broker's time of it (ms).
    letter_partition: int
    letter_offset: int
    time_ms: int


_letters = msgspec.msgpack.Decoder(dict[str, Letter])


def dead_letter(record: Any, *, group: str, reason: str, detail: str) -> Entry:
    """The dead letter of `record` (aiokafka's `ConsumerRecord`), with its key, value and headers as they were.

    Its identity is (group, topic, partition, offset): after a crash the same dead letter may be appended again.
    """
    origin: list[tuple[str, bytes]] = [
        ("reason", reason.encode()),
        ("detail", detail.encode()),
        ("group", group.encode()),
        ("topic", record.topic.encode()),
        ("partition", b"%d" % record.partition),
        ("offset", b"%d" % record.offset),
    ]
    return record.key, record.value, [*origin, *(("original-" + name, value) for name, value in record.headers)]


def traceback_text(error: BaseException) -> str:
    """The traceback of `error`, its last 8 KiB."""
    text = "".join(traceback.format_exception(error))
    return text.encode()[-TRACEBACK_SIZE_MAX_BYTES:].decode(errors="ignore")


def remember(
    records: Iterable[Any], known: Mapping[bytes, bytes], *, group: str, common_topic: str
) -> dict[bytes, bytes]:
    """The entries of the table `dead-letters` after `records` of `lead-dead-letter`; `known` are those of before.

    An entry has the last letter of each topic that a record of this key was in. Letters of other groups count only for
    `common_topic`, on which every group builds: what another CRM refuses says nothing of this one. A record without a
    key, or that is no dead letter of ours, is passed over. Raises nothing, whatever the records are.
    """
    learned: dict[bytes, bytes] = {}
    for record in records:
        letter = _letter(record)
        if letter is not None and (letter.group == group or letter.topic == common_topic):
            before = learned.get(record.key) or known.get(record.key)
            learned[record.key] = pack({**(unpack(before) if before else {}), letter.topic: letter})
    return learned


def pack(letters: Mapping[str, Letter]) -> bytes:
    """The value in the table: the last letter of each topic."""
    return msgspec.msgpack.encode(letters)


def unpack(value: bytes) -> dict[str, Letter]:
    """The letters in a value of the table, by topic."""
    return _letters.decode(value)


def _is_name(key: bytes | None) -> bool:
    if key is None or len(key) > KEY_SIZE_MAX_BYTES:
        return False
    try:
        return "/" in key.decode()
    except UnicodeDecodeError:
        return False


def _letter(record: Any) -> Letter | None:
    headers = {name: value for name, value in record.headers if value is not None}
    if not _is_name(record.key):
        return None
    try:
        reason, group, topic = (headers[name].decode() for name in ("reason", "group", "topic"))
        partition, offset = (int(headers[name]) for name in ("partition", "offset"))
    except (KeyError, ValueError):
        return None
    return Letter(reason, group, topic, partition, offset, record.partition, record.offset, record.timestamp)
