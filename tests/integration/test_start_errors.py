"""What is wrong at the start ends it with one sentence that says what to do, its status, and no traceback.

Each by hand (`faust -A pipeline.app worker`) and by `leads up`, and by the other commands where they are concerned.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.embedded import free_port
from tests.integration.installation import Installation, Worker, leads, wait_until

pytestmark = pytest.mark.integration

BY_HAND = ("faust", "-A", "pipeline.app", "worker", "-l", "info")
UP = ("pipeline", "up", "--workers", "1")
WAYS = pytest.mark.parametrize("way", [BY_HAND, UP], ids=["by hand", "up"])
NOWHERE = "kafka://127.0.0.1:1"


@pytest.fixture
def unstarted(tmp_path: Path) -> Iterator[Installation]:
    """Directories and settings, whose broker does not run."""
    installation = Installation(tmp_path)
    yield installation
    installation.__exit__()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@WAYS
@pytest.mark.parametrize(
    "name,value,sentence",
    [
        ("LEADS_DATADIR", "/tmp", "LEADS_DATADIR is not a setting. Did you mean LEADS_DATA_DIR?"),
        ("LEADS_PARTITIONS", "0", "LEADS_PARTITIONS='0' cannot be used: give a whole number, 1 or more."),
        (
            "LEADS_BROKER_URL",
            "kafka://alice:s3cret@host",
            (
                "LEADS_BROKER_URL cannot be used: it may hold no user and password; give them as LEADS_BROKER_USERNAME "
                "and LEADS_BROKER_PASSWORD, or LEADS_BROKER_PASSWORD_FILE."
            ),
        ),
    ],
)
def test_a_setting_that_cannot_be_used(
    unstarted: Installation, way: tuple[str, ...], name: str, value: str, sentence: str
) -> None:
    program = unstarted.program(*way, **{name: value})
    assert program.refused() == (os.EX_CONFIG, sentence if way is BY_HAND else f"leads: {sentence}")
    assert program.text().count("\n") == 1


@WAYS
def test_a_sink_that_does_not_exist(unstarted: Installation, way: tuple[str, ...]) -> None:
    program = unstarted.program(*way, LEADS_SINK_URL="mysql://user:s3cret@host/crm")
    assert program.refused()[0] == os.EX_CONFIG
    assert "LEADS_SINK_URL cannot be used: no sink has such a URL" in program.text()
    assert "s3cret" not in program.text()


@WAYS
def test_a_data_directory_that_cannot_be_written(unstarted: Installation, way: tuple[str, ...]) -> None:
    (unstarted.directory / "file").touch()
    status, last = unstarted.program(*way, LEADS_DATA_DIR=str(unstarted.directory / "file" / "var")).refused()
    assert status == os.EX_CONFIG
    assert "file/var/slots cannot be written (Not a directory); set LEADS_DATA_DIR" in last


@pytest.mark.parametrize("command", ["up", "broker"])
def test_a_data_directory_in_which_the_broker_cannot_write(unstarted: Installation, command: str) -> None:
    (unstarted.directory / "file").touch()
    var = str(unstarted.directory / "file" / "var")
    status, last = unstarted.program("pipeline", command, LEADS_BROKER_URL="", LEADS_DATA_DIR=var).refused()
    assert status == os.EX_CONFIG
    assert f"leads: The broker cannot write to {var}/broker (Not a directory); set LEADS_DATA_DIR" in last


class TestPorts:
    @WAYS
    def test_a_web_port_that_is_taken(self, unstarted: Installation, way: tuple[str, ...], taken: int) -> None:
        status, last = unstarted.program(*way, LEADS_WEB_PORT=str(taken)).refused()
        assert status == os.EX_CONFIG
        assert f"A worker cannot listen on port {taken} of 127.0.0.1 (Address already in use); stop the program" in last
        assert last.endswith("or set LEADS_WEB_PORT to the first of some free ports.")

    def test_one_that_was_given_on_the_command_line(self, unstarted: Installation, taken: int) -> None:
        status, last = unstarted.program(*BY_HAND, "-p", str(taken)).refused()
        assert status == os.EX_CONFIG
        assert f"port {taken} " in last
        assert "or set -p to" in last

    @pytest.mark.parametrize("command", ["up", "broker"])
    def test_that_of_the_broker(self, unstarted: Installation, command: str, taken: int) -> None:
        program = unstarted.program("pipeline", command, LEADS_BROKER_URL="", LEADS_BROKER_PORT=str(taken))
        status, last = program.refused()
        assert status == os.EX_CONFIG
        assert last.startswith(f"leads: Port {taken} of 127.0.0.1 is taken")
        assert "set LEADS_BROKER_PORT to a free port" in last

    def test_another_one_for_the_broker_is_where_everybody_looks(self, unstarted: Installation) -> None:
        environ = {"LEADS_BROKER_URL": "", "LEADS_REPLICATION": "", "LEADS_BROKER_PORT": str(free_port())}
        port = int(environ["LEADS_BROKER_PORT"])
        broker = unstarted.program("pipeline", "broker", **environ)
        wait_until(lambda: f"Kafka listens on kafka://127.0.0.1:{port}" in broker.text(), broker.text)
        unstarted.worker(**environ).wait_ready()
        skipped = unstarted.program("pipeline", "skip", "lead-captured", "99", "0", **environ)
        assert skipped.refused() == (1, "Error: lead-captured has no partition 99.")
        assert broker.stop() == 0


class TestABrokerThatIsAway:
    SENTENCE = (
        f"The broker at {NOWHERE} cannot be reached (Connection refused); start it, or set LEADS_BROKER_URL to "
        "where it is."
    )

    @pytest.fixture
    def away(self) -> dict[str, str]:
        return {"LEADS_BROKER_URL": NOWHERE, "LEADS_BROKER_WAIT_S": "1.5"}

    def test_is_waited_for_in_one_line_and_then_not_any_more(
        self, unstarted: Installation, away: dict[str, str]
    ) -> None:
        worker = unstarted.program(*BY_HAND, **away)
        assert worker.refused() == (os.EX_UNAVAILABLE, f"Cannot go on: {self.SENTENCE}")
        assert warnings(worker) == [f"Waiting for the broker. {self.SENTENCE}"]

    def test_is_waited_for_by_up(self, unstarted: Installation, away: dict[str, str]) -> None:
        up = unstarted.program(*UP, **away)
        wait_until(lambda: "it is started again" in up.text(), up.text)
        assert f"worker-1 | Cannot go on: {self.SENTENCE}\nworker-1 ended (status 69) after" in up.text()
        assert up.stop() == 0
        assert "Traceback" not in up.text()

    def test_ends_a_command(self, unstarted: Installation, away: dict[str, str]) -> None:
        skip = unstarted.program("pipeline", "skip", "lead-captured", "0", "0", **away)
        assert skip.refused() == (os.EX_UNAVAILABLE, f"leads: {self.SENTENCE}")
        assert skip.text().count("\n") == 1

    def test_or_has_no_address(self, unstarted: Installation, away: dict[str, str]) -> None:
        url = "kafka://no.such.host.invalid:9092"
        status, last = unstarted.program(*BY_HAND, **{**away, "LEADS_BROKER_URL": url}).refused()
        assert status == os.EX_UNAVAILABLE
        assert last.startswith(f"Cannot go on: The broker at {url} cannot be reached (")

    def test_or_is_the_embedded_one(self, unstarted: Installation, away: dict[str, str]) -> None:
        away |= {"LEADS_BROKER_URL": "", "LEADS_BROKER_PORT": "1"}
        status, last = unstarted.program(*BY_HAND, **away).refused()
        assert status == os.EX_UNAVAILABLE
        assert "start it with `leads up` or `leads broker`" in last


@WAYS
def test_a_data_directory_of_another_cluster(installation: Installation, way: tuple[str, ...]) -> None:
    worker = installation.worker().wait_ready()
    note = installation.directory / "var" / "cluster-id"
    ours = note.read_text().strip()
    assert worker.stop() == 0
    installation.worker().wait_ready().stop()
    note.write_text("another\n")
    status, last = installation.program(*way).refused()
    sentence = f"{note.parent} holds the state of the Kafka cluster another, and the broker is of the cluster {ours}."
    assert status == os.EX_CONFIG
    assert sentence in (last if way is BY_HAND else installation.workers[-1].text())
    note.unlink()
    sent = leads(10)
    installation.produce(sent)
    installation.worker().wait_ready()
    installation.assert_once(sent)
    assert note.read_text().strip() == ours


def warnings(worker: Worker) -> list[str]:
    """The warnings and errors in its log."""
    lines = [line for line in worker.text().splitlines() if "[WARNING]" in line or "[ERROR]" in line]
    return [line.split("] ", 3)[-1].strip() for line in lines]


def test_a_loop_on_which_aiokafka_does_not_survive_its_broker(unstarted: Installation) -> None:
    status, last = unstarted.program("faust", "--loop", "uvloop", "-A", "pipeline.app", "worker").refused()
    assert status == os.EX_CONFIG
    assert "leave out --loop uvloop" in last
