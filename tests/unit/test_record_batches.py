"""Record batches of the lab: each record once, in its partition, in order, and readable by aiokafka."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.record.memory_records import MemoryRecords

from pipeline.lab.record_batches import SIZE_MAX_BYTES, record_batches
from pipeline.lab.workload import Workload

PARTITIONS = 8
LEADS = Workload(1, 10_000)


def read(batch: bytes) -> list[tuple[bytes, bytes]]:
    records = MemoryRecords(batch)
    found = []
    while records.has_next():
        found += [(record.key, record.value) for record in records.next_batch()]
    return found


def test_every_record_is_in_its_partition_in_order() -> None:
    numbers = list(range(PARTITIONS))
    wanted: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in numbers}
    for name, value in LEADS.records():
        wanted[DefaultPartitioner()(name, numbers, numbers)].append((name, value))
    found: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in numbers}
    for number, builder in record_batches(LEADS.records(), PARTITIONS):
        raw = bytes(builder._build())
        assert len(raw) <= SIZE_MAX_BYTES
        assert bytes(builder._build()) == raw  # to be sent again
        found[number] += read(raw)
    assert found == wanted


def test_no_records_are_no_batches() -> None:
    assert list(record_batches([], PARTITIONS)) == []
