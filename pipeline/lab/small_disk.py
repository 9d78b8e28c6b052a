"""A small disk in memory, which can be filled. It is gone with the processes that see it."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["SmallDisk"]

_CLONE_NEWNS = 0x00020000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2


class SmallDisk:
    """A file system of `size_mib` at `path`, an empty directory. Linux, as root; call it in the main thread.

    It is mounted for this process and those that it starts, nobody else sees it: so nothing is left behind, not even
    when this process is killed.
    """

    def __init__(self, path: Path, size_mib: int) -> None:
        self._path = path
        self._size_mib = size_mib

    def mount(self) -> None:
        """Mount it.

        Raises:
            OSError: that is not permitted.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        _require(libc.unshare(_CLONE_NEWNS))
        _require(libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
        options = f"size={self._size_mib}m".encode()
        _require(libc.mount(b"tmpfs", os.fsencode(self._path), b"tmpfs", 0, options))

    def unmount(self) -> None:
        """Let it go, and everything on it."""
        ctypes.CDLL(None, use_errno=True).umount2(os.fsencode(self._path), _MNT_DETACH)

    @staticmethod
    def unfit() -> str | None:
        """Why this machine allows none; None when it does."""
        if sys.platform != "linux":
            return "a small disk is only made on Linux"
        if os.geteuid() != 0:
            return "only root can mount a small disk"
        # In a process of its own, for it changes what its process sees.
        child = os.fork()
        if child == 0:
            libc = ctypes.CDLL(None, use_errno=True)
            is_made = not libc.unshare(_CLONE_NEWNS) and not libc.mount(
                b"none", b"/", None, _MS_REC | _MS_PRIVATE, None
            )
            is_made = is_made and not libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"size=1m")
            os._exit(0 if is_made else 1)
        _, status = os.waitpid(child, 0)
        return None if status == 0 else "mounting a small disk is not permitted here"


def _require(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
