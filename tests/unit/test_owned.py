"""What a worker reads of a partition is its own, however the partition moves while it waits for an answer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import ConsumerStoppedError
from faust.types import TP

from pipeline.batches import Epoch, Log
from pipeline.batches.checkpoints import Checkpoints
from pipeline.batches.fetch import BatchConsumerThread
from pipeline.topics import ACCEPTED, CAPTURED
from pipeline.web.owned import Owned
from pipeline.web.problems import Problem

PARTITION = 3


class Owner:
    """A worker that owns the partition: its app and its peers."""

    def __init__(self) -> None:
        self.is_mine = True
        #: What the group has told Kafka.
        self.stored = 5
        self.error: Exception | None = None
        self.checkpoints = Checkpoints()
        for topic in (CAPTURED, ACCEPTED):
            self.checkpoints.start(TP(topic, PARTITION), 5)
        self.epoch = Epoch()
        self.consumer = SimpleNamespace(epoch=self.epoch, checkpoints=self.checkpoints, started=True, _thread=self)
        self.positions: dict[str, Any] = {ACCEPTED: None}

    def is_ours(self, partition: int) -> bool:
        return self.is_mine and partition == PARTITION

    async def logs(self, tps: frozenset[TP]) -> dict[TP, Log]:
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return {tp: Log(self.stored, 0, 9) for tp in tps}

    def owned(self) -> Owned:
        return Owned(self, self, PARTITION)  # type: ignore[arg-type]


async def test_as_long_as_it_is_ours_it_says_how_far_it_is() -> None:
    owned = Owner().owned()
    assert owned.reached(CAPTURED) == 5
    assert (await owned.logs(CAPTURED))[CAPTURED].end == 9
    await owned.confirm(ACCEPTED)
    owned.check()


@pytest.mark.parametrize("change", [{"is_mine": False}, {"epoch": "over"}])
async def test_what_went_to_another_worker_meanwhile_is_not_read(change: dict[str, Any]) -> None:
    owner = Owner()
    owned = owner.owned()
    await owned.logs(CAPTURED)
    owner.is_mine = change.get("is_mine", True)
    owner.epoch.over = "epoch" in change
    for read in (owned.check, lambda: owned.reached(CAPTURED)):
        with pytest.raises(Problem) as problem:
            read()
        assert problem.value.status == 503


async def test_a_partition_that_came_back_is_another_one() -> None:
    owner = Owner()
    owned = owner.owned()
    owner.epoch.over = True
    owner.consumer.epoch = Epoch()
    owner.owned().check()
    with pytest.raises(Problem):
        owned.check()


async def test_a_worker_that_was_stopped_learns_from_the_broker_that_it_is_replaced() -> None:
    owner = Owner()
    owner.stored = 6
    with pytest.raises(Problem, match="another worker"):
        await owner.owned().confirm(CAPTURED)
    # The CRM keeps this position, and begins with the record before.
    await owner.owned().confirm(ACCEPTED)


@pytest.mark.parametrize("error", [TimeoutError(), ConsumerStoppedError()])
async def test_without_an_answer_nobody_can_say(error: Exception) -> None:
    owner = Owner()
    owner.error = error
    with pytest.raises(Problem) as problem:
        await owner.owned().logs(CAPTURED)
    assert problem.value.status == 503


async def test_of_a_consumer_that_has_not_started_nothing_is_asked() -> None:
    owner = Owner()
    owner.consumer.started = False
    with pytest.raises(Problem, match="starts or stops"):
        await owner.owned().logs(CAPTURED)


async def test_a_consumer_whose_thread_has_ended_says_so() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(ConsumerStoppedError):
        await BatchConsumerThread.call_thread(SimpleNamespace(thread_loop=loop), lambda: None)  # type: ignore[arg-type]
