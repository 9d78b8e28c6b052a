"""What stock Faust 0.15.3 does, with real workers and a real broker: why the engine is there.

Each test asserts the loss. What ours does in the same situation is in the test that is named beside it.
"""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from faust.transport.drivers.aiokafka import Consumer as StockConsumer

from pipeline import topics
from tests.integration.broker_side import leads_in, wipe
from tests.integration.installation import Installation, Worker, key, lead, partition

pytestmark = pytest.mark.integration

FAULT = lead("fault")
P = partition(key(FAULT))
APP, GROUP = "tests.integration.stock", "stock"


def stock(installation: Installation, fault: str = "") -> Worker:
    """A stock worker, which creates its directory, but not the one around it."""
    (installation.directory / "var").mkdir(exist_ok=True)
    return installation.worker(APP, STOCK_FAULT=fault)


def accepted(installation: Installation) -> list[bytes]:
    """The keys that were forwarded."""
    return [record.key for record in installation.records(topics.ACCEPTED)]


def ready(installation: Installation, worker: Worker) -> None:
    """Wait until a stock worker says so."""
    installation.wait(lambda: "Worker ready" in worker.text() or worker.process.poll() is not None)
    assert worker.process.poll() is None, worker.text()


def drained(installation: Installation) -> None:
    """Wait until the stock group has committed everything."""
    installation.wait(lambda: installation.lag(topics.CAPTURED, GROUP) == 0)


def sent_around_the_fault() -> list[dict[str, Any]]:
    """Leads of one partition, the faulty one in their middle."""
    others = leads_in(P, 20)
    return [*others[:10], FAULT, *others[10:]]


def test_an_agent_that_raises_has_acked_the_lead_that_it_raised_for(installation: Installation) -> None:
    """Ours: test_rules.py, TestRecordsThatRaise and TestFatal."""
    installation.create_topics()
    worker = stock(installation, "raise")
    ready(installation, worker)
    sent = sent_around_the_fault()
    installation.produce(sent)
    drained(installation)
    installation.wait(lambda: len(accepted(installation)) == len(sent) - 1)
    worker.kill()
    again = stock(installation)
    ready(installation, again)
    installation.produce(more := leads_in(P, 1, "after"))
    drained(installation)
    installation.wait(lambda: key(more[0]) in accepted(installation))
    assert key(FAULT) not in accepted(installation), "committed, and forwarded nowhere: lost"


def test_a_key_that_is_set_before_the_lead_is_forwarded_loses_the_lead(installation: Installation) -> None:
    """Ours: test_rules.py, TestCrashes."""
    installation.create_topics()
    worker = stock(installation, "kill")
    ready(installation, worker)
    sent = sent_around_the_fault()
    installation.produce(sent)
    assert worker.process.wait(timeout=60) == -signal.SIGKILL
    assert installation.committed(topics.CAPTURED, GROUP).get(P, 0) <= 10, "the lead is read again"
    again = stock(installation)
    ready(installation, again)
    drained(installation)
    installation.wait(lambda: len(set(accepted(installation))) >= len(sent) - 1)
    assert key(FAULT) not in accepted(installation), "read again, taken for a duplicate, and dropped: lost"


def test_a_recovery_that_cannot_write_idles(installation: Installation) -> None:
    """Ours: test_rules_logs.py, test_a_recovery_that_cannot_write_ends_the_worker_and_leaves_no_hole."""
    installation.create_topics()
    worker = stock(installation)
    ready(installation, worker)
    installation.produce(leads_in(P, 20))
    drained(installation)
    installation.wait(lambda: len(accepted(installation)) == 20)
    worker.kill()
    wipe(installation, "stock")
    faulty = stock(installation, "unwritable")
    installation.wait(lambda: faulty.text().count("Error in recovery no space left on device") > 20)
    assert faulty.process.poll() is None, "every record was refused, and the worker lives on"
    assert "Worker ready" not in faulty.text()


def test_a_rebalance_before_the_first_commit_skips_what_was_fetched(installation: Installation) -> None:
    """Ours: BatchConsumer.perform_seek, and test_faults.py, two workers starting at once."""
    installation.create_topics()
    sent = leads_in(P, 50)
    installation.produce(sent)
    skipped = asyncio.run(_skipped(installation.bootstrap))
    installation_has = {json.loads(record.value)["message_id"] for record in installation.records(topics.CAPTURED)}
    assert installation_has == {one["message_id"] for one in sent}
    assert skipped == 50
    installation.worker().wait_ready()
    installation.assert_once(sent)


async def _skipped(bootstrap: list[str]) -> int:
    """How many records the group never gets: fetched, dropped by a rebalance, and then stock Faust's seek."""
    async with AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id=GROUP, auto_offset_reset="earliest", enable_auto_commit=False
    ) as consumer:
        tp = TopicPartition(topics.CAPTURED, P)
        consumer.assign([tp])
        dropped = (await consumer.getmany(tp, timeout_ms=10_000))[tp]
        await StockConsumer.perform_seek(_Seeking(consumer))  # type: ignore[arg-type]
        return await consumer.position(tp) - dropped[0].offset


class _Seeking:
    """As much of a stock consumer as its seek needs."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.seek_to_committed = consumer.seek_to_committed
        self._read_offset: dict[Any, int | None] = {}
        self._committed_offset: dict[Any, int | None] = {}
