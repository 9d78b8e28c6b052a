"""`leads offsets` and `leads doctor` as processes, against a real broker and real workers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.structs import TopicPartition

from pipeline import topics
from pipeline.inspection.ages import first_records
from pipeline.inspection.connection import connected
from tests.integration.broker_side import delete_records, leads_in, transactions
from tests.integration.installation import PARTITIONS, ROOT, Installation, leads
from tests.integration.running import environ, run

pytestmark = pytest.mark.integration


def offsets(installation: Installation, *args: str, **settings: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What `leads offsets --json` says, by topic and group."""
    done = run(installation, "offsets", "--json", *args, **settings)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {(one["topic"], one["group"]): one for one in json.loads(done.stdout)["positions"]}


def partition(of: dict[str, Any], number: int) -> dict[str, Any]:
    """One partition of a position."""
    (found,) = [one for one in of["partitions"] if one["partition"] == number]
    return found


def doctor(installation: Installation, *, status: int, **settings: str) -> dict[str, list[dict[str, str]]]:
    """What `leads doctor` finds, by check; all that is not well comes with advice."""
    done = run(installation, "doctor", "--json", **settings)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    checks = json.loads(done.stdout)["checks"]
    assert all(bool(one["advice"]) == (one["level"] in ("warning", "problem")) for one in checks)
    return {name: [one for one in checks if one["check"] == name] for name in (one["check"] for one in checks)}


def only(found: list[dict[str, str]]) -> dict[str, str]:
    """The only finding of a check."""
    (one,) = found
    return one


def test_two_workers_own_all_partitions_and_have_no_lag(installation: Installation) -> None:
    first, second = installation.worker().wait_ready(), installation.worker().wait_ready()
    sent = leads(300)
    installation.produce(sent)
    installation.assert_once(sent)
    installation.wait(lambda: {p["owner"] for p in offsets(installation)[topics.CAPTURED, "leads"]["partitions"]}
                      == {first.url, second.url})  # fmt: skip
    found = offsets(installation)
    for topic in (topics.CAPTURED, topics.ACCEPTED):
        position = found[topic, "leads"]
        assert (position["state"], position["members"], position["lag"]) == ("Stable", 2, 0)
        assert position["oldest_pending_age_s"] is None
        assert position["warnings"] == []
        assert [p["partition"] for p in position["partitions"]] == list(range(PARTITIONS))
        assert {p["owner"] for p in position["partitions"]} == {first.url, second.url}
        assert {p["partition"]: p["log_end"] for p in position["partitions"]} == installation.ends(topic)
        assert all(p["committed"] == p["log_end"] for p in position["partitions"] if p["log_end"])
    table = run(installation, "offsets")
    assert table.returncode == 0
    assert f"{topics.CAPTURED} read by leads (2 members)" in table.stdout
    assert table.stdout.count(first.url) + table.stdout.count(second.url) >= 2 * PARTITIONS


def test_lag_and_age_with_all_workers_down(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    sent = leads(100)
    installation.produce(sent)
    installation.assert_once(sent)
    assert worker.stop() == 0
    before = installation.committed()
    more = leads_in(3, 7) + leads_in(5, 2)
    installation.produce(more)
    position = offsets(installation)[topics.CAPTURED, "leads"]
    assert (position["state"], position["members"], position["lag"]) == ("Empty", 0, 9)
    assert {p["owner"] for p in position["partitions"]} == {None}
    assert {p["partition"]: p["committed"] for p in position["partitions"] if p["committed"]} == before
    assert {p["partition"]: p["lag"] for p in position["partitions"] if p["lag"]} == {3: 7, 5: 2}
    aged = {p["partition"] for p in position["partitions"] if p["oldest_pending_age_s"] is not None}
    assert aged == {3, 5}
    assert position["oldest_pending_age_s"] == max(
        p["oldest_pending_age_s"] for p in position["partitions"] if p["partition"] in aged
    )


def test_before_anything_is_committed_lag_counts_from_the_start(installation: Installation) -> None:
    installation.create_topics()
    installation.produce(leads_in(2, 4))
    found = offsets(installation)
    assert {topics.CAPTURED, topics.ACCEPTED} <= {topic for topic, _ in found}
    position = found[topics.CAPTURED, "leads"]
    assert partition(position, 2)["committed"] is None
    assert (partition(position, 2)["lag"], position["lag"], position["state"]) == (4, 4, "Dead")


def test_a_second_group_at_another_place_of_the_same_partition(installation: Installation) -> None:
    installation.create_topics()
    installation.produce(leads_in(1, 6), topics.ACCEPTED)
    installation.commit({1: 2}, topics.ACCEPTED)
    installation.commit({1: 5}, topics.ACCEPTED, "leads-crm2")
    found = offsets(installation)
    assert partition(found[topics.ACCEPTED, "leads"], 1)["lag"] == 4
    assert partition(found[topics.ACCEPTED, "leads-crm2"], 1)["lag"] == 1
    first = partition(found[topics.ACCEPTED, "leads"], 1)["oldest_pending_age_s"]
    second = partition(found[topics.ACCEPTED, "leads-crm2"], 1)["oldest_pending_age_s"]
    assert first >= second >= 0
    assert set(offsets(installation, "--group", "leads-crm2")) == {(topics.ACCEPTED, "leads-crm2")}
    unknown = run(installation, "offsets", "--group", "nobody")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "The group nobody has no offset in" in unknown.stderr


def test_what_retention_has_deleted_is_named(installation: Installation) -> None:
    installation.create_topics()
    installation.produce(leads_in(4, 10))
    installation.commit({4: 3})
    delete_records(installation, topics.CAPTURED, {4: 8})
    position = offsets(installation)[topics.CAPTURED, "leads"]
    one = partition(position, 4)
    assert (one["log_start"], one["committed"], one["lag"], one["lost"]) == (8, 3, 2, 5)
    assert one["oldest_pending_age_s"] is not None
    (warning,) = position["warnings"]
    assert f"leads skip {topics.CAPTURED} 4 8" in warning
    done = run(installation, "skip", topics.CAPTURED, "4", "8")
    assert done.returncode == 0, done.stderr
    assert offsets(installation)[topics.CAPTURED, "leads"]["warnings"] == []


def test_transaction_markers_are_no_records_and_nobody_waits_for_them(installation: Installation) -> None:
    installation.create_topics()
    (one,) = leads_in(0, 1, "t")
    transactions(installation, topics.CAPTURED, ([one], True))
    end = installation.ends()[0]
    assert end == 2  # the record and the marker

    async def ask() -> dict[tuple[TopicPartition, int], Any]:
        tp = TopicPartition(topics.CAPTURED, 0)
        async with connected(installation.settings) as connection:
            # Longer than a test may take: that it comes back shows that the end of the log is what it waits for.
            return await first_records(connection.consumer, {tp: [0, 1]}, {tp: end}, timeout_s=600)

    assert [offset for _, offset in asyncio.run(ask())] == [0]


def test_records_that_are_larger_than_a_fetch_are_found_too(installation: Installation) -> None:
    installation.create_topics()

    async def fill() -> None:
        async with AIOKafkaProducer(bootstrap_servers=installation.bootstrap, max_request_size=900_000) as producer:
            for number in range(PARTITIONS):
                await producer.send_and_wait(topics.CAPTURED, os.urandom(600_000), partition=number)

    asyncio.run(fill())
    position = offsets(installation)[topics.CAPTURED, "leads"]
    assert all(p["oldest_pending_age_s"] is not None for p in position["partitions"])


def test_before_the_first_worker_and_without_a_broker(installation: Installation) -> None:
    none = run(installation, "offsets")
    assert (none.returncode, none.stdout) == (1, "")
    assert "No worker has started yet" in none.stderr
    installation.broker.kill()
    away = run(installation, "offsets")
    assert (away.returncode, away.stdout) == (69, "")
    assert len(away.stderr.splitlines()) == 1
    assert installation.broker.url in away.stderr
    assert "LEADS_BROKER_URL" in away.stderr


def test_watch_goes_on_while_the_broker_is_away(installation: Installation) -> None:
    installation.create_topics()
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "offsets", "--json", "--watch"],
        cwd=ROOT, env=environ(installation), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert "positions" in json.loads(watching.stdout.readline())
        installation.broker.kill()
        while "error" not in json.loads(watching.stdout.readline()):
            pass
        installation.broker.start()
        while "positions" not in json.loads(watching.stdout.readline()):
            pass
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 0
        assert watching.stderr.read() == ""


def test_a_healthy_installation(installation: Installation) -> None:
    fresh = doctor(installation, status=0)
    assert "the first worker makes them" in only(fresh["topics"])["found"]
    assert "the first worker makes it" in only(fresh["sink"])["found"]
    assert not (installation.directory / "var").exists()
    installation.worker().wait_ready()
    sent = leads(50)
    installation.produce(sent)
    installation.assert_once(sent)
    found = doctor(installation, status=0)
    assert {one["level"] for name, ones in found.items() if name != "open files" for one in ones} == {"ok"}
    assert "not a loss of power" in only(found["safety"])["found"]
    assert "can be written" in only(found["sink"])["found"]
    assert "not ahead" in only(found["clock"])["found"]
    lines = run(installation, "doctor")
    assert lines.returncode == 0
    assert max(map(len, lines.stdout.splitlines())) <= 100


def test_topics_that_are_not_as_they_should_be(installation: Installation) -> None:
    async def spoil() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=installation.bootstrap)
        await admin.start()
        try:
            wrong = {"message.timestamp.type": "CreateTime", "retention.ms": "1000", "cleanup.policy": "compact"}
            await admin.create_topics([NewTopic(topics.CAPTURED, 3, 1, topic_configs=wrong)])
        finally:
            await admin.close()

    asyncio.run(spoil())
    found = doctor(installation, status=1)
    texts = [f"{one['level']}: {one['found']} {one['advice']}" for one in found["topics"]]
    assert [text.split(":")[0] for text in texts] == ["problem", "problem", "warning", "problem", "ok"]
    assert "3 partitions" in texts[0]
    assert "Set LEADS_PARTITIONS to 3" in texts[0]
    assert "cleanup.policy is compact" in texts[1]
    assert "retention.ms=2592000000" in texts[2]
    assert "message.timestamp.type=LogAppendTime" in texts[3]
    assert "leads-seen-changelog, leads-dead-letters-changelog: not there yet" in texts[4]


def test_an_unclean_election_is_not_allowed(installation: Installation) -> None:
    installation.create_topics()

    async def allow() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=installation.bootstrap)
        await admin.start()
        try:
            unclean = {"unclean.leader.election.enable": "true"}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topics.ACCEPTED, configs=unclean)])
        finally:
            await admin.close()

    asyncio.run(allow())
    one = only(doctor(installation, status=1)["safety"])
    assert one["found"].startswith(f"{topics.ACCEPTED}: a replica that lacks records may become leader")


def test_more_replicas_than_brokers(installation: Installation) -> None:
    one = only(doctor(installation, status=1, LEADS_REPLICATION="3")["topics"])
    assert "3 replicas cannot be made with 1 broker" in one["found"]
    assert "LEADS_REPLICATION to 1" in one["advice"]


def test_everything_wrong_at_once_and_nothing_is_left_out(installation: Installation) -> None:
    directory = installation.directory / "crm"
    directory.mkdir()
    (installation.directory / "file").touch()
    installation.broker.kill()
    found = doctor(
        installation,
        status=1,
        LEADS_SINK_URL=f"sqlite:///{directory}",
        LEADS_DATA_DIR=str(installation.directory / "file"),
        LEADS_PARTITONS="4",
    )
    assert only(found["settings"])["found"].startswith(
        "LEADS_PARTITONS is not a setting. Did you mean LEADS_PARTITIONS"
    )
    assert only(found["broker"])["level"] == "problem"
    assert "LEADS_BROKER_URL" in only(found["broker"])["advice"]
    assert {only(found[name])["level"] for name in ("safety", "topics", "clock")} == {"skipped"}
    assert "SQLITE_CANTOPEN" in only(found["sink"])["found"]
    assert "LEADS_SINK_URL" in only(found["sink"])["advice"]
    assert "is not a directory" in only(found["data directory"])["found"]


def test_a_broker_that_hangs_or_asks_for_no_user_is_a_problem_where_leads_up_would_start_one(
    installation: Installation,
) -> None:
    embedded = {"LEADS_BROKER_URL": "", "LEADS_BROKER_PORT": str(installation.broker.port)}
    user = {"LEADS_BROKER_USERNAME": "alice", "LEADS_BROKER_PASSWORD": "s3cret"}
    needless = only(doctor(installation, status=1, **embedded, **user)["broker"])
    assert needless["level"] == "problem"
    assert "asks for no user" in needless["found"]
    installation.broker.pause()
    hung = only(doctor(installation, status=1, **embedded)["broker"])
    installation.broker.resume()
    assert hung["level"] == "problem"
    assert "(no answer)" in hung["found"]
    assert hung["advice"].startswith("It hangs, or another program has its port: end that")
