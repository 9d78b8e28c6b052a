"""A disk that fills: one sentence with what to do, nothing is lost, and once there is room everything goes on.

Each disk here is a small one in memory. Where mounting is not permitted these tests are skipped.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded import free_port
from tests.integration.installation import Installation, lead, leads, wait_until

pytestmark = pytest.mark.integration

NO_SPACE = "No space is left on the disk of"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", path], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not permitted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def fill(disk: Path) -> None:
    """Leave no room."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(65536))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def make_room(disk: Path) -> None:
    """Undo `fill`."""
    (disk / "filler").unlink()


class TestTheDiskOfTheState:
    """The tables are on the small disk, the CRM is not."""

    @pytest.fixture
    def small(self, tmp_path: Path, disk: Path) -> Iterator[Installation]:
        crm = tmp_path / "var" / "crm.sqlite3"
        crm.parent.mkdir()
        with Installation(
            tmp_path, LEADS_DATA_DIR=str(disk / "var"), LEADS_SINK_URL=f"sqlite:///{crm}"
        ) as installation:
            yield installation

    def test_ends_a_worker_in_the_middle_of_its_work(self, small: Installation, disk: Path) -> None:
        worker, sent = small.worker().wait_ready(), leads(2000)
        fill(disk)
        small.produce(sent)
        status, last = worker.refused()
        assert status == os.EX_IOERR
        assert last.startswith(f"Cannot go on: {NO_SPACE} {disk}/var/worker-1/")
        assert last.endswith("free some. Nothing is lost: what was not written was not acknowledged.")
        make_room(disk)
        small.worker().wait_ready()
        small.assert_once(sent)
        assert small.dead_letters() == []

    def test_ends_a_worker_that_starts(self, small: Installation, disk: Path) -> None:
        fill(disk)
        status, last = small.worker().refused()
        assert status == os.EX_IOERR
        assert last.startswith(f"Cannot go on: {NO_SPACE} {disk}/")

    def test_ends_a_worker_that_rebuilds_its_table(self, small: Installation, disk: Path) -> None:
        sent = leads(2000)
        worker = small.worker().wait_ready()
        small.produce(sent)
        small.assert_once(sent)
        assert worker.stop() == 0
        # Another worker, in whose directory nothing is but what it needs to start.
        fill(disk)
        with (disk / "filler").open("r+b") as filler:
            filler.truncate(filler.seek(0, os.SEEK_END) - 256 * 1024)
        status, last = small.worker(_LEADS_SLOT="2").refused()
        assert status == os.EX_IOERR
        assert last.startswith(f"Cannot go on: {NO_SPACE} {disk}/var/worker-2/")

    def test_is_waited_for_by_up(self, small: Installation, disk: Path) -> None:
        up, sent = small.program("pipeline", "up", "--workers", "1"), leads(2000)
        wait_until(lambda: "Ready, with 1 worker" in up.text(), up.text)
        fill(disk)
        small.produce(sent)
        wait_until(lambda: "worker-1 ended (status 74)" in up.text(), up.text)
        make_room(disk)
        small.assert_once(sent)
        assert up.stop() == 0
        assert f"worker-1 | Cannot go on: {NO_SPACE}" in up.text()
        assert "Traceback" not in up.text()


def test_the_disk_of_the_crm_is_waited_for(tmp_path: Path, disk: Path) -> None:
    (tmp_path / "var").mkdir()
    crm = tmp_path / "var" / "crm.sqlite3"
    with Installation(tmp_path, LEADS_SINK_URL=f"sqlite:///{disk}/crm.sqlite3") as installation:
        worker, sent = installation.worker().wait_ready(), leads(500)
        fill(disk)
        installation.produce(sent)
        installation.wait(lambda: "SQLITE_FULL" in worker.text())
        make_room(disk)
        installation.wait(installation.drained)
        crm.symlink_to(disk / "crm.sqlite3")
        installation.assert_once(sent)
        assert worker.text().count("SQLITE_FULL") == 1
        assert "Traceback" not in worker.text()
        assert worker.stop() == 0


class TestTheDiskOfTheBroker:
    @pytest.fixture
    def unstarted(self, tmp_path: Path, disk: Path) -> Iterator[Installation]:
        """An installation whose embedded broker, started by `leads up` or `leads broker`, is on the small disk."""
        (tmp_path / "var").mkdir()
        (tmp_path / "var" / "broker").symlink_to(disk)
        settings = {"LEADS_BROKER_URL": "", "LEADS_REPLICATION": "", "LEADS_BROKER_PORT": str(free_port())}
        installation = Installation(tmp_path, **settings)
        yield installation
        installation.__exit__()

    def test_ends_the_broker_until_there_is_room(self, unstarted: Installation, disk: Path) -> None:
        up = unstarted.program("pipeline", "up", "--workers", "1")
        wait_until(lambda: "Ready, with 1 worker" in up.text(), up.text)
        fill(disk)
        broker, acknowledged, number = unstarted.directory / "var" / "broker", [], 0
        while "broker ended" not in up.text():
            one = lead(f"m-{number:06d}", fields={"text": "x" * 10_000})
            number += 1
            status = self._post(unstarted, one)
            assert status in (202, 503)
            if status == 202:
                acknowledged.append(one)
        wait_until(lambda: f"{NO_SPACE} {broker}; free some; it is started again in" in up.text(), up.text)
        make_room(disk)
        wait_until(lambda: self._post(unstarted, lead("last")) == 202, up.text)
        unstarted.wait(unstarted.drained)
        rows = {message_id for _, message_id in unstarted.rows()}
        assert rows >= {one["message_id"] for one in acknowledged} | {"last"}
        assert "Traceback" not in up.text()
        assert up.stop() == 0

    def _post(self, installation: Installation, one: dict[str, object]) -> int:
        url = f"http://127.0.0.1:{installation.base_port}/leads"
        request = urllib.request.Request(url, json.dumps(one).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    @pytest.mark.parametrize("command", ["up", "broker"])
    def test_does_not_let_it_start(self, unstarted: Installation, disk: Path, command: str) -> None:
        fill(disk)
        status, last = unstarted.program("pipeline", command).refused()
        assert status == os.EX_IOERR
        assert last == f"leads: {NO_SPACE} {unstarted.directory}/var/broker; free some."

    @pytest.mark.parametrize("room_bytes", [16 * 1024, 64 * 1024])
    def test_ends_it_early(self, unstarted: Installation, disk: Path, room_bytes: int) -> None:
        fill(disk)
        with (disk / "filler").open("r+b") as filler:
            filler.truncate(filler.seek(0, os.SEEK_END) - room_bytes)
        status, last = unstarted.program("pipeline", "broker").refused()
        assert status == os.EX_IOERR
        assert last == f"leads: {NO_SPACE} {unstarted.directory}/var/broker; free some."
