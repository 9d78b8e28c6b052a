"""`leads skip` with a real broker, workers and the CRM's database, where lead-accepted has its checkpoint."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from pipeline import topics
from pipeline.batches.identity import log_ids
from tests.integration.broker_side import delete_records, leads_in
from tests.integration.installation import PARTITIONS, Installation
from tests.integration.running import run

pytestmark = pytest.mark.integration

ROWS = "SELECT partition, next_offset, log_id, last_offset FROM stream_offset WHERE consumer_group = 'leads' ORDER BY 1"


def skip(installation: Installation, *args: str, status: int = 0, **settings: str) -> str:
    """Run it; returns what it says, and its error is one sentence."""
    done = run(installation, "skip", topics.ACCEPTED, *args, **settings)
    assert done.returncode == status, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == (1 if status else 0), done.stderr
    return done.stdout + done.stderr


async def log_id(installation: Installation) -> str:
    """The id of the topic, as a worker asks for it."""
    async with AIOKafkaConsumer(bootstrap_servers=installation.bootstrap) as consumer:
        return (await log_ids(consumer._client, [topics.ACCEPTED]))[topics.ACCEPTED].hex()


def rows(installation: Installation) -> list[Any]:
    return [(number, at, last) for number, at, _, last in installation.query(ROWS)]


def test_workers_go_on_where_it_says(installation: Installation) -> None:
    installation.create_topics()
    lost, kept = leads_in(3, 5, "lost"), leads_in(3, 4, "kept")
    installation.produce([*lost, *kept], topics.ACCEPTED)
    assert "leads goes on at 5 of lead-accepted/3 (it stood nowhere)" in skip(installation, "3", "5")
    assert rows(installation) == [(3, 5, None)]
    installation.worker().wait_ready()
    installation.assert_once(kept)


async def test_the_row_names_the_log(installation: Installation) -> None:
    await topics.ensure(installation.settings)
    skip(installation, "0", "start")
    assert installation.query("SELECT log_id FROM stream_offset") == [(await log_id(installation),)]


def test_all_partitions_to_the_end_and_to_the_start(installation: Installation) -> None:
    installation.create_topics()
    installation.produce([*leads_in(1, 6), *leads_in(4, 3)], topics.ACCEPTED)
    delete_records(installation, topics.ACCEPTED, {1: 2})
    said = skip(installation, "all", "end")
    ends = [{1: 6, 4: 3}.get(number, 0) for number in range(PARTITIONS)]
    assert "leads goes on at 6 of lead-accepted/1" in said
    assert [at for _, at, _ in rows(installation)] == ends
    assert installation.committed(topics.ACCEPTED) == dict(enumerate(ends))
    assert "(it stood at 6)" in skip(installation, "all", "start")
    assert {number: at for number, at, _ in rows(installation) if at} == {1: 2}


def test_where_kafka_has_the_group(installation: Installation) -> None:
    """At least once the checkpoint is Kafka's; whoever changes over to exactly once may go on from there."""
    installation.create_topics()
    installation.produce(leads_in(1, 6), topics.ACCEPTED)
    installation.commit({1: 4}, topics.ACCEPTED)
    skip(installation, "all", "committed")
    assert {number: at for number, at, _ in rows(installation) if at} == {1: 4}


def test_while_workers_run_nothing_is_set(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    sent = leads_in(2, 8)
    installation.produce(sent)
    installation.assert_once(sent)
    before = rows(installation)
    said = skip(installation, "2", "0", status=1)
    assert said.startswith("Error: Workers of leads are running")
    assert rows(installation) == before
    assert worker.stop() == 0


def test_a_crm_that_cannot_be_written_is_found_before_anything_is_set(installation: Installation) -> None:
    installation.create_topics()
    path = installation.directory / "crm"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE lead (a)")
    said = skip(installation, "0", "0", status=78, LEADS_SINK_URL=f"sqlite:///{path}")
    assert "a table lead that is not the CRM's" in said
    assert "Nothing was set" in said
    assert installation.committed(topics.ACCEPTED) == {}


def test_at_least_once_it_is_kafka_s_alone(installation: Installation) -> None:
    installation.create_topics()
    skip(installation, "0", "0", LEADS_GUARANTEE="at-least-once")
    assert not (installation.directory / "var" / "crm.sqlite3").exists()
    assert installation.committed(topics.ACCEPTED) == {0: 0}


@pytest.mark.parametrize("args", [("x", "0"), ("0", "-"), ("0", "all"), ("²", "0")])
def test_what_is_no_place(installation: Installation, args: tuple[str, str]) -> None:
    done = run(installation, "skip", topics.ACCEPTED, *args)
    assert (done.returncode, "give a number, or" in done.stderr) == (2, True)
    assert run(installation, "skip", "lead-excepted", "0", "0").stderr == "Error: There is no topic lead-excepted.\n"
