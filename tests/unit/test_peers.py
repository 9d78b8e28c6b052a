"""The other contenders of the benchmark: equal rows, the fence, and who is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.embedded.jars import read_lock
from pipeline.lab.bench import peers
from pipeline.lab.bench.peers import PLAIN_COPY, QUIX, STREAMS, Peers, versions
from pipeline.lab.peers import plain, quix_table, streams
from pipeline.lab.peers.quix_table import COLUMNS, QuixTableSink
from pipeline.lab.peers.tally import Tally, tallied
from pipeline.lab.workload import Workload
from pipeline.lead import Lead, encode, key
from pipeline.sinks import AcceptedLead
from pipeline.sinks.postgresql_rows import LEADS

TIME_MS = 1_767_600_000_123
SAMPLE = Workload(7, 0).lead(3)
BARE = Lead(message_id="bare", email="ada@example.com")


def row_of(lead: Lead) -> dict[str, object]:
    (row,) = zip(*quix_table.columns([AcceptedLead(lead, 2, 5, TIME_MS, "ada@example.com")]), strict=True)
    found: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    return {**found, "fields": json.loads(found["fields"])}


class TestQuixTable:
    @pytest.mark.parametrize("lead", [SAMPLE, BARE])
    def test_a_row_of_ours_is_what_the_json_of_the_record_says(self, lead: Lead) -> None:
        row = row_of(lead)
        members = json.loads(encode(lead))
        assert {name: value for name, value in row.items() if value not in (None, {})} == {
            "timestamp": row["timestamp"], "__key": key(lead).decode(), **members
        }  # fmt: skip

    @pytest.mark.parametrize("lead", [SAMPLE, BARE])
    def test_a_plain_loop_writes_the_same_row(self, lead: Lead) -> None:
        record = SimpleNamespace(key=key(lead), value=encode(lead), timestamp=TIME_MS)
        found = dict(zip(COLUMNS, plain._row(record), strict=True))
        assert {**found, "fields": json.loads(str(found["fields"]))} == row_of(lead)

    def test_no_leads_are_empty_columns(self) -> None:
        assert quix_table.columns([]) == [[] for _ in COLUMNS]

    def test_the_fence_is_the_products_but_for_the_numbers_of_its_parameters(self) -> None:
        ours, theirs = LEADS.step_and_insert, QuixTableSink.statement.step_and_insert
        assert fence(ours) == fence(theirs)
        assert parameters(ours) == list(range(1, 24))
        assert parameters(theirs) == list(range(1, len(COLUMNS) + 10))

    def test_nothing_is_inserted_without_the_step(self) -> None:
        assert QuixTableSink.statement.step_and_insert.count("WHERE EXISTS (SELECT FROM step)") == 1
        assert "step" not in QuixTableSink.statement.insert.replace("stepped", "")


def fence(statement: str) -> str:
    return re.sub(r"\$\d+", "$", statement[: statement.index("incoming AS")])


def parameters(statement: str) -> list[int]:
    return sorted({int(number) for number in re.findall(r"\$(\d+)", statement)})


class TestTally:
    def test_nothing_is_told_before_the_first_record(self, tmp_path: Path) -> None:
        Tally(tmp_path / "tally")
        assert tallied(tmp_path / "tally") is None

    def test_it_begins_at_none_and_adds(self, tmp_path: Path) -> None:
        tally = Tally(tmp_path / "tally")
        tally.begin()
        assert tallied(tmp_path / "tally") == 0
        tally.add(7)
        tally.add(1_000_000)
        assert tallied(tmp_path / "tally") == 1_000_007

    def test_a_file_without_its_first_count_is_a_beginning(self, tmp_path: Path) -> None:
        (tmp_path / "tally").touch()
        assert tallied(tmp_path / "tally") == 0

    def test_a_second_run_does_not_go_on_with_the_count_of_the_first(self, tmp_path: Path) -> None:
        Tally(tmp_path / "tally").begin()
        with pytest.raises(FileExistsError):
            Tally(tmp_path / "tally").begin()


class TestLeftOut:
    def test_what_cannot_be_imported_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peers, "find_spec", lambda name: None)
        found = Peers(installation(tmp_path), [QUIX, PLAIN_COPY])
        assert found.names == [PLAIN_COPY]
        assert found.left_out == [
            "Quix Streams is left out: quixstreams cannot be imported, `make setup` installs it."
        ]  # fmt: skip

    def test_without_a_compiler_there_is_no_kafka_streams(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        found = Peers(installation(tmp_path), [STREAMS])
        assert found.names == []
        assert found.left_out == [
            "Kafka Streams (JVM) is left out: it needs a JDK, and there is no javac on the PATH."
        ]  # fmt: skip

    def test_without_its_jars_neither(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "javac").touch(0o755)
        (tmp_path / "repository").touch()  # a file, so nothing can be fetched into it
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setenv("M2_REPO", str(tmp_path / "repository" / "below"))
        (sentence,) = Peers(installation(tmp_path), [STREAMS]).left_out
        assert "Cannot write to the Maven repository" in sentence
        assert sentence.endswith(".")


def installation(directory: Path) -> Any:
    return SimpleNamespace(directory=directory)


class TestStreams:
    def test_its_jars_are_of_the_version_of_the_broker(self) -> None:
        broker = {jar.artifact: jar.version for jar in read_lock()}
        assert streams.versions()["kafka-streams"] == broker["kafka-clients"] == broker["kafka_2.13"]
        assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in read_lock(streams.LOCK_FILE))

    def test_it_is_run_with_the_heap_that_is_said_and_unpacks_into_its_own_directory(self, tmp_path: Path) -> None:
        found = streams.command([Path("/classes"), Path("/a.jar")], tmp_path, ["broker:1", "group", "in", "out"])
        assert found[1:] == [
            "-Xmx512m", f"-Djava.io.tmpdir={tmp_path}", "-cp", "/classes:/a.jar", "Dedupe", "broker:1", "group", "in",
            "out", str(tmp_path),
        ]  # fmt: skip


def test_the_versions_of_the_contenders_are_told() -> None:
    assert {"quixstreams", "confluent-kafka", "kafka-streams", "rocksdbjni"} <= set(versions())
