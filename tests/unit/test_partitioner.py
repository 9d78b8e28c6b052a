"""A key belongs to the partition that aiokafka, and so Java, chooses for it."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafkas
from hypothesis import given
from hypothesis import strategies as st

from pipeline.partitioner import murmur2, partition, partitions


@given(st.binary(max_size=300))
def test_the_hash_is_aiokafkas(data: bytes) -> None:
    assert murmur2(data) == aiokafkas(data)


@given(st.binary(max_size=80), st.integers(1, 64))
def test_and_so_is_the_partition(key: bytes, partitions: int) -> None:
    numbers = list(range(partitions))
    assert partition(key, partitions) == DefaultPartitioner()(key, numbers, numbers)


@given(st.lists(st.one_of(st.binary(max_size=6), st.binary(min_size=44, max_size=44)), max_size=60), st.integers(1, 64))
def test_and_that_of_each_of_many(keys: list[bytes], count: int) -> None:
    assert partitions(keys, count) == [partition(key, count) for key in keys]
