"""A server that consists of many processes: all of them frozen, let go on, or killed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import psutil

from pipeline.embedded.process import settles

__all__ = ["kill", "pause", "resume"]


def pause(server: subprocess.Popen[bytes]) -> None:
    """SIGSTOP for the server and all that it has started."""
    for one in _frozen(server):
        with suppress(psutil.NoSuchProcess):
            one.suspend()


def resume(server: subprocess.Popen[bytes]) -> None:
    """SIGCONT for all that the server has started, then for the server."""
    for one in reversed(_members(server)):
        with suppress(psutil.NoSuchProcess):
            one.resume()


def kill(server: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the server and all that it has started; returns when the server is gone, the others may be ending."""
    for one in _frozen(server):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    server.wait()


def _frozen(server: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    """The members, when the server is frozen: it cannot start another one behind our back."""
    for head in _members(server)[:1]:
        head.suspend()
        settles(partial(_is_frozen, head))
    return _members(server)


def _is_frozen(process: psutil.Process) -> bool:
    return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)


def _members(server: subprocess.Popen[bytes]) -> Sequence[psutil.Process]:
    """The server, then what it has started; nothing when the server has ended: the others are nobody's then."""
    if server.poll() is not None:
        return []
    head = psutil.Process(server.pid)
    return [head, *head.children(recursive=True)]
