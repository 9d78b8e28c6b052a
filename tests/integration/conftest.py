"""Fixtures of the tests with a real broker and real workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.installation import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """A broker, running, and a directory for workers."""
    with Installation(tmp_path) as installed:
        yield installed
