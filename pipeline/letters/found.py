"""A dead letter as it is found in `lead-dead-letter`, and which were met before (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from pipeline.dead_letters import ORIGINAL_PREFIX, Letter, letter_of
from pipeline.inspection.answers import BadName, lead_name

__all__ = ["DeadLetter", "Recent", "found"]

_DIGEST_SIZE_BYTES = 16


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: where it comes from and why, and the record as it was there.

    Attributes:
        letter: reason, origin and place.
        detail: what the code said; of a bug the traceback, which may hold anything.
        key, value, headers: those of the record that could not be processed.
    """

    letter: Letter
    detail: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]

    @property
    def identity(self) -> bytes:
        """What a letter that was appended again after a crash has in common with the first one, and no other has."""
        one = self.letter
        return _digest(one.group.encode(), one.topic.encode(), b"%d/%d" % (one.partition, one.offset))

    @property
    def content(self) -> bytes:
        """What two letters of the same lead have in common: refused again after a replay, it has another identity."""
        return _digest(self.key or b"", self.value or b"")

    @property
    def name(self) -> tuple[str, str] | None:
        """Tenant and message id; None when the key names no lead, and so may be anything."""
        try:
            text = (self.key or b"").decode()
            # Not what `leads status` takes beside names.
            return lead_name(text) if text.count("/") == 1 else None
        except (UnicodeDecodeError, BadName):
            return None


def found(record: Any) -> DeadLetter | None:
    """The dead letter in a record of `lead-dead-letter` (a `Record`); None when it is none of ours."""
    letter = letter_of(record)
    if letter is None:
        return None
    detail = next((value for name, value in record.headers if name == "detail" and value is not None), b"")
    headers = [
        (name.removeprefix(ORIGINAL_PREFIX), value)
        for name, value in record.headers
        if name.startswith(ORIGINAL_PREFIX)
    ]
    return DeadLetter(letter, detail.decode(errors="replace"), record.key, record.value, headers)


class Recent:
    """What was met, in bounded memory: the first is forgotten when there are more than `names_max`.

    That is enough: a letter is appended again after a crash at most a few batches behind the first one.
    """

    def __init__(self, names_max: int = 200_000) -> None:
        self._names: dict[bytes, None] = {}
        self._names_max = names_max

    def meets(self, name: bytes) -> bool:
        """Whether it was met before; from now on it was."""
        is_known = name in self._names
        self._names[name] = None
        if len(self._names) > self._names_max:
            del self._names[next(iter(self._names))]
        return is_known


def _digest(*parts: bytes) -> bytes:
    digest = blake2b(digest_size=_DIGEST_SIZE_BYTES)
    for part in parts:
        # With its length, so that no two lists of parts read the same.
        digest.update(b"%d:" % len(part) + part)
    return digest.digest()
