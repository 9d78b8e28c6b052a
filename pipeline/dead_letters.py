"""Dead letters: what can never become a row, with its bytes, where it comes from, and why."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

if TYPE_CHECKING:  # who only reads dead letters need not import Faust
    from pipeline.batches import Entry

__all__ = [
    "BUG",
    "ID_CONFLICT",
    "INVALID",
    "ORIGINAL_PREFIX",
    "REASONS",
    "REJECTED",
    "SPAM",
    "Letter",
    "Rejection",
    "concerns",
    "dead_letter",
    "letter_of",
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
#: It looked as if a program had filled in the form.
SPAM = "spam"
REASONS = (INVALID, ID_CONFLICT, REJECTED, BUG, SPAM)

#: Before the names of the headers that the record had itself.
ORIGINAL_PREFIX = "original-"

TRACEBACK_SIZE_MAX_BYTES = 8 * 1024
#: A longer key is no tenant and message id.
KEY_SIZE_MAX_BYTES = 1024
#: Of a reason, a group, the name of a topic: Kafka's longest topic has 249.
TEXT_SIZE_MAX_BYTES = 255
#: Of an offset in Kafka.
_NUMBER_MAX = 2**63 - 1


class Rejection(NamedTuple):
    """A record (a `Record`) that goes to the dead letters, why, and what about it."""

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
    """The dead letter of `record` (a `Record`), with its key, value and headers as they were.

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
    return record.key, record.value, [*origin, *((ORIGINAL_PREFIX + name, value) for name, value in record.headers)]


def traceback_text(error: BaseException) -> str:
    """The traceback of `error`, its last 8 KiB."""
    text = "".join(traceback.format_exception(error))
    return text.encode()[-TRACEBACK_SIZE_MAX_BYTES:].decode(errors="ignore")


def remember(
    records: Iterable[Any], known: Mapping[bytes, bytes], *, group: str, common_topic: str
) -> dict[bytes, bytes]:
    """The entries of the table `dead-letters` after `records` of `lead-dead-letter`; `known` are those of before.

    An entry has the last letter of each topic that a record of this key was in. A record without a key, one that is no
    dead letter of ours, and one that does not concern `group` is passed over. Raises nothing, whatever the records are.
    """
    learned: dict[bytes, bytes] = {}
    for record in records:
        letter = letter_of(record) if _is_name(record.key) else None
        if letter is not None and concerns(letter, group=group, common_topic=common_topic):
            before = learned.get(record.key) or known.get(record.key)
            learned[record.key] = pack({**(unpack(before) if before else {}), letter.topic: letter})
    return learned


def letter_of(record: Any) -> Letter | None:
    """What the headers of a record of `lead-dead-letter` say; None when it is no dead letter of ours."""
    headers = {name: value for name, value in record.headers if value is not None}
    try:
        reason, group, topic = (_text(headers[name]) for name in ("reason", "group", "topic"))
        partition, offset = (int(headers[name]) for name in ("partition", "offset"))
    except (KeyError, ValueError):
        return None
    if not (0 <= partition <= _NUMBER_MAX and 0 <= offset <= _NUMBER_MAX):
        return None
    return Letter(reason, group, topic, partition, offset, record.partition, record.offset, record.timestamp)


def _text(value: bytes) -> str:
    if len(value) > TEXT_SIZE_MAX_BYTES:
        raise ValueError("too long")
    return value.decode()


def concerns(letter: Letter, *, group: str, common_topic: str) -> bool:
    """Whether the letter says something of the leads of `group`.

    Those of other groups do only for `common_topic`, on which every group builds: what another CRM refuses says nothing
    of this one.
    """
    return letter.group == group or letter.topic == common_topic


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
