"""The lock file of the jars, and that nothing passes that does not match it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.embedded.errors import BrokerError
from pipeline.embedded.jars import Jar, fetch_jars, read_lock


def test_the_lock_file_names_kafka_and_each_jar_once() -> None:
    jars = read_lock()
    assert len({jar.name for jar in jars}) == len(jars) == 45
    assert "org.apache.kafka:kafka_2.13:4.4.0" in {jar.name for jar in jars}
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


def test_path_in_a_maven_repository() -> None:
    jar = Jar("00", "org.apache.kafka", "kafka_2.13", "4.4.0")
    assert jar.path == Path("org/apache/kafka/kafka_2.13/4.4.0/kafka_2.13-4.4.0.jar")


def planted(tmp_path: Path, contents: dict[str, bytes]) -> tuple[Path, Path]:
    """A lock file and a repository whose jars match it; gives their paths."""
    lines = []
    for name, content in contents.items():
        jar = Jar(hashlib.sha256(content).hexdigest(), *name.split(":"))
        lines.append(f"{jar.sha256} {jar.name}\n")
        file = tmp_path / "repo" / jar.path
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
    lock_file = tmp_path / "test.lock"
    lock_file.write_text("".join(lines))
    return lock_file, tmp_path / "repo"


def test_present_jars_are_checked_and_given_in_order(tmp_path: Path) -> None:
    lock_file, repo = planted(tmp_path, {"com.b:b:1": b"b", "com.a:a:2": b"a"})
    assert fetch_jars(lock_file, repo) == [repo / "com/b/b/1/b-1.jar", repo / "com/a/a/2/a-2.jar"]


def test_a_jar_that_does_not_match_is_refused_by_name(tmp_path: Path) -> None:
    lock_file, repo = planted(tmp_path, {"com.b:b:1": b"b", "com.a:a:2": b"a"})
    wrong = repo / "com/a/a/2/a-2.jar"
    wrong.write_bytes(b"somebody else's code")
    with pytest.raises(BrokerError, match=r"com\.a:a:2 is not the jar") as caught:
        fetch_jars(lock_file, repo)
    assert str(wrong) in str(caught.value)
    assert wrong.exists()  # it is evidence, and perhaps of use to another program


def test_half_a_jar_is_refused(tmp_path: Path) -> None:
    lock_file, repo = planted(tmp_path, {"com.a:a:2": b"whole"})
    (repo / "com/a/a/2/a-2.jar").write_bytes(b"who")
    with pytest.raises(BrokerError, match=r"com\.a:a:2"):
        fetch_jars(lock_file, repo)
