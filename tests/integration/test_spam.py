"""What looks as if a program had filled in a form is answered like any other, and goes to the dead letters as spam."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from typing import Any

import pytest
import uuid_utils

from pipeline.web.forms import HONEYPOT
from tests.integration.asking import get
from tests.integration.installation import Installation, Worker
from tests.integration.running import run

pytestmark = pytest.mark.integration


def post_form(worker: Worker, **members: str) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"{worker.url}/forms/contact", urllib.parse.urlencode(members).encode(), {"Accept": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.status, json.load(answer)


def test_spam_is_kept_apart_and_can_be_replayed(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    person = {"email": "ada@example.com", "name": "Ada"}
    sent = {
        "honeypot": {**person, "message_id": "trapped", HONEYPOT: "https://spam.example"},
        "fill-time": {**person, "message_id": str(uuid_utils.uuid7())},
        None: {**person, "message_id": "a-person"},
    }
    for members in sent.values():
        status, receipt = post_form(worker, **members)
        # A bot learns nothing.
        assert (status, receipt["message_id"]) == (202, members["message_id"])
        assert set(receipt) == {"message_id", "tenant", "partition", "offset", "status_url"}
    installation.wait_letters(2)
    installation.wait(installation.drained)
    assert installation.rows() == [("default", "a-person")]
    assert {one["detail"]: one["reason"] for one in installation.dead_letters()} == {
        "honeypot": "spam",
        "fill-time": "spam",
    }
    state = get(worker, "/leads/default/trapped")[1]
    assert (state["state"], state["reason"]) == ("dead-lettered", "spam")
    replayed = run(installation, "dead-letters", "replay", "--reason", "spam", "--id", "trapped")
    assert replayed.returncode == 0, replayed.stderr
    installation.wait_rows(2)
    assert installation.rows() == [("default", "a-person"), ("default", "trapped")]
    assert get(worker, "/leads/default/trapped")[1]["state"] == "written"
