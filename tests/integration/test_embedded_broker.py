"""The embedded broker: a real Kafka, started, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pipeline.embedded import Broker, BrokerError, Cluster, free_port
from pipeline.embedded.jars import fetch_jars, read_lock
from pipeline.embedded.java import bundled_java
from tests.integration.children import ended, python

pytestmark = pytest.mark.integration

TOPIC = "leads"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path / "broker", port=free_port())
    with broker:
        yield broker


def hosts(url: str) -> str:
    return url.removeprefix("kafka://")


def numbers(*span: int) -> list[bytes]:
    return [str(number).encode() for number in range(*span)]


async def create_topic(url: str, *, replicas: int = 1, in_sync: int = 1) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts(url))
    await admin.start()
    try:
        settings = {"min.insync.replicas": str(in_sync)}
        await admin.create_topics([NewTopic(TOPIC, 1, replicas, topic_configs=settings)])
    finally:
        await admin.close()


async def produce(url: str, values: Iterable[bytes]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=hosts(url), acks="all") as producer:
        for value in values:
            await producer.send_and_wait(TOPIC, value)


async def consume(url: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=hosts(url), auto_offset_reset="earliest", group_id="readers")
    async with consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def test_records_survive_a_stop(broker: Broker) -> None:
    await create_topic(broker.url)
    await produce(broker.url, numbers(100))
    assert await consume(broker.url, 100) == numbers(100)
    broker.stop()
    broker.stop()
    assert not broker.running
    broker.start()
    # The group goes on behind what it has read, so its offsets are still there as well.
    await produce(broker.url, numbers(100, 110))
    assert await consume(broker.url, 10) == numbers(100, 110)


async def test_acknowledged_records_survive_sigkill(broker: Broker) -> None:
    await create_topic(broker.url)
    await produce(broker.url, numbers(100))
    broker.kill()
    assert (broker.running, broker.returncode) == (False, -signal.SIGKILL)
    broker.start()
    assert await consume(broker.url, 100) == numbers(100)


async def test_a_paused_broker_is_there_again_when_resumed(broker: Broker) -> None:
    await create_topic(broker.url)
    broker.pause()
    assert broker.running
    broker.resume()
    await produce(broker.url, numbers(1))
    broker.pause()
    broker.stop(timeout_s=30)
    assert broker.returncode == 128 + signal.SIGTERM  # in order although it was paused


def test_the_log_is_in_its_file_and_nowhere_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JDK_JAVA_OPTIONS")  # a JVM says that it has found them
    with Broker(tmp_path / "broker", port=free_port()) as broker:
        pass
    assert "Kafka Server started" in broker.log_file.read_text()
    assert (broker.data_dir / "jvm.out").read_text() == ""
    assert capfd.readouterr() == ("", "")


def test_a_second_start_in_the_same_directory_is_refused(broker: Broker) -> None:
    with pytest.raises(BrokerError, match=rf"process {broker.pid}\) uses the data directory"):
        Broker(broker.data_dir, port=free_port()).start()
    with pytest.raises(BrokerError, match="already runs"):
        broker.start()
    assert broker.running


def test_a_taken_port_is_refused(broker: Broker, tmp_path: Path) -> None:
    second = Broker(tmp_path / "second", port=broker.port)
    with pytest.raises(BrokerError, match=f"Port {broker.port} of 127.0.0.1 is taken"):
        second.start()
    assert not second.running


def test_a_broker_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    with Broker(tmp_path, port=free_port()):
        pass
    stranger = Broker(tmp_path, port=free_port(), node_id=2)
    with pytest.raises(BrokerError, match=r"(?s)ended with status 1\..*doesn't match previous node id 2") as caught:
        stranger.start()
    assert "SIGTERM" not in str(caught.value)  # which is in the log as well, of the run before
    assert not stranger.running


def test_a_storage_of_another_cluster_is_refused_and_one_without_its_note_is_not(tmp_path: Path) -> None:
    with Broker(tmp_path, port=free_port()):
        pass
    note = tmp_path / "cluster-id"
    ours = note.read_text()
    note.write_text("another\n")
    with pytest.raises(
        BrokerError, match=rf"holds records of the cluster {ours.strip()}, but .* says another"
    ) as caught:
        Broker(tmp_path, port=free_port()).start()
    assert caught.value.status == os.EX_CONFIG
    note.unlink()
    with Broker(tmp_path, port=free_port()):
        assert note.read_text() == ours


def test_any_path_will_do(tmp_path: Path) -> None:
    with Broker(tmp_path / "100 %i, für ${sys:user.home}\\", port=free_port()) as broker:
        assert broker.log_file.exists()
    assert [path.name for path in tmp_path.iterdir()] == [broker.data_dir.name]


def test_a_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"cannot write to .*/file \(File exists\); set LEADS_DATA_DIR"):
        Broker(tmp_path / "file", port=free_port()).start()


def test_the_java_of_the_wheel_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with Broker(tmp_path, port=free_port()) as broker:
        assert broker.pid is not None
        assert Path(f"/proc/{broker.pid}/exe").resolve() == bundled_java().path.resolve()


PARENT = """
import sys
from pathlib import Path
from pipeline.embedded import Broker
broker = Broker(Path(sys.argv[1]), port=int(sys.argv[2]))
broker.start()
print(broker.pid, flush=True)
broker.wait()
"""
COMMAND = "import sys; from pipeline.__main__ import main; main(['broker', *sys.argv[1:]])"
FETCH = """
import sys
from pathlib import Path
from pipeline.embedded.jars import fetch_jars
fetch_jars(*map(Path, sys.argv[1:]))
"""


def leads_broker(data_dir: Path) -> subprocess.Popen[str]:
    return python(COMMAND, "--data-dir", data_dir, "--port", free_port())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a child with its parent")
def test_the_jvm_dies_with_its_parent(tmp_path: Path) -> None:
    port = free_port()
    with python(PARENT, tmp_path, port) as parent:
        assert parent.stdout is not None
        jvm = os.pidfd_open(int(parent.stdout.readline()))
        asyncio.run(create_topic(f"kafka://127.0.0.1:{port}"))
        asyncio.run(produce(f"kafka://127.0.0.1:{port}", numbers(10)))
        parent.kill()
        assert ended(jvm, timeout_s=10)
        os.close(jvm)


def test_the_next_start_waits_for_the_jvm_of_a_killed_parent(tmp_path: Path) -> None:
    port = free_port()
    with python(PARENT, tmp_path, port) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        parent.kill()
        with Broker(tmp_path, port=port):
            pass


async def test_three_nodes_survive_the_death_of_the_leader(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        await create_topic(cluster.url, replicas=3, in_sync=2)
        async with AIOKafkaProducer(bootstrap_servers=hosts(cluster.url), acks="all") as producer:
            for value in numbers(50):
                await producer.send_and_wait(TOPIC, value)
            (leader_id,) = {p.leader for p in (await producer.client.fetch_all_metadata())._partitions[TOPIC].values()}
            leader = next(node for node in cluster.nodes if node.node_id == leader_id)
            leader.kill()
            with pytest.raises(BrokerError, match="already run"):
                cluster.start()
            for value in numbers(50, 100):
                await producer.send_and_wait(TOPIC, value)
        assert await consume(cluster.url, 100) == numbers(100)
        leader.start()
        leader.wait_ready(nodes=3)
        assert cluster.running
    assert not any(node.running for node in cluster.nodes)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_runs_until_it_is_told_to_stop(tmp_path: Path, signal_number: int) -> None:
    with leads_broker(tmp_path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "kafka://127.0.0.1:" in line
        assert "not a loss of power" in line
        process.send_signal(signal_number)
        assert process.wait(20) == 0
        assert process.stdout.read() == ""


def test_the_command_ends_with_a_broker_that_dies(tmp_path: Path) -> None:
    with leads_broker(tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(int((tmp_path / "lock").read_text()), signal.SIGKILL)
        assert process.wait(20) == os.EX_UNAVAILABLE
        assert "ended by itself with status -9" in process.stdout.read()


def test_the_command_says_why_it_cannot_start(broker: Broker) -> None:
    with leads_broker(broker.data_dir) as process:
        assert process.wait(20) == os.EX_CONFIG
        assert process.stdout is not None
        output = process.stdout.read()
    assert "uses the data directory" in output
    assert "Traceback" not in output


SMALL_JARS = ("org.jspecify:jspecify:1.0.0", "org.slf4j:slf4j-api:1.7.36", "org.pcollections:pcollections:4.0.2")


def small_lock(folder: Path, *, spoil: str = "") -> Path:
    lines = [
        f"{'0' * 64 if jar.name == spoil else jar.sha256} {jar.name}\n" for jar in read_lock() if jar.name in SMALL_JARS
    ]
    (folder / "small.lock").write_text("".join(lines))
    return folder / "small.lock"


def test_two_processes_fetch_at_once(tmp_path: Path) -> None:
    args = (small_lock(tmp_path), tmp_path / "repo")
    both = [python(FETCH, *args), python(FETCH, *args)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list((tmp_path / "repo").rglob("*.jar"))) == len(SMALL_JARS)
    assert not (tmp_path / "repo" / ".leads-fetching").exists()


def test_a_fetched_jar_that_does_not_match_is_not_kept(tmp_path: Path) -> None:
    lock_file = small_lock(tmp_path, spoil=SMALL_JARS[0])
    with pytest.raises(BrokerError, match=re.escape(SMALL_JARS[0])):
        fetch_jars(lock_file, tmp_path / "repo")
    assert not list((tmp_path / "repo").rglob("jspecify*.jar"))
