"""An installation for one test: a real broker, real worker processes in real directories, killed by real signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NodeNotReadyError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from pipeline import topics
from pipeline.embedded import Broker, Extra, free_port
from pipeline.settings import Settings
from pipeline.spool import look, spool_path
from tests.integration import formatted

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 8
#: Far above what anything takes here; reached only when something hangs.
PATIENCE_S = 60.0

_ODD_HEADER = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

class Name(str):
    def encode(self, *how):
        return bytes([255])

async def main(broker, topic, partition, key, value):
    async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
        headers = [(Name("name"), b"its value")]
        await producer.send_and_wait(topic, value.encode(), key.encode(), int(partition), headers=headers)

asyncio.run(main(*sys.argv[1:]))
"""

_partition = DefaultPartitioner()
_partitions = list(range(PARTITIONS))


def lead(message_id: str, **members: Any) -> dict[str, Any]:
    """A lead with this message id."""
    return {"message_id": message_id, "tenant": "default", "email": f"{message_id}@example.com", **members}


def leads(count: int, prefix: str = "m") -> list[dict[str, Any]]:
    """`count` leads with different ids."""
    return [lead(f"{prefix}-{number:06d}", company="Example Company", fields={"n": number}) for number in range(count)]


def key(of: dict[str, Any]) -> bytes:
    """The record key of a lead."""
    return f"{of['tenant']}/{of['message_id']}".encode()


def partition(record_key: bytes) -> int:
    """The partition that every producer chooses for a key."""
    number: int = _partition(record_key, _partitions, _partitions)
    return number


class Worker:
    """A worker process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.log = log
        self.port = port

    @property
    def url(self) -> str:
        """Its web server."""
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """What it has logged."""
        return self.log.read_text(errors="replace")

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self) -> Worker:
        """Wait until it is ready; fails with its log when it dies instead."""
        wait_until(lambda: self.ready() or self.process.poll() is not None, self.text)
        assert self.process.poll() is None, f"the worker ended with {self.process.returncode}:\n{self.text()}"
        return self

    def wait_until_answering(self) -> Worker:
        """Wait until its web server answers and its partitions are assigned, ready or not."""
        wait_until(self._is_assigned, self.text)
        return self

    def _is_assigned(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return bool(json.load(error)["checks"]["partitions"] == "ok")
        except (urllib.error.URLError, OSError):
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait()

    def refused(self) -> tuple[int, str]:
        """Wait until it ends by itself; returns its exit status and the last line that it wrote."""
        status = self.process.wait(timeout=PATIENCE_S)
        assert "Traceback" not in self.text()
        return status, self.text().splitlines()[-1]

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and wait; returns its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=timeout_s)


class Installation:
    """Broker, directories, settings and workers of one test."""

    def __init__(self, directory: Path, *, extra: Extra | None = None, **settings: str) -> None:
        self.directory = directory
        self.broker = Broker(directory / "broker", port=free_port(), extra=extra)
        self._is_plain = extra is None
        self.base_port = free_port()
        self.workers: list[Worker] = []
        self._settings = {
            "LEADS_BROKER_URL": self.broker.url,
            "LEADS_REPLICATION": "1",
            "LEADS_DATA_DIR": str(directory / "var"),
            "LEADS_WEB_PORT": str(self.base_port),
            "LEADS_CAPTURE_PORT": "off",
            "LEADS_SESSION_TIMEOUT_S": "2",
            **settings,
        }

    def __enter__(self) -> Installation:
        if self._is_plain:
            formatted.give(self.broker.data_dir)
        self.broker.start()
        if self._is_plain:
            formatted.keep(self.broker.data_dir)
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGCONT)
                worker.kill()
        self.broker.kill()

    @property
    def settings(self) -> Settings:
        """The settings that its workers have."""
        return Settings.from_env(self._settings)

    @property
    def bootstrap(self) -> list[str]:
        """The broker, as aiokafka takes it."""
        return self.settings.bootstrap

    def worker(self, app: str = "pipeline.app", *, port: int | None = None, **settings: str) -> Worker:
        """Start a worker of the module `app`, whose web port (default: a free one) is passed on the command line."""
        port = port or free_port()
        return self.program("faust", "-A", app, "worker", "-l", "info", "-p", str(port), port=port, **settings)

    def program(self, module: str, *args: str, port: int = 0, **settings: str) -> Worker:
        """Start a Python module as a program; the setting of an empty string is one that is not given."""
        log = self.directory / f"worker-{len(self.workers) + 1}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *args],
                cwd=ROOT, env={**inherited, **self._settings, **settings}, stdout=out, stderr=out,
            )  # fmt: skip
        worker = Worker(process, log, port)
        self.workers.append(worker)
        return worker

    def create_topics(self) -> None:
        """Create the topics, as the first worker would."""
        asyncio.run(topics.ensure(self.settings))

    def produce(self, records: Iterable[dict[str, Any]], topic: str = topics.CAPTURED) -> None:
        """Append leads to `topic`, acknowledged."""
        self.produce_raw([(key(one), json.dumps(one).encode()) for one in records], topic)

    def produce_raw(self, records: Iterable[tuple[bytes | None, bytes | None]], topic: str = topics.CAPTURED) -> None:
        """Append keys and values to `topic`, acknowledged."""
        asyncio.run(_produce(self.bootstrap, topic, list(records)))

    def produce_odd_header(self, one: dict[str, Any], topic: str = topics.CAPTURED) -> None:
        """Append a lead that has a header whose name, the byte ff, is not UTF-8."""
        # Only aiokafka's Python, not its C, asks the name of a header for its bytes.
        environ = {**os.environ, "AIOKAFKA_NO_EXTENSIONS": "1"}
        where = [*self.bootstrap, topic, str(partition(key(one))), key(one).decode(), json.dumps(one)]
        subprocess.run([sys.executable, "-c", _ODD_HEADER, *where], env=environ, check=True)

    def rows(self) -> list[tuple[str, str]]:
        """(tenant, message id) of every row of the CRM; no rows while there is no database."""
        return self.query("SELECT tenant, message_id FROM lead ORDER BY 1, 2")

    def query(self, sql: str) -> list[Any]:
        """Rows of a query of the CRM's database."""
        path = self.directory / "var" / "crm.sqlite3"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            try:
                return connection.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def records(self, topic: str) -> list[Any]:
        """Every record of `topic`, in the order of partitions and offsets."""
        return asyncio.run(_records(self.bootstrap, topic))

    def dead_letters(self) -> list[dict[str, str]]:
        """The headers of every dead letter."""
        return [{name: value.decode() for name, value in r.headers} for r in self.records(topics.DEAD_LETTER)]

    def wait_letters(self, count: int) -> None:
        """Wait until there are `count` dead letters, and the workers have read them."""
        # In this order: a topic to which nothing has come yet has no lag either.
        self.wait(lambda: len(self.dead_letters()) == count and self.lag(topics.DEAD_LETTER) == 0)

    def committed(self, topic: str = topics.CAPTURED, group: str = "leads") -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        return asyncio.run(_committed(self.bootstrap, topic, group))

    def ends(self, topic: str = topics.CAPTURED) -> dict[int, int]:
        """The end of the log of each partition."""
        return asyncio.run(_ends(self.bootstrap, topic))

    def commit(self, offsets: dict[int, int], topic: str = topics.CAPTURED, group: str = "leads") -> None:
        """Set the group's offsets; it must have no members."""
        asyncio.run(_commit(self.bootstrap, topic, group, offsets))

    def drained(self) -> bool:
        """Whether the spool is empty and the group at the end of both topics. Not while a broker that was away returns.

        At first such a broker has no leaders and no coordinator; fenced after a long freeze, it names not even itself.
        """
        try:
            return self.spooled == 0 and all(self.lag(topic) == 0 for topic in (topics.CAPTURED, topics.ACCEPTED))
        except (NodeNotReadyError, GroupCoordinatorNotAvailableError, GroupLoadInProgressError):
            return False

    @property
    def spooled(self) -> int:
        """Leads in the spool."""
        return look(spool_path(self.settings.data_dir)).depth

    def lag(self, topic: str = topics.CAPTURED, group: str = "leads") -> int:
        """Records of `topic` that the group has not committed."""
        committed = self.committed(topic, group)
        return sum(end - committed.get(number, 0) for number, end in self.ends(topic).items())

    def logs(self) -> str:
        """What all workers have logged."""
        return "\n".join(f"--- {worker.log.name}\n{worker.text()}" for worker in self.workers)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`; fails with the logs."""
        wait_until(condition, self.logs)

    def wait_rows(self, count: int) -> None:
        """Wait until the CRM has `count` rows."""
        self.wait(lambda: len(self.rows()) >= count)

    def assert_once(self, sent: Iterable[dict[str, Any]]) -> None:
        """Wait until the pipeline is empty; then every lead is in exactly one row, and no row is anybody else's."""
        self.wait(self.drained)
        rows = Counter(self.rows())
        wanted = {(one["tenant"], one["message_id"]) for one in sent}
        lost = sorted(wanted - rows.keys())
        assert not lost, f"{len(lost)} of {len(wanted)} leads lost, such as {lost[:5]}\n{self.logs()}"
        assert rows.keys() == wanted
        assert max(rows.values(), default=1) == 1


def wait_until(condition: Callable[[], bool], context: Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Poll `condition` until it holds. The patience is there for a hang only."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {patience_s} s:\n{context()}"
        time.sleep(0.02)


async def _produce(bootstrap: list[str], topic: str, records: list[tuple[bytes | None, bytes | None]]) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=1) as producer:
        sent = [
            await producer.send(topic, value, key=name, partition=partition(name) if name else 0)
            for name, value in records
        ]
        await asyncio.gather(*sent)


def _assigned(topic: str) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for number in _partitions]


async def _records(bootstrap: list[str], topic: str) -> list[Any]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign(_assigned(topic))
        ends = await consumer.end_offsets(_assigned(topic))
        found: list[Any] = []
        while [tp for tp, end in ends.items() if await consumer.position(tp) < end]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
        return sorted(found, key=lambda record: (record.partition, record.offset))


async def _ends(bootstrap: list[str], topic: str) -> dict[int, int]:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        return {tp.partition: end for tp, end in (await consumer.end_offsets(_assigned(topic))).items()}


async def _committed(bootstrap: list[str], topic: str, group: str) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    finally:
        await admin.close()
    return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic and at.offset >= 0}


async def _commit(bootstrap: list[str], topic: str, group: str, offsets: dict[int, int]) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False) as consumer:
        consumer.assign(_assigned(topic))
        await consumer.commit({TopicPartition(topic, n): OffsetAndMetadata(at, "") for n, at in offsets.items()})
