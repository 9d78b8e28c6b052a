"""The errors of the embedded servers: one for each."""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["NO_SPACE", "BrokerError", "PostgresError", "disk_error"]

#: How Java, Kafka and the system itself say that a disk is full.
NO_SPACE = os.strerror(errno.ENOSPC)


class _ServerError(RuntimeError):
    """A server cannot do what was asked; the text is a sentence that says what to do.

    `status` is the exit status of a program that ends with it (sysexits.h): 78 where no restart mends it.
    """

    def __init__(self, text: str, *, status: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.status = status


class BrokerError(_ServerError):
    """The embedded broker cannot do what was asked."""


class PostgresError(_ServerError):
    """The embedded PostgreSQL cannot do what was asked."""


def disk_error(data_dir: Path, why: str) -> BrokerError:
    """The error for a data directory that cannot be written for the reason `why`."""
    if NO_SPACE in why:
        return BrokerError(f"No space is left on the disk of {data_dir}; free some.", status=os.EX_IOERR)
    text = f"The broker cannot write to {data_dir} ({why}); set LEADS_DATA_DIR to a directory that it can write."
    return BrokerError(text, status=os.EX_CONFIG)
