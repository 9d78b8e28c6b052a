"""Dead letters: what can never become a row, with its bytes, where it comes from, and why."""

from __future__ import annotations

import traceback
from typing import Any

from pipeline.batches import Entry

__all__ = ["BUG", "ID_CONFLICT", "INVALID", "REJECTED", "dead_letter", "traceback_text"]

#: The reasons, in the header `reason`.
INVALID = "invalid"
ID_CONFLICT = "id-conflict"
REJECTED = "rejected"
BUG = "bug"

TRACEBACK_SIZE_MAX_BYTES = 8 * 1024


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
