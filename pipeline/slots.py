"""Which of the workers on this machine a process is: the lowest free slot, held as long as the process lives.

The web port and the state directory follow from the slot. So workers never collide, however they were started (`leads
up`, a Procfile runner, `faust worker` by hand), and a worker that is started again finds its state on disk.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.settings import Settings

__all__ = [
    "SLOTS_MAX",
    "SLOT_VARIABLE",
    "Slot",
    "SlotError",
    "SlotTaken",
    "free_slots",
    "instance_id",
    "require_free_port",
    "take_slot",
    "unwritable",
    "wanted_slot",
]

#: Private: in it the supervisor tells a worker which slot to take, so that it comes back under its name.
SLOT_VARIABLE = "_LEADS_SLOT"

#: Workers on one machine and data directory; also the highest slot number.
SLOTS_MAX = 256

#: How long a wanted slot may stay taken, in seconds: the former process may still be exiting.
PATIENCE_S = 5.0

_RETRY_S = 0.05

# Descriptors of this process's slots. Never closed: the kernel frees a slot when the process ends, however it does.
_held: list[int] = []


class SlotError(RuntimeError):
    """No slot can be had; the text says what to do.

    `status` is the exit status of a program that ends with it (sysexits.h): 78 where no restart mends it.
    """

    def __init__(self, text: str, *, status: int = os.EX_CONFIG) -> None:
        super().__init__(text)
        self.status = status


class SlotTaken(SlotError):
    """The wanted slot, or every slot, belongs to another live process; that may change."""

    def __init__(self, text: str) -> None:
        super().__init__(text, status=os.EX_TEMPFAIL)


@dataclass(frozen=True)
class Slot:
    """A worker's place on this machine.

    Attributes:
        number: from 1.
        state_dir: where the worker keeps its state: absolute, and exists.
        web_port: its TCP port for HTTP.
    """

    number: int
    state_dir: Path
    web_port: int

    @property
    def name(self) -> str:
        """The worker's name, such as `worker-1`."""
        return f"worker-{self.number}"


def take_slot(settings: Settings, *, wanted: int | None = None, patience_s: float = PATIENCE_S) -> Slot:
    """Take the lowest free slot, or the wanted one, until this process ends.

    Args:
        settings: of these, the data directory and the first web port.
        wanted: this slot and no other; default: what the supervisor asks for, if it started this process.
        patience_s: how long to wait for a wanted slot that is taken.

    Raises:
        SlotTaken: the wanted slot is still taken after `patience_s`, or all are.
        SlotError: the data directory cannot be written, or there is no such slot or port.
    """
    wanted = wanted_slot() if wanted is None else wanted
    number, descriptor = _lowest(settings) if wanted is None else _this(settings, wanted, patience_s)
    slot = _slot(settings, number)
    _make_directory(slot.state_dir)
    _note_pid(settings, descriptor)
    _held.append(descriptor)
    return slot


def instance_id(slot: Slot, url: str) -> str:
    """The name of the slot's worker as a static member of its consumer group (KIP-345), the same at every start.

    It comes from a random one, kept with the state: two machines have slots of the same number, and no state in common.
    At another `url` it is another member: an assignment names the workers' addresses, and a static member that comes
    back is given the one from before.
    """
    path = slot.state_dir / "instance-id"
    if not path.exists():
        new = path.with_suffix(".new")
        new.write_text(f"{uuid.uuid4()}\n")
        new.replace(path)
    return str(uuid.uuid5(uuid.UUID(path.read_text().strip()), url))


def wanted_slot(environ: Mapping[str, str] | None = None) -> int | None:
    """The slot that the supervisor asks this process to take, or None."""
    text = (os.environ if environ is None else environ).get(SLOT_VARIABLE, "")
    return int(text) if text.isdecimal() else None


def free_slots(settings: Settings, count: int, *, patience_s: float = PATIENCE_S) -> list[Slot]:
    """The `count` lowest free slots; none of them is taken by this call.

    While some of the first `count` are taken, it waits for them up to `patience_s` before it looks further: they may
    belong to workers that are about to end together with their killed supervisor.

    Raises:
        SlotTaken: fewer than `count` are free.
        SlotError: the data directory cannot be written, or a slot has no web port.
    """
    deadline_s = time.monotonic() + patience_s
    while True:
        free = list(islice((n for n in range(1, SLOTS_MAX + 1) if _is_free(settings, n)), count))
        if free == list(range(1, count + 1)) or (len(free) == count and time.monotonic() >= deadline_s):
            return [_slot(settings, number) for number in free]
        if time.monotonic() >= deadline_s:
            raise SlotTaken(f"Fewer than {count} of the {SLOTS_MAX} worker slots of {_lock_dir(settings)} are free.")
        time.sleep(_RETRY_S)


def require_free_port(bind: str, port: int, *, given_by: str = "LEADS_WEB_PORT", patience_s: float = 0.0) -> None:
    """Check that this process could listen on `port` of the address `bind`.

    Args:
        bind: an address of this machine.
        port: a TCP port.
        given_by: what to change for another port.
        patience_s: how long to wait for a port that is taken: the former worker may still be exiting.

    Raises:
        SlotError: it cannot.
    """
    deadline_s = time.monotonic() + patience_s
    while (error := _listen_error(bind, port)) is not None:
        if time.monotonic() >= deadline_s:
            raise SlotError(
                f"A worker cannot listen on port {port} of {bind} ({error.strerror}); {_cure(error, given_by)}"
            )
        time.sleep(_RETRY_S)


def _cure(error: OSError, given_by: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"stop the program that does, or set {given_by} to the first of some free ports."
    return f"set LEADS_WEB_BIND to an address of this machine, and {given_by} to a port that this user may take."


def _listen_error(bind: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.socket(family) as server:
        # As aiohttp does it: connections of the former worker that are still closing are in nobody's way.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((bind, port))
            server.listen()
        except OSError as error:
            return error
    return None


def _slot(settings: Settings, number: int) -> Slot:
    web_port = settings.web_port + number - 1
    if web_port > 65535:
        raise SlotError(f"Worker {number} would get the web port {web_port}, which is none; set LEADS_WEB_PORT lower.")
    return Slot(number, settings.data_dir.absolute() / f"worker-{number}", web_port)


def _lowest(settings: Settings) -> tuple[int, int]:
    for number in range(1, SLOTS_MAX + 1):
        descriptor = _try(settings, number)
        if descriptor is not None:
            return number, descriptor
    raise SlotTaken(f"All {SLOTS_MAX} worker slots of {_lock_dir(settings)} are taken.")


def _this(settings: Settings, number: int, patience_s: float) -> tuple[int, int]:
    if not 1 <= number <= SLOTS_MAX:
        raise SlotError(f"There is no worker slot {number}; they are 1 to {SLOTS_MAX}.")
    deadline_s = time.monotonic() + patience_s
    while (descriptor := _try(settings, number)) is None:
        if time.monotonic() >= deadline_s:
            owner = _lock_file(settings, number).read_text().strip() or "unknown"
            raise SlotTaken(f"Worker slot {number} is still taken by process {owner}; stop that process.")
        time.sleep(_RETRY_S)
    return number, descriptor


def _is_free(settings: Settings, number: int) -> bool:
    descriptor = _try(settings, number)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def _try(settings: Settings, number: int) -> int | None:
    """The descriptor that holds the slot's lock, or None when another one does."""
    path = _lock_file(settings, number)
    _make_directory(path.parent)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        os.close(descriptor)
        raise SlotError(f"{path} cannot be locked ({error.strerror}); set LEADS_DATA_DIR to a local disk.") from None
    return descriptor


def _lock_dir(settings: Settings) -> Path:
    return settings.data_dir.absolute() / "slots"


def _lock_file(settings: Settings, number: int) -> Path:
    return _lock_dir(settings) / f"{number}.lock"


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> SlotError:
    """The error for a path of the data directory that cannot be written because of `error`."""
    if error.errno == errno.ENOSPC:
        return SlotError(f"No space is left on the disk of {path}; free some.", status=os.EX_IOERR)
    return SlotError(f"{path} cannot be written ({error.strerror}); set LEADS_DATA_DIR to a directory that can be.")


def _note_pid(settings: Settings, descriptor: int) -> None:
    """For the human who looks for the owner; only the lock counts."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise unwritable(_lock_dir(settings), error) from None
