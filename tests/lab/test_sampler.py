"""A checkpoint ahead of a write is seen while a run goes on: a real broker, a real database, planted by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.lab.chaos_leads import ChaosLeads
from pipeline.lab.checker import Record
from pipeline.lab.crm import SQLiteCrm
from pipeline.lab.sampler import Sampler
from pipeline.lab.topics_read import Topics
from pipeline.lead import encode, key
from pipeline.sinks import AcceptedLead
from pipeline.sinks.base import Checkpoint, Lane, StreamOffset
from pipeline.sinks.contact import address
from pipeline.sinks.sqlite import SQLiteSink
from pipeline.topic_names import ACCEPTED, DEAD_LETTER
from tests.integration.installation import Installation, partition

LEADS = [ChaosLeads(7).lead(number) for number in range(20)]
RECORDS = [(key(lead), encode(lead)) for lead in LEADS]
PARTITION = partition(RECORDS[0][0])
#: Those of one partition, in its order.
THERE = [lead for lead, (name, _) in zip(LEADS, RECORDS, strict=True) if partition(name) == PARTITION]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A broker whose `lead-accepted` has some leads, and whose dead letters have the second of `PARTITION`."""
    with Installation(tmp_path_factory.mktemp("sampler")) as installation:
        installation.create_topics()
        installation.produce_raw(RECORDS, ACCEPTED)
        installation.produce_raw([(key(THERE[1]), b"{}")], DEAD_LETTER)
        yield installation


async def _written(path: Path, *leads: int, checkpoint: int = 0) -> SQLiteCrm:
    """A CRM with these leads of `PARTITION`, which says that it has come to `checkpoint`."""
    sink, lane = SQLiteSink(path), Lane("leads", ACCEPTED, PARTITION)
    await sink.open()
    await sink.offsets({lane: StreamOffset(0, "log")})
    rows = [AcceptedLead(THERE[n], PARTITION, n, 0, address(THERE[n])) for n in leads]
    await sink.write(rows, Checkpoint(lane, 0, StreamOffset(checkpoint, "log")) if checkpoint else None)
    await sink.close()
    return SQLiteCrm(path)


async def _looked(installation: Installation, crm: SQLiteCrm, *, group: str = "leads", times: int = 1) -> Sampler:
    settings = replace(installation.settings, app_id=group)
    sampler = Sampler(settings, crm)
    async with Topics(settings) as topics:
        for _ in range(times):
            await sampler.look(topics)
    return sampler


class TestACheckpointInTheDatabase:
    async def test_that_is_ahead_of_a_row(self, installed: Installation, tmp_path: Path) -> None:
        crm = await _written(tmp_path / "crm.sqlite3", 0, checkpoint=3)
        sampler = await _looked(installed, crm, times=2)
        assert sampler.found == [Record(PARTITION, 2, key(THERE[2]))]
        assert (sampler.records, sampler.looks) == (3, 2)

    async def test_that_is_where_rows_and_dead_letters_end(self, installed: Installation, tmp_path: Path) -> None:
        crm = await _written(tmp_path / "crm.sqlite3", 0, checkpoint=2)
        assert (await _looked(installed, crm)).found == []

    async def test_that_is_behind_what_is_written(self, installed: Installation, tmp_path: Path) -> None:
        crm = await _written(tmp_path / "crm.sqlite3", 0, 2, checkpoint=1)
        assert (await _looked(installed, crm)).found == []


def test_a_checkpoint_in_kafka_that_is_ahead_of_a_row(installed: Installation, tmp_path: Path) -> None:
    installed.commit({PARTITION: 3}, topic=ACCEPTED, group="ahead")
    crm = asyncio.run(_written(tmp_path / "crm.sqlite3", 0))
    sampler = asyncio.run(_looked(installed, crm, group="ahead"))
    assert sampler.found == [Record(PARTITION, 2, key(THERE[2]))]
