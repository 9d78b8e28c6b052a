"""A broker that goes just as a worker has become ready, while that still asks where its partitions begin."""

from __future__ import annotations

import json
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.integration.installation import Installation

LEAD = {"message_id": "m1", "email": "ada@example.com"}
TIMEOUT_S = 10.0


@pytest.mark.parametrize("attempt", range(2))
def test_the_worker_goes_on_when_it_is_back(installation: Installation, attempt: int) -> None:
    worker = installation.worker().wait_ready()
    installation.broker.kill()
    installation.broker.start()
    ask = Request(f"{worker.url}/leads", json.dumps(LEAD).encode(), {"Content-Type": "application/json"})

    def is_captured() -> bool:
        try:
            with urlopen(ask, timeout=TIMEOUT_S) as answer:
                return "offset" in json.load(answer)  # else it is spooled
        except URLError:
            return False

    installation.wait(is_captured)
    installation.wait(installation.drained)
