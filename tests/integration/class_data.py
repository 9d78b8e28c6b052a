"""Kafka's classes, parsed once for all brokers of the tests: the JVM's class data sharing (JEP 350).

A broker starts in half the time, which is a third of what the tests take on a slow machine. The JVM checks the archive
against itself and the class path, and does without one that does not fit.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from pipeline import topics
from pipeline.embedded.jars import fetch_jars
from pipeline.embedded.java import find_java
from tests.integration.installation import Installation, lead


def archive(directory: Path, scratch: Path) -> Path:
    """The archive for this Java and these jars in `directory`, made with a broker in `scratch` unless it is there."""
    made_from = "\n".join(map(str, (find_java(), *((jar, jar.stat().st_mtime_ns) for jar in fetch_jars()))))
    path = directory / f"kafka-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.jsa"
    if not path.exists():
        new = directory / f"{path.stem}-{os.getpid()}.new"
        _train(scratch, new)
        new.replace(path)
    return path


def using(path: Path) -> AbstractContextManager[None]:
    """Have every JVM below this process use the archive at `path`."""
    return _java_options(f"-XX:SharedArchiveFile={path} -Xlog:cds=off -Xlog:cds+dynamic=off")


def _train(scratch: Path, path: Path) -> None:
    with Installation(scratch) as installation:
        installation.broker.kill()  # it is formatted now: that JVM is not to write the archive
        with _java_options(f"-XX:ArchiveClassesAtExit={path}"):
            installation.broker.start()
        installation.create_topics()
        installation.produce([lead("m-1")])
        installation.commit({0: 0})
        assert installation.committed() == {0: 0}
        assert len(installation.records(topics.CAPTURED)) == 1
        installation.broker.stop(timeout_s=120.0)


@contextmanager
def _java_options(options: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JDK_JAVA_OPTIONS", options)  # read by every `java` since 9
        yield
