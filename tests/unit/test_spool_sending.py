"""What is in the spool goes to the broker in order, a chunk at a time; out of it goes exactly what is acknowledged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from pipeline.partitioner import partition
from pipeline.spool import Backlog, SpoolError, SpoolWriter, Turn, look, spool_path
from pipeline.web.spool_sending import SpoolSending
from pipeline.web.spool_service import SpoolService

PARTITIONS = 4
TOPIC = "lead-captured"


class Producer:
    """A double of aiokafka's that acknowledges at once, but for the partitions that are `away`."""

    def __init__(self) -> None:
        self.away: set[int] = set()
        self.sent: dict[int, list[tuple[bytes, Any]]] = {}
        self.tries = 0
        self.largest_bytes = 0
        #: A value that the broker does not take.
        self.refused: bytes | None = None

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(1_000_000, 0)

    async def send_batch(self, builder: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[Any]:
        assert topic == TOPIC
        self.tries += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if partition in self.away:
            future.set_exception(KafkaTimeoutError())
        else:
            packed = bytes(builder._build())
            self.largest_bytes = max(self.largest_bytes, len(packed))
            records = [(record.value, record.headers) for record in MemoryRecords(packed).next_batch()]
            if self.refused in [value for value, _ in records]:
                future.set_exception(MessageSizeTooLargeError())
                return future
            self.sent.setdefault(partition, []).extend(records)
            future.set_result(SimpleNamespace(offset=0))
        return future


class Bench:
    """A spool with leads, and what sends them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.producer = Producer()
        self.acknowledged: list[int] = []
        self.writer = SpoolWriter(path, max_bytes=1 << 30)
        self.backlog = Backlog(path)
        self.sending = SpoolSending(
            self.backlog, lambda: self.producer, TOPIC, partitions=PARTITIONS, acknowledged=self.acknowledged.append
        )

    async def put(self, count: int, size_bytes: int = 10, headers: Any = ()) -> None:
        told = [asyncio.get_running_loop().create_future() for _ in range(count)]
        for number, future in enumerate(told):
            value = (b"%06d" % number).ljust(size_bytes, b"x")
            self.writer.put(b"default/%d" % number, value, headers, future.set_result)
        assert set(await asyncio.gather(*told)) == {None}

    def left(self) -> list[int]:
        return [partition(lead.key, PARTITIONS) for lead in Backlog(self.path).read(0)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(spool_path(tmp_path))


async def test_all_of_it_is_sent_in_order_and_nothing_stays(bench: Bench) -> None:
    await bench.put(1300, headers=[("suspect", b"x")])
    await bench.sending.send_all()
    assert look(bench.path).depth == 0
    assert sum(map(len, bench.producer.sent.values())) == 1300
    for records in bench.producer.sent.values():
        assert [value for value, _ in records] == sorted(value for value, _ in records)
        assert all(headers == [("suspect", b"x")] for _, headers in records)
    assert set(bench.acknowledged) == set(range(PARTITIONS))


async def test_large_leads_are_sent_in_small_batches(bench: Bench) -> None:
    await bench.put(20, 64 * 1024)
    await bench.sending.send_all()
    assert look(bench.path).depth == 0
    assert bench.producer.largest_bytes < 400_000


async def test_a_broker_that_is_away_is_tried_once_a_partition_and_no_further(bench: Bench) -> None:
    await bench.put(1300)
    bench.producer.away = set(range(PARTITIONS))
    await bench.sending.send_all()
    assert bench.producer.tries == PARTITIONS
    assert look(bench.path)[:2] == (1300, 1)
    assert bench.acknowledged == []
    bench.producer.away = set()
    await bench.sending.send_all()
    assert look(bench.path).depth == 0


async def test_a_partition_without_a_leader_holds_up_no_other(bench: Bench) -> None:
    await bench.put(1300)
    bench.producer.away = {2}
    await bench.sending.send_all()
    assert set(bench.left()) == {2}
    assert bench.producer.sent.keys() == {0, 1, 3}
    assert set(bench.acknowledged) == {0, 1, 3}
    assert bench.producer.tries <= 3 * 3 + 1


async def test_a_partition_without_a_leader_whose_leads_are_the_oldest_holds_up_no_other(bench: Bench) -> None:
    bench.producer.away = {2}
    await bench.put(3000)
    await bench.sending.send_all()
    # More than are read at once, and all of them for partition 2.
    assert (len(bench.left()), set(bench.left())) == (500, {2})
    await bench.put(100)
    bench.acknowledged.clear()
    await bench.sending.send_all()
    assert set(bench.acknowledged) == {0, 1, 3}


async def test_what_comes_while_it_sends_is_for_the_next_time(bench: Bench) -> None:
    bench.producer.away = {0, 1, 2}
    await bench.put(10)
    read, reads = bench.backlog.read, 0

    def meanwhile(after: int) -> Any:
        nonlocal reads
        reads += 1
        asyncio.run_coroutine_threadsafe(bench.put(10), loop).result()
        return read(after)

    loop = asyncio.get_running_loop()
    bench.backlog.read = meanwhile  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        await bench.sending.send_all()
    assert reads == 1


async def test_only_what_the_broker_refuses_stays(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await bench.put(100)
    bench.producer.refused = b"000042xxxx"
    for _ in range(3):
        await bench.sending.send_all()
    assert [lead.value for lead in Backlog(bench.path).read(0)] == [b"000042xxxx"]
    assert caplog.text.count("MessageSizeTooLargeError") == 1
    assert "000042" not in caplog.text


async def test_while_the_producer_starts_nothing_is_lost(bench: Bench) -> None:
    await bench.put(3)
    sending = SpoolSending(bench.backlog, lambda: None, TOPIC, partitions=PARTITIONS, acknowledged=lambda number: None)
    await sending.send_all()
    assert look(bench.path).depth == 3


async def test_what_cannot_be_deleted_is_not_sent_again_until_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.put(5)
    with monkeypatch.context() as patch:
        patch.setattr(
            "pipeline.spool.backlog._DELETE", "DELETE FROM nowhere WHERE id IN (SELECT value FROM json_each(?))"
        )
        for _ in range(3):
            with pytest.raises(SpoolError):
                await bench.sending.send_all()
    assert look(bench.path).depth == 5
    assert sum(map(len, bench.producer.sent.values())) == 5
    await bench.sending.send_all()
    assert look(bench.path).depth == 0
    assert sum(map(len, bench.producer.sent.values())) == 5


class Publisher:
    def __init__(self) -> None:
        self.is_away = True

    def returned(self) -> None:
        self.is_away = False


class Service(SpoolService):
    """Of a worker whose publisher is away, and where another worker has the turn."""

    def __init__(self, bench: Bench) -> None:
        self.publisher: Any = Publisher()
        app: Any = SimpleNamespace(should_stop=False, beacon=None)
        super().__init__(app, bench.path, bench.writer, self.publisher, bench.sending)

    async def look(self) -> None:
        """One look of `_look_on`."""
        self._waiting = look(self._path)
        self._see_progress(self._waiting)


class TestAWorkerThatDoesNotSend:
    async def test_stays_away_while_nothing_leaves_the_spool(self, bench: Bench) -> None:
        service = Service(bench)
        await service.look()
        for _ in range(3):
            await bench.put(2)
            await service.look()
        assert service.publisher.is_away

    async def test_is_back_when_the_oldest_lead_has_left_it(self, bench: Bench) -> None:
        service = Service(bench)
        await bench.put(3)
        await service.look()
        bench.backlog.read(0)
        bench.backlog.delete([1])
        await service.look()
        assert not service.publisher.is_away

    async def test_tries_again_where_nothing_is_in_it(self, bench: Bench) -> None:
        service = Service(bench)
        await service.look()
        assert service.publisher.is_away
        await service.look()
        assert not service.publisher.is_away

    async def test_tries_again_where_it_cannot_be_read(self, bench: Bench) -> None:
        """Else nothing would tell that the broker is back."""
        service = Service(bench)
        async with service._usable_for("looking"):
            raise SpoolError("SQLite says SQLITE_NOTADB")
        assert not service.publisher.is_away

    async def test_waits_for_its_turn(self, bench: Bench) -> None:
        await bench.put(3)
        other = Turn(bench.path)
        assert other.take()
        service = Service(bench)
        await service._send_in_turn()
        assert look(bench.path).depth == 3
        other.pass_on()
        await service._send_in_turn()
        assert look(bench.path).depth == 0
        assert other.take()

    async def test_what_is_wrong_is_said_once_and_shown_until_it_is_over(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        await bench.put(3)
        service = Service(bench)
        for _ in range(3):
            async with service._usable_for("sending"):
                raise SpoolError("SQLite says SQLITE_IOERR")
            async with service._usable_for("looking"):
                await service.look()
        assert caplog.text.count("SQLITE_IOERR") == 1
        assert service.shown()["spool"]["problem"] == "SQLite says SQLITE_IOERR"
        async with service._usable_for("sending"):
            pass
        shown = service.shown()["spool"]
        assert shown.keys() == {"depth", "age_s"}
        assert shown["depth"] == 3
