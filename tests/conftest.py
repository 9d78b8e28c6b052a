"""Marks what needs a broker or a database, by its directory, so that `make test-fast` can leave it out.

Nothing is asserted about time: hypothesis must not fail on a machine that is busy with something else.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("leads", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("leads")

LAB = Path(__file__).parent / "lab"
INTEGRATION = {Path(__file__).parent / "integration", LAB}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEGRATION & set(item.path.parents):
            item.add_marker(pytest.mark.integration)
        if LAB in item.path.parents:
            item.add_marker(pytest.mark.lab)
