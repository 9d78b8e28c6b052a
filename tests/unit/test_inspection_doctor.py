"""What the checks of `leads doctor` decide."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from pipeline import topics
from pipeline.embedded import free_port
from pipeline.inspection import broker, machine, sink
from pipeline.inspection.errors import Unavailable
from pipeline.inspection.findings import Finding, Level, ok, problem, skipped, warning, worst
from pipeline.inspection.judgement import TopicState, as_they_should_be, clock, one_dedupes, safe, topic_state
from pipeline.settings import Settings
from pipeline.spool import SpoolWriter, spool_path

SETTINGS = Settings.from_env({})
SPECS = {spec.name: topics.configs(SETTINGS, spec) for spec in topics.specs(SETTINGS)}
CHANGELOG = topics.changelog("leads", "seen")


def topic(name: str = topics.CAPTURED, *, replicas: int = 3, in_sync: int = 3, **configs: str) -> TopicState:
    """A topic as a worker makes it with three brokers, but for what is given (`__` stands for a dot)."""
    given = {key.replace("__", "."): value for key, value in configs.items()}
    usual = {**SPECS[name], "min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
    return TopicState(name, 8, 0, replicas, in_sync, {**usual, **given})


def levels(findings: list[Finding]) -> list[Level]:
    """Their levels."""
    return [finding.level for finding in findings]


def test_a_finding_that_is_not_well_comes_with_advice() -> None:
    found = [
        *safe([topic(replicas=1, in_sync=1), topic(replicas=2, in_sync=1, min__insync__replicas="1")], 3),
        *safe([topic(unclean__leader__election__enable="true", min__insync__replicas="4")], 3),
        *as_they_should_be(topic(cleanup__policy="compact", retention__ms="1"), SPECS[topics.CAPTURED], 4),
        clock(100_000, 0),
    ]
    assert len(found) >= 8
    assert all(finding.advice for finding in found)


def test_three_replicas_two_in_sync_are_safe() -> None:
    (finding,) = safe([topic()], 3)
    assert finding.level is Level.OK
    assert "3 replicas or more of each topic, 2 or more" in finding.found


def test_one_broker_is_fine_and_says_what_it_does_not_survive() -> None:
    (finding,) = safe([topic(replicas=1, in_sync=1, min__insync__replicas="1")], 1)
    assert finding.level is Level.OK
    assert "not a loss of power" in finding.found


@pytest.mark.parametrize(
    "state, expected, words",
    [
        (topic(replicas=1, in_sync=1, min__insync__replicas="1"), Level.PROBLEM, "one replica"),
        (topic(replicas=2, in_sync=2), Level.WARNING, "2 replicas"),
        (topic(min__insync__replicas="1"), Level.WARNING, "min.insync.replicas is 1"),
        (topic(unclean__leader__election__enable="true"), Level.PROBLEM, "acknowledged leads are gone"),
        (topic(in_sync=1), Level.PROBLEM, "nothing is accepted"),
        (TopicState(topics.CAPTURED, 8, 2, 3, 0, topic().configs), Level.PROBLEM, "2 partitions have no leader"),
    ],
)
def test_what_is_not_safe_with_several_brokers(state: TopicState, expected: Level, words: str) -> None:
    (finding,) = safe([topic(), state], 3)
    assert finding.level is expected
    assert words in finding.found


def test_an_unclean_election_is_a_problem_with_one_broker_too() -> None:
    assert levels(safe([topic(unclean__leader__election__enable="true")], 1)) == [Level.PROBLEM]


def test_the_state_of_a_topic_is_that_of_its_weakest_partition() -> None:
    partitions: list[dict[str, Any]] = [
        {"partition": 0, "leader": 1, "replicas": [1, 2, 3], "isr": [1]},
        {"partition": 1, "leader": -1, "replicas": [1, 2], "isr": [1, 2]},
    ]
    assert topic_state("t", partitions, {}) == TopicState("t", 2, 1, 2, 1, {})


@pytest.mark.parametrize("name", SPECS)
def test_a_topic_as_a_worker_makes_it_is_as_it_should_be(name: str) -> None:
    assert as_they_should_be(topic(name), SPECS[name], 8) == []


@pytest.mark.parametrize(
    "state, expected, words",
    [
        (topic(cleanup__policy="compact"), Level.PROBLEM, "compaction removes leads"),
        (topic(CHANGELOG, cleanup__policy="delete"), Level.WARNING, "cleanup.policy is delete, not compact,delete"),
        (topic(message__timestamp__type="CreateTime"), Level.PROBLEM, "decides what is a repeat"),
        (topic(retention__ms="86400000"), Level.WARNING, "kept 1 days, and the settings say 30"),
    ],
)
def test_what_differs(state: TopicState, expected: Level, words: str) -> None:
    (finding,) = as_they_should_be(state, SPECS[state.name], 8)
    assert finding.level is expected
    assert words in finding.found
    assert f"kafka-configs.sh --alter --topic {state.name}" in finding.advice


def test_what_does_no_harm_is_no_finding() -> None:
    harmless = topic(CHANGELOG, cleanup__policy="delete,compact", retention__ms="-1")
    assert as_they_should_be(harmless, SPECS[CHANGELOG], 8) == []


def test_another_number_of_partitions_names_the_setting() -> None:
    (finding,) = as_they_should_be(topic(), SPECS[topics.CAPTURED], 4)
    assert finding.level is Level.PROBLEM
    assert finding.advice.startswith("Set LEADS_PARTITIONS to 8")


@pytest.mark.parametrize(
    "newest_ms, expected", [(None, Level.OK), (1_000, Level.OK), (6_000, Level.OK), (6_001, Level.PROBLEM)]
)
def test_a_record_of_the_future(newest_ms: float | None, expected: Level) -> None:
    assert clock(newest_ms, 1_000).level is expected


def embedded(**given: str) -> Settings:
    """With a broker that `leads up` would start at a port that is free."""
    return Settings.from_env({"LEADS_BROKER_PORT": str(free_port()), **given})


def test_an_embedded_broker_that_was_not_started_is_no_problem_yet() -> None:
    away = Unavailable("It does not answer. Start it.")
    own = broker._unreachable(embedded(), away)
    assert (own.level, own.found, own.advice) == (Level.WARNING, "It does not answer", "Start it.")
    another = Settings.from_env({"LEADS_BROKER_URL": "kafka://host:1"})
    assert broker._unreachable(another, away).level is Level.PROBLEM


def test_what_ends_leads_up_is_a_problem_with_an_embedded_broker_too() -> None:
    final = Unavailable("It asks for no user; unset it.", status=os.EX_CONFIG)
    assert broker._unreachable(embedded(), final).level is Level.PROBLEM


async def test_a_port_that_another_program_has_is_another_advice_than_a_broker_that_is_not_there() -> None:
    settings = embedded()
    nobody, *_ = await broker.broker(settings)
    assert (nobody.level, "Connection refused" in nobody.found) == (Level.WARNING, True)
    assert nobody.advice.startswith("Start it with `leads up`")
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", settings.broker_port):
        somebody, *_ = await broker.broker(settings)
    assert (somebody.level, "it closed the connection" in somebody.found) == (Level.PROBLEM, True)
    assert somebody.advice.startswith("It hangs, or another program has its port: end that")


def test_settings_that_cannot_be_used_are_named_and_the_others_count() -> None:
    given = {"LEADS_PARTITIONS": "x", "LEADS_AGNETS": "dedupe", "LEADS_WEB_PORT": "7000", "HOME": "/"}
    settings, findings = machine.read_settings(given)
    assert levels(findings) == [Level.PROBLEM, Level.PROBLEM]
    texts = " ".join(finding.found for finding in findings)
    assert "Did you mean LEADS_AGENTS?" in texts
    assert "LEADS_PARTITIONS='x' cannot be used" in texts
    assert settings is not None
    assert (settings.web_port, settings.partitions) == (7000, 8)


def test_a_directory_that_is_to_be_made(tmp_path: Path) -> None:
    settings = Settings.from_env({"LEADS_DATA_DIR": str(tmp_path / "a" / "b")})
    assert machine.data_directory(settings).level is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_data_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = machine.data_directory(Settings.from_env({"LEADS_DATA_DIR": str(tmp_path / "file" / "var")}))
    assert finding.level is Level.PROBLEM
    assert "is not a directory" in finding.found
    assert "LEADS_DATA_DIR" in finding.advice


def test_a_data_directory_that_takes_no_files() -> None:
    finding = machine.data_directory(Settings.from_env({"LEADS_DATA_DIR": "/proc/leads"}))
    assert finding.level is Level.PROBLEM
    assert "nothing can be written in /proc" in finding.found


@pytest.mark.parametrize("limit, expected", [(1280, Level.OK), (1279, Level.WARNING)])
def test_the_limit_of_open_files(limit: int, expected: Level) -> None:
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, former[1]))
    try:
        finding = machine.open_files(SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, former)
    assert finding.level is expected
    assert ("ulimit -n 1280" in finding.advice) == (expected is Level.WARNING)


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    finding = await sink.sink(Settings.from_env({"LEADS_SINK_URL": f"sqlite:///{tmp_path}/new/crm.sqlite3"}))
    assert finding.level is Level.OK
    assert "the first worker makes it" in finding.found
    assert list(tmp_path.iterdir()) == []


async def test_a_sink_that_does_not_exist_and_its_password() -> None:
    finding = await sink.sink(Settings.from_env({"LEADS_SINK_URL": "mysql://user:s3cret@host/crm"}))
    assert finding.level is Level.PROBLEM
    assert "s3cret" not in str(finding)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "crm").write_text("name;email\n" * 200)
    finding = await sink.sink(Settings.from_env({"LEADS_SINK_URL": f"sqlite:///{tmp_path}/crm"}))
    assert finding.level is Level.PROBLEM
    assert "is no SQLite database" in finding.found


def test_the_worst_counts_and_what_was_skipped_does_not() -> None:
    assert worst([]) is Level.OK
    assert worst([skipped("a", "b")]) is Level.OK
    assert worst([ok("a", "b"), warning("a", "b", "c"), skipped("a", "b")]) is Level.WARNING
    assert worst([problem("a", "b", "c"), ok("a", "b")]) is Level.PROBLEM


def test_two_apps_that_dedupe_are_told() -> None:
    assert one_dedupes([]) == one_dedupes(["leads"]) == []
    (found,) = one_dedupes(["leads", "other"])
    assert (found.level, found.check) == (Level.WARNING, "apps")
    assert found.found.startswith("leads, other all read lead-captured")
    assert "LEADS_AGENTS=crm_sink" in found.advice


async def test_leads_that_wait_in_the_spool_are_told(tmp_path: Path) -> None:
    settings = Settings.from_env({"LEADS_DATA_DIR": str(tmp_path)})
    assert machine.spool(settings).level is Level.OK
    told = asyncio.get_running_loop().create_future()
    SpoolWriter(spool_path(tmp_path), max_bytes=1 << 30).put(b"default/m1", b"jane@example.com", (), told.set_result)
    assert await told is None
    finding = machine.spool(settings)
    assert finding.level is Level.WARNING
    assert finding.found.startswith(f"1 lead waits in {tmp_path}")
    spool_path(tmp_path).write_bytes(b"no database" * 1000)
    assert machine.spool(settings).level is Level.PROBLEM
