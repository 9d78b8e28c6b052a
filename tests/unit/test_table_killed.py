"""A table's database after SIGKILL: as of one of its writes, and with the offset of that one, logged or not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.batches.store import WRITE_BUFFER_SIZE_BYTES, BatchStore
from tests.unit.engine import record
from tests.unit.test_table import new_store

ENTRIES = 5_000
VALUE = b"v" * 40
#: Several write buffers full, so that files are written meanwhile.
MANY = 2 * WRITE_BUFFER_SIZE_BYTES // (ENTRIES * 100)

PROGRAM = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_table_killed import put, new_store

store, unlogged, logged = new_store(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
for number in range(unlogged + logged):
    put(store, number, is_logged=number >= unlogged)
os.kill(os.getpid(), signal.SIGKILL)
"""


def name(number: int) -> bytes:
    return b"default/%08d" % number


def put(store: BatchStore, number: int, *, is_logged: bool) -> None:
    """Write number `number`: entries, and the offset behind them."""
    numbers = range(number * ENTRIES, (number + 1) * ENTRIES)
    if is_logged:
        store.write(0, {name(n): VALUE for n in numbers}, numbers.stop)
    else:
        store.apply(0, [record(n, key=name(n), value=VALUE) for n in numbers], numbers.stop, is_logged=False)


def killed(directory: Path, *, unlogged: int, logged: int) -> BatchStore:
    """The store that a process left when it was killed after so many writes."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), str(unlogged), str(logged)], check=False, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    return new_store(directory)


@pytest.mark.parametrize("unlogged, logged", [(3, 0), (MANY, 0), (3, 2), (MANY, 2), (0, 3)])
def test_it_has_all_entries_up_to_its_offset_and_none_behind(tmp_path: Path, unlogged: int, logged: int) -> None:
    store = killed(tmp_path, unlogged=unlogged, logged=logged)
    complete = store.next_offset(0) or 0
    written = (unlogged + logged) * ENTRIES
    assert complete % ENTRIES == 0
    if logged:
        assert complete == written  # what was not logged came into files before
    elif unlogged == MANY:
        assert 0 < complete <= written
    assert store.get_many(0, [name(n) for n in range(written)]) == [VALUE] * complete + [None] * (written - complete)


def test_what_was_not_logged_is_there_after_a_flush_and_after_an_orderly_end(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    put(store, 0, is_logged=False)
    store.flush(0)
    put(store, 1, is_logged=False)
    store._close(0)
    assert new_store(tmp_path).next_offset(0) == 2 * ENTRIES


KILLED_AFTER_FLUSH = """
import os, signal, sys
from pathlib import Path
from tests.unit.test_table_killed import put, new_store

store = new_store(Path(sys.argv[1]))
put(store, 0, is_logged=True)
put(store, 1, is_logged=False)
store.flush(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_flushed_is_there_with_its_offset(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_AFTER_FLUSH, str(tmp_path)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    store = new_store(tmp_path)
    assert store.next_offset(0) == 2 * ENTRIES
    assert store.get_many(0, [name(2 * ENTRIES - 1)]) == [VALUE]


def test_what_was_being_wiped_is_gone_whatever_a_kill_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = new_store(tmp_path)
    put(store, 0, is_logged=True)

    def killed_at_once(path: Path, **options: object) -> None:
        """Remove nothing."""

    monkeypatch.setattr("pipeline.batches.store.shutil.rmtree", killed_at_once)
    store.wipe(0)
    monkeypatch.undo()
    again = new_store(tmp_path)
    assert again.next_offset(0) is None
    again.wipe(0)
    assert [path.name for path in store.partition_path(0).parent.iterdir() if "wiped" in path.name] == []
