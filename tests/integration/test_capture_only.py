"""A worker without agents (`LEADS_AGENTS=none`) captures, and does nothing else."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from pipeline.topics import CAPTURED
from tests.integration.asking import get, post
from tests.integration.installation import Installation, lead, leads

pytestmark = pytest.mark.integration


async def asked(installation: Installation) -> tuple[list[str], set[str]]:
    """The consumer groups, and the topics that are not Kafka's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=installation.bootstrap)
    await admin.start()
    try:
        groups = [name for name, _ in await admin.list_consumer_groups()]
        return groups, {name for name in await admin.list_topics() if not name.startswith("__")}
    finally:
        await admin.close()


def test_it_captures_and_joins_no_group(installation: Installation) -> None:
    worker = installation.worker(LEADS_AGENTS="none").wait_ready()
    status, receipt = post(worker, lead("m-1"))
    assert status == 202
    assert receipt["message_id"] == "m-1"
    status, answer = post(worker, leads(100))
    assert (status, len(answer["results"])) == (202, 100)
    sent = [lead("m-1"), *leads(100)]
    found = {record.key: json.loads(record.value)["email"] for record in installation.records(CAPTURED)}
    assert found == {f"default/{one['message_id']}".encode(): one["email"] for one in sent}
    assert asyncio.run(asked(installation)) == ([], {CAPTURED})
    assert not (installation.directory / "var" / "crm.sqlite3").exists()
    for path in (receipt["status_url"], "/tables", "/tables/seen", "/tables/seen/default/m-1"):
        status, problem = get(worker, path)
        assert (status, problem["detail"]) == (503, "This worker only captures leads. Ask one that runs agents.")
    assert get(worker, "/healthz")[0] == 200
    assert worker.stop() == 0
    assert "Traceback" not in worker.text()


def test_beside_workers_of_the_same_app_what_it_captured_is_written(installation: Installation) -> None:
    front = installation.worker(LEADS_AGENTS="none").wait_ready()
    back = installation.worker().wait_ready()
    sent = leads(20)
    assert post(front, sent)[0] == 202
    installation.assert_once(sent)
    assert get(back, f"/leads/default/{sent[0]['message_id']}")[1]["state"] == "written"
    assert front.stop() == 0
