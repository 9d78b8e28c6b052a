"""Slots, with real processes: each live worker has one of its own, and a dead one's is free."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.settings import Settings
from pipeline.slots import (
    SLOT_VARIABLE,
    SLOTS_MAX,
    SlotError,
    SlotTaken,
    free_slots,
    require_free_port,
    take_slot,
    unwritable,
    wanted_slot,
)

# Takes a slot, tells its number, and lives until its stdin is closed.
WORKER = """
import sys
from pipeline.settings import Settings
from pipeline.slots import take_slot
print(take_slot(Settings.from_env(), patience_s=60).number, flush=True)
sys.stdin.read()
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "var", web_port=7000)


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    processes = []

    def start(wanted: int | None = None) -> subprocess.Popen[str]:
        environ = {**os.environ, "LEADS_DATA_DIR": str(settings.data_dir)}
        if wanted is not None:
            environ[SLOT_VARIABLE] = str(wanted)
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with process:
            process.kill()


def number(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def test_five_workers_at_once_get_the_slots_one_to_five(start: Start) -> None:
    workers = [start() for _ in range(5)]
    assert sorted(number(worker) for worker in workers) == [1, 2, 3, 4, 5]


def test_a_killed_worker_frees_its_slot(start: Start) -> None:
    first = start()
    assert number(first) == 1
    assert number(start()) == 2
    first.kill()
    first.wait()
    assert number(start()) == 1


def test_a_wanted_slot_is_taken_though_a_lower_one_is_free(start: Start) -> None:
    assert number(start(wanted=3)) == 3
    assert number(start()) == 1


def test_a_wanted_slot_is_waited_for_while_its_former_owner_exits(start: Start) -> None:
    former = start(wanted=2)
    assert number(former) == 2
    next_one = start(wanted=2)
    assert former.stdin is not None
    former.stdin.close()
    assert number(next_one) == 2


def test_a_wanted_slot_that_stays_taken_is_an_error_that_names_the_owner(start: Start, settings: Settings) -> None:
    owner = start()
    assert number(owner) == 1
    with pytest.raises(SlotTaken, match=f"slot 1 is still taken by process {owner.pid};"):
        take_slot(settings, wanted=1, patience_s=0.0)


def test_port_and_directory_follow_from_the_slot(settings: Settings) -> None:
    slots = [take_slot(settings) for _ in range(2)]
    assert [(slot.name, slot.web_port) for slot in slots] == [("worker-1", 7000), ("worker-2", 7001)]
    assert [slot.state_dir for slot in slots] == [settings.data_dir / "worker-1", settings.data_dir / "worker-2"]
    assert all(slot.state_dir.is_dir() for slot in slots)


def test_the_state_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert take_slot(Settings(data_dir=Path("var"))).state_dir == tmp_path / "var" / "worker-1"


def test_a_child_process_does_not_inherit_the_slot(settings: Settings) -> None:
    script = f"""
import os, signal, subprocess, sys
from pathlib import Path
from pipeline.settings import Settings
from pipeline.slots import take_slot
take_slot(Settings(data_dir=Path({str(settings.data_dir)!r})))
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False)
os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
    with parent:  # closes the pipe that the child reads, after the check
        parent.wait()
        assert take_slot(settings).number == 1


def test_free_slots_takes_none_and_skips_what_is_taken(start: Start, settings: Settings) -> None:
    assert number(start(wanted=2)) == 2
    for _ in range(2):
        assert [slot.number for slot in free_slots(settings, 3, patience_s=0.0)] == [1, 3, 4]


def test_free_slots_prefers_the_first_ones_once_they_are_let_go(start: Start, settings: Settings) -> None:
    orphan = start()
    assert number(orphan) == 1
    assert orphan.stdin is not None
    orphan.stdin.close()
    assert [slot.number for slot in free_slots(settings, 2, patience_s=60.0)] == [1, 2]


def test_more_slots_than_there_are_cannot_be_had(settings: Settings) -> None:
    with pytest.raises(SlotTaken, match=str(SLOTS_MAX)):
        free_slots(settings, SLOTS_MAX + 1, patience_s=0.0)


@pytest.mark.parametrize("wanted", [0, SLOTS_MAX + 1])
def test_there_are_no_slots_beside_the_range(settings: Settings, wanted: int) -> None:
    with pytest.raises(SlotError, match=f"no worker slot {wanted}"):
        take_slot(settings, wanted=wanted)


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").touch()
    with pytest.raises(SlotError, match=r"var/slots cannot be written .*LEADS_DATA_DIR"):
        take_slot(Settings(data_dir=tmp_path / "var"))


@pytest.mark.parametrize(
    "number,status,todo", [(errno.ENOSPC, os.EX_IOERR, "free some"), (errno.EROFS, os.EX_CONFIG, "set LEADS_DATA_DIR")]
)
def test_a_full_disk_passes_and_a_directory_that_cannot_be_written_does_not(
    number: int, status: int, todo: str
) -> None:
    error = unwritable(Path("/var/leads"), OSError(number, os.strerror(number)))
    assert error.status == status
    assert "/var/leads" in str(error)
    assert todo in str(error)


def test_a_port_above_the_last_one_is_refused(settings: Settings) -> None:
    with pytest.raises(SlotError, match="65536"):
        take_slot(Settings(data_dir=settings.data_dir, web_port=65535), wanted=2)


def test_a_port_that_somebody_listens_on_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SlotError, match=f"port {port} of 127.0.0.1 .*stop the program that does, or set -p"):
            require_free_port("127.0.0.1", port, given_by="-p")
    require_free_port("127.0.0.1", port)


def test_a_port_that_is_being_let_go_is_waited_for() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    threading.Timer(0.2, server.close).start()
    require_free_port("127.0.0.1", port, patience_s=60.0)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(SlotError, match=r"of 192\.0\.2\.1 .*set LEADS_WEB_BIND to an address of this machine"):
        require_free_port("192.0.2.1", 7000)


@pytest.mark.parametrize("environ,wanted", [({}, None), ({SLOT_VARIABLE: ""}, None), ({SLOT_VARIABLE: "3"}, 3)])
def test_the_supervisors_wish(environ: dict[str, str], wanted: int | None) -> None:
    assert wanted_slot(environ) == wanted
