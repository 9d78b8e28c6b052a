"""Marks what needs a broker or a database, by its directory, so that `make test-fast` can leave it out."""

from __future__ import annotations

from pathlib import Path

import pytest

INTEGRATION = {Path(__file__).parent / name for name in ("integration", "lab")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEGRATION & set(item.path.parents):
            item.add_marker(pytest.mark.integration)
