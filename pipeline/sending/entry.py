"""What a line of a file turns out to be, and the message id of a lead that comes without one.

FileError           the file ends here; what came before may be used
├── BadFile         it is not what it should be, or cut off
└── Unreadable      the system does not give it
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import msgspec

from pipeline.lead import Lead, encode

__all__ = ["BadFile", "FileError", "Numbered", "Refused", "Unreadable", "named"]

#: With its prefix as long as a UUID, so that a lead does not grow when it gets this id in place of one.
_DIGEST_SIZE_BYTES = 14


class FileError(Exception):
    """A file of leads cannot be read, or not further. The text holds nothing of the file."""


class BadFile(FileError):
    """It is not what it should be; the text says what to do."""


class Unreadable(FileError):
    """The system does not give it; the text is the system's reason."""

    @classmethod
    def of(cls, error: OSError) -> Unreadable:
        """What the system says."""
        return cls(error.strerror or str(error))


@dataclass(frozen=True, slots=True)
class Numbered:
    """A lead and the line where it begins, from 1."""

    line: int
    lead: Lead


@dataclass(frozen=True, slots=True)
class Refused:
    """Lines that are no lead; `reason` holds no value of them."""

    line: int
    reason: str
    last_line: int = 0

    def __str__(self) -> str:
        if self.last_line > self.line:
            return f"lines {self.line} to {self.last_line}: {self.reason}"
        return f"line {self.line}: {self.reason}"


def named(lead: Lead, *, with_time: bool) -> Lead:
    """The lead with a message id that follows from its content: the same content, the same id.

    Arguments:
        with_time: `captured_at` was given, and so belongs to the content; else it is the time of reading.
    """
    content = msgspec.structs.replace(lead, message_id="-", captured_at=lead.captured_at if with_time else None)
    digest = blake2b(encode(content), digest_size=_DIGEST_SIZE_BYTES).hexdigest()
    return msgspec.structs.replace(lead, message_id=f"content-{digest}")
