"""Others stand in the changelog between our entries: a try that was not acknowledged, or what a worker wrote that was
taken for dead. The table gets what a recovery would give it, and is complete up to its end again.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.dedupe import Seen
from tests.integration.asking import get
from tests.integration.broker_side import CHANGELOG
from tests.integration.installation import Installation, key, leads
from tests.integration.test_standby import next_offsets

pytestmark = pytest.mark.integration


def seen_at(offset: int, digest: bytes = b"12345678") -> bytes:
    return Seen(offset, 1_700_000_000_000, digest).pack()


def worked(installation: Installation, count: int, prefix: str) -> list[dict[str, Any]]:
    sent = leads(count, prefix)
    installation.produce(sent)
    installation.wait(installation.drained)
    return sent


def test_the_table_is_complete_again_after_what_others_have_written(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    sent = worked(installation, 40, "a")
    (again,) = installation.records(CHANGELOG)[:1]
    others = leads(40, "other")
    installation.produce_raw([(again.key, again.value), *((key(one), seen_at(1000)) for one in others)], CHANGELOG)
    sent += worked(installation, 100, "b")
    assert worker.stop() == 0
    assert next_offsets(installation, 1) == installation.ends(CHANGELOG)
    installation.assert_once(sent)
    back = installation.worker().wait_ready()
    assert "Building" not in back.text()
    for one in others:
        assert get(back, f"/tables/seen/default/{one['message_id']}")[1]["offset"] == 1000
