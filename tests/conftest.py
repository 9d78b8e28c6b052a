"""Marks what needs a broker or a database, by its directory, so that `make test-fast` can leave it out.

Nothing is asserted about time: hypothesis must not fail on a machine that is busy with something else.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pipeline.embedded import process

settings.register_profile("leads", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leads")

INTEGRATION = {Path(__file__).parent / name for name in ("integration", "lab")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEGRATION & set(item.path.parents):
            item.add_marker(pytest.mark.integration)


def pytest_configure() -> None:
    # Tests that run side by side must not be given the same port between looking for a free one and listening on it.
    runner = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    runners = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    each = len(process._PORTS) // runners
    process._PORTS = process._PORTS[runner * each : (runner + 1) * each]
