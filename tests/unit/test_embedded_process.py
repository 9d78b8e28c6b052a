"""Locks, ports and processes; and the configuration that is made of them."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.embedded import Broker, Cluster
from pipeline.embedded.config import server_properties
from pipeline.embedded.errors import BrokerError
from pipeline.embedded.probe import metadata
from pipeline.embedded.process import DirectoryLock, free_port, port_is_free, spawn, stop
from pipeline.embedded.storage import cluster_id

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-uc",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up'); time.sleep(60)",
]


def started(args: list[str], folder: Path) -> subprocess.Popen[bytes]:
    lock = DirectoryLock(folder / "lock")
    lock.acquire()
    process = spawn(args, cwd=folder, output=folder / "out", lock=lock)
    lock.hand_over(process.pid)
    return process


def test_the_lock_is_held_by_the_server_and_freed_by_its_end(tmp_path: Path) -> None:
    process = started(SLEEPER, tmp_path)
    with pytest.raises(BrokerError, match=rf"\(process {process.pid}\) uses the data directory"):
        DirectoryLock(tmp_path / "lock").acquire()
    stop(process, timeout_s=10)
    lock = DirectoryLock(tmp_path / "lock")
    lock.acquire()
    lock.release()


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    process = started(STUBBORN, tmp_path)
    while not (tmp_path / "out").read_bytes():
        assert process.poll() is None
    stop(process, timeout_s=0.1)
    assert process.returncode == -9


def test_another_thread_is_refused(tmp_path: Path) -> None:
    errors: list[BrokerError] = []

    def start() -> None:
        try:
            started(SLEEPER, tmp_path)
        except BrokerError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


def test_free_port_is_free_and_a_taken_one_is_not() -> None:
    port = free_port()
    assert port_is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not port_is_free(port)


def test_the_probe_is_silent_about_what_is_no_kafka() -> None:
    assert metadata(free_port()) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert metadata(server.getsockname()[1], timeout_s=0.05) is None


def test_constructors_touch_no_file(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "one", port=9192)
    cluster = Cluster(tmp_path / "three", ports=[9292, 9293, 9294])
    assert (broker.url, broker.running, broker.pid, broker.returncode) == ("kafka://127.0.0.1:9192", False, None, None)
    assert cluster.url == "kafka://127.0.0.1:9292,127.0.0.1:9293,127.0.0.1:9294"
    assert list(tmp_path.iterdir()) == []
    broker.stop()
    broker.kill()


def test_a_cluster_needs_a_port_for_each_node(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="different ports"):
        Cluster(tmp_path, ports=[9292, 9292, 9293])


def test_the_cluster_id_stays_and_is_no_option(tmp_path: Path) -> None:
    ids = set()
    for number in range(300):  # 1 in 64 random ids starts with "-", which Kafka's tools take for an option
        folder = tmp_path / str(number)
        folder.mkdir()
        ids.add(cluster_id(folder))
        assert cluster_id(folder) in ids
    assert len(ids) == 300
    assert not any(name.startswith("-") for name in ids)


@pytest.mark.parametrize("size, replicas, in_sync", [(1, "1", "1"), (3, "3", "2"), (5, "3", "2")])
def test_replicas_follow_the_number_of_nodes(size: int, replicas: str, in_sync: str) -> None:
    voters = {node: 9000 + node for node in range(1, size + 1)}
    settings = server_properties(node_id=1, port=9092, voters=voters)
    for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
        assert settings[f"{topic}.replication.factor"] == replicas
    assert settings["min.insync.replicas"] == settings["transaction.state.log.min.isr"] == in_sync
