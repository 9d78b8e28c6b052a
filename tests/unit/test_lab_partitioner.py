"""Many keys at once get the partitions that the product's partitioner gives them one by one."""

from __future__ import annotations

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.partitioner import partitions
from pipeline.lab.workload import Workload

one_by_one = DefaultPartitioner()


@given(st.lists(st.binary(max_size=70)), st.integers(1, 300))
def test_they_are_those_of_the_default_partitioner(keys: list[bytes], count: int) -> None:
    numbers = list(range(count))
    assert partitions(keys, count) == [one_by_one(key, numbers, numbers) for key in keys]


def test_keys_of_leads_are_spread_as_the_product_spreads_them() -> None:
    keys = list(Workload(1, 2_000).keys())
    found = partitions(keys, 8)
    assert found == [one_by_one(key, list(range(8)), list(range(8))) for key in keys]
    assert set(found) == set(range(8))


def test_no_keys_have_no_partitions() -> None:
    assert partitions([], 8) == []
