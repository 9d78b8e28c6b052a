"""Fixtures of the tests with a real broker and real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import class_data
from tests.integration.installation import Installation


@pytest.fixture(scope="session", autouse=True)
def fast_java(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every JVM starts with Kafka's classes parsed already."""
    assert pytestconfig.cache is not None
    archive = class_data.archive(pytestconfig.cache.mkdir("class-data"), tmp_path_factory.mktemp("class-data"))
    with class_data.using(archive):
        yield


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A broker, running, and a directory for workers."""
    with Installation(tmp_path) as installed:
        yield installed
