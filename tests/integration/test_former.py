"""A worker that was killed is back before its session is over: the next one in its place lets it leave the group."""

from __future__ import annotations

import pytest

from pipeline import topics
from tests.integration.installation import Installation, leads

pytestmark = pytest.mark.integration

#: Longer than a test waits for a worker to be ready.
SESSION = {"LEADS_SESSION_TIMEOUT_S": "170"}
LEFT = "had not left its group, and has now"


def test_a_killed_worker_does_not_wait_for_its_former_session(installation: Installation) -> None:
    sent = leads(60)
    worker = installation.worker(**SESSION).wait_ready()
    installation.produce(sent[:30])
    installation.wait(installation.drained)
    worker.kill()
    installation.produce(sent[30:])
    back = installation.worker(**SESSION).wait_ready()
    assert back.text().count(LEFT) == 1
    installation.assert_once(sent)
    assert installation.lag(topics.CAPTURED) == 0


def test_one_that_stopped_in_order_has_left(installation: Installation) -> None:
    worker = installation.worker(**SESSION).wait_ready()
    assert worker.stop() == 0
    assert LEFT not in installation.worker(**SESSION).wait_ready().text()


def test_what_was_noted_of_another_group_is_left_alone(installation: Installation) -> None:
    worker = installation.worker(LEADS_APP_ID="one", **SESSION).wait_ready()
    worker.kill()
    other = installation.worker(LEADS_APP_ID="other", **SESSION).wait_ready()
    assert LEFT not in other.text()
