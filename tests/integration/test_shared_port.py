"""The port that all workers of a machine share, so that capture survives any one of them; the token that they have."""

from __future__ import annotations

import json
import signal
import socket
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration.asking import get, post
from tests.integration.installation import Installation, Worker, free_port, key, lead, leads

pytestmark = pytest.mark.integration

TOKEN = "0123456789abcdef-secret"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("shared")) as installation:
        yield installation


def at_port(port: int) -> Worker:
    """Whoever has the port, as one to ask."""
    return Worker(None, Path("/dev/null"), port)  # type: ignore[arg-type]


def send(workers: Worker, one: dict[str, Any]) -> None:
    """Send it as a client does: again, when a connection breaks."""
    for _ in range(100):
        try:
            status, answer = post(workers, one)
        except (urllib.error.URLError, ConnectionError):
            continue
        if status == 202:
            assert answer["message_id"] == one["message_id"]
            return
    raise AssertionError("nobody takes it")


def test_capture_goes_on_without_any_one_worker(installed: Installation) -> None:
    port = free_port()
    killed, stopped, last = [installed.worker(LEADS_CAPTURE_PORT=str(port)) for _ in range(3)]
    for worker in (killed, stopped, last):
        worker.wait_ready()
    shared, sent = at_port(port), list[dict[str, Any]]()

    def following() -> dict[str, Any]:
        sent.append(lead(f"m-{len(sent)}"))
        return sent[-1]

    for _ in range(20):
        assert post(shared, following())[0] == 202
    killed.kill()
    for _ in range(20):
        # Only what was on its way to the one that was killed breaks; a new connection goes to another one at once.
        send(shared, following())
    # One that stops leaves the port first: nobody gets to know of it.
    stopped.signal(signal.SIGTERM)
    while stopped.process.poll() is None:
        send(shared, following())
    assert stopped.process.poll() == 0
    send(shared, following())
    installed.assert_once(sent)

    # Whoever belongs to another app keeps off, as from a port that another program has.
    elsewhere = str(installed.directory / "other")
    other = {"LEADS_APP_ID": "other", "LEADS_AGENTS": "none", "LEADS_DATA_DIR": elsewhere}
    status, said = installed.worker(LEADS_CAPTURE_PORT=str(port), **other).refused()
    assert (status, f"cannot share port {port} of 127.0.0.1 (workers of another app" in said) == (78, True)
    assert last.stop() == 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = str(server.getsockname()[1])
        status, said = installed.worker(LEADS_CAPTURE_PORT=taken, **other).refused()
    assert (status, f"cannot share port {taken}" in said) == (78, True)
    assert said.endswith("set LEADS_CAPTURE_PORT to another one, or to off.")


def test_workers_show_each_other_the_token(installed: Installation) -> None:
    first, second = [installed.worker(LEADS_OPS_TOKEN=TOKEN) for _ in range(2)]
    for worker in (first, second):
        worker.wait_ready()
    shown = {"Authorization": f"Bearer {TOKEN}"}
    sent = leads(20, "t")
    assert post(first, sent)[0] == 202
    installed.wait(installed.drained)
    for worker in (first, second):
        assert get(worker, "/tables/seen")[0] == 401
        # Half of the partitions are the other one's.
        found = [get(worker, f"/tables/seen/{quote(key(one), safe='')}", **shown)[1] for one in sent]
        assert {one["owner"] for one in found} == {first.url, second.url}
        assert get(worker, f"/leads/default/{sent[0]['message_id']}", **shown)[1]["state"] == "written"
        assert "checks" not in get(worker, "/readyz")[1]
        assert "checks" in get(worker, "/readyz", **shown)[1]
    assert TOKEN not in first.text() + second.text() + json.dumps(get(first, "/tables")[1])

    assert second.stop() == 0
    without = installed.worker().wait_ready()
    [seen] = [one for one in get(without, "/tables")[1]["tables"] if one["name"] == "seen"]
    of_first = next(one["partition"] for one in seen["partitions"] if one["owner"] == first.url)
    status, problem = get(without, f"/tables/seen?partition={of_first}")
    assert (status, problem["title"]) == (503, "Cannot say right now")
    assert "LEADS_OPS_TOKEN" in problem["detail"]
