"""A data directory belongs to one cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cluster_note import WrongCluster, require_cluster
from pipeline.slots import SlotError

# Waits until stdin is closed, so that several start at the same moment; tells which id was noted, or refuses.
NOTE = """
import sys
from pathlib import Path
from pipeline.cluster_note import WrongCluster, require_cluster
print("started", flush=True)
sys.stdin.read()
try:
    require_cluster(Path(sys.argv[1]), sys.argv[2])
    print("mine")
except WrongCluster:
    print("another's")
"""


def test_the_first_start_notes_the_cluster_and_the_next_ones_compare(tmp_path: Path) -> None:
    for _ in range(2):
        require_cluster(tmp_path, "one")
    with pytest.raises(WrongCluster) as caught:
        require_cluster(tmp_path, "other")
    text = str(caught.value)
    assert f"{tmp_path} holds the state of the Kafka cluster one, and the broker is of the cluster other." in text
    assert all(word in text for word in ("LEADS_BROKER_URL", "LEADS_DATA_DIR", f"delete {tmp_path / 'cluster-id'}"))
    assert caught.value.status == os.EX_CONFIG
    (tmp_path / "cluster-id").unlink()
    require_cluster(tmp_path, "other")


def test_a_cluster_without_an_id_is_not_compared(tmp_path: Path) -> None:
    require_cluster(tmp_path, None)
    assert list(tmp_path.iterdir()) == []
    require_cluster(tmp_path, "one")
    require_cluster(tmp_path, None)


def test_of_many_at_once_one_is_first_and_all_agree(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", NOTE, tmp_path, f"cluster-{number % 2}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(6)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    said = [process.communicate()[0].strip() for process in processes]
    assert [path.name for path in tmp_path.iterdir()] == ["cluster-id"]
    assert len({said[0], said[2], said[4]}) == 1
    assert {said[0], said[1]} == {"mine", "another's"}


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SlotError, match=r"file/cluster-id cannot be written \(Not a directory\)"):
        require_cluster(tmp_path / "file", "one")
