"""Whose turn it is to send what is in the spool: of all workers of a data directory one at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pipeline.spool.file import translated

__all__ = ["Turn"]


class Turn:
    """A lock beside the spool at `path`. The kernel frees it when the process ends, however it does."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name("spool.lock")
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Whether it is ours now; it does not wait.

        Raises:
            SpoolError: the file of the lock cannot be made.
        """
        with translated():
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        return True

    def pass_on(self) -> None:
        """Let another one have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
