"""`leads up` and the program `leads`: what the user is told, and with which status it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from pipeline import __main__ as program
from pipeline.commands import up as up_module
from pipeline.commands.up import Announcer, block
from pipeline.embedded import BrokerError, free_port
from pipeline.kafka import CannotConnect
from pipeline.settings import BadSetting, Settings
from pipeline.showing import without_secrets
from pipeline.slots import Slot, SlotError, SlotTaken

# A stand-in for a worker: takes the slot that it is told to, and says that it is ready.
WORKER = """
import http.server
from pipeline.settings import Settings
from pipeline.slots import take_slot
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()
slot = take_slot(Settings.from_env())
print("I am", slot.name)
http.server.HTTPServer(("127.0.0.1", slot.web_port), Ready).serve_forever()
"""


def slot(number: int, web_port: int = 6066) -> Slot:
    return Slot(number, Path(f"/var/worker-{number}"), web_port)


@pytest.fixture
def statuses() -> list[int]:
    """What a test's web server answers, one after the other; the last one for ever."""
    return [200]


@pytest.fixture
def web(statuses: list[int]) -> Iterator[HTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_the_block_tells_where_everything_is() -> None:
    text = block(Settings(), [slot(1), slot(2, 6067)], "kafka://127.0.0.1:9092")
    assert "http://127.0.0.1:6065/leads" in text
    assert "http://127.0.0.1:6066/tables" in text
    assert "sqlite:///var/crm.sqlite3" in text
    assert "kafka://127.0.0.1:9092 (embedded: survives killed processes, not power loss)" in text


def test_the_block_claims_nothing_of_a_broker_of_ones_own() -> None:
    text = block(Settings(broker_url="kafka://a:9092"), [slot(1)], None)
    assert "kafka://a:9092" in text
    assert "embedded" not in text


@pytest.mark.parametrize(
    "bind,host", [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("10.0.0.7", "10.0.0.7")]
)
def test_the_block_names_an_address_that_can_be_called(bind: str, host: str) -> None:
    assert f"http://{host}:6065/leads" in block(Settings(web_bind=bind), [slot(1)], None)
    assert f"http://{host}:6066/leads" in block(Settings(web_bind=bind, capture_port=0), [slot(1)], None)


@pytest.mark.parametrize(
    "url,shown",
    [
        ("sqlite:///var/crm.sqlite3", "sqlite:///var/crm.sqlite3"),
        ("postgresql://crm.example/crm", "postgresql://crm.example/crm"),
        ("postgresql://user:se@cr/et@crm.example:5432/crm", "postgresql://crm.example:5432/crm"),
        ("hubspot://t0ken@api.example", "hubspot://api.example"),
        (
            "postgresql://h/db?sslmode=require&password=x&user=u",
            "postgresql://h/db?sslmode=require&password=***&user=u",
        ),
        ("https://h/?api_key=x#top", "https://h/?api_key=***#top"),
    ],
)
def test_no_secret_is_shown(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


@pytest.mark.parametrize("statuses", [[200], [503, 404, 200]])
def test_the_block_is_printed_once_all_workers_are_ready(web: HTTPServer, statuses: list[int]) -> None:
    said = threading.Event()
    Announcer([slot(1, web.server_port)], "127.0.0.1", lambda text: said.set(), "ready", threading.Event()).start()
    said.wait()
    assert statuses == [200]


@pytest.mark.parametrize("statuses", [[503]])
def test_who_is_missing_is_said_until_it_is_there(web: HTTPServer, statuses: list[int]) -> None:
    lines: list[str] = []
    ready = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        statuses[0] = 200
        if line == "ready":
            ready.set()

    Announcer([slot(7, web.server_port)], "127.0.0.1", say, "ready", threading.Event(), still_starting_s=0.0).start()
    ready.wait()
    assert lines == ["still starting: worker-7", "ready"]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What `leads up` says with stand-ins for workers and a broker elsewhere, stopped by Ctrl-C once it is ready."""
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if "Ctrl-C" in line:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(up_module, "printer", lambda: say)
    monkeypatch.setattr(up_module, "WORKER", [sys.executable, "-c", WORKER])
    monkeypatch.setenv("LEADS_BROKER_URL", "kafka://127.0.0.1:1")
    monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LEADS_WEB_PORT", str(free_port()))
    return lines


def run(*args: str) -> object:
    with pytest.raises(SystemExit) as stop:
        program.main(args)
    return stop.value.code


def test_up_starts_workers_and_ends_with_status_0_at_ctrl_c(said: list[str]) -> None:
    assert run("up", "--workers", "1") == 0
    assert said[0] == "worker-1 | I am worker-1"
    assert any("Ready, with 1 worker." in line for line in said)
    # What the worker itself says, such as that it was asked once more, may come at any time.
    assert [line for line in said if not line.startswith("worker-1 | ")][-1] == "stopping"


def test_up_refuses_a_port_that_somebody_has(
    said: list[str], web: HTTPServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADS_WEB_PORT", str(web.server_port))
    assert run("up") == os.EX_CONFIG
    assert f"leads: A worker cannot listen on port {web.server_port}" in capsys.readouterr().err
    assert said == ["stopping"]


def test_help_names_our_commands_and_faust_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert "Start the broker and the workers" in text
    assert "worker, agents, tables" in text


@pytest.mark.parametrize("args", [["worker", "-l", "info"], ["-l", "info", "worker"], ["tables"]])
def test_what_is_not_ours_is_faust_s(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[list[str]] = []
    monkeypatch.setattr(program, "_run_faust", passed.append)
    program.main(args)
    assert passed == [args]


@pytest.mark.parametrize(
    "error,status",
    [
        (BadSetting("Not so."), os.EX_CONFIG),
        (SlotError("Not so."), os.EX_CONFIG),
        (SlotError("Not so.", status=os.EX_IOERR), os.EX_IOERR),
        (SlotTaken("Not so."), os.EX_TEMPFAIL),
        (BrokerError("Not so."), os.EX_UNAVAILABLE),
        (BrokerError("Not so.", status=os.EX_CONFIG), os.EX_CONFIG),
        (CannotConnect("Not so."), os.EX_UNAVAILABLE),
    ],
)
def test_an_expected_error_is_one_sentence_and_a_status(
    error: Exception, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: list[str]) -> None:
        raise error

    monkeypatch.setattr(program, "_run_faust", fail)
    assert run("worker") == status
    assert capsys.readouterr().err == "leads: Not so.\n"


@pytest.mark.parametrize("args", [["up"], ["broker"], ["broker", "--port", "1"], ["skip", "lead-captured", "0", "0"]])
def test_a_misspelt_setting_ends_every_command(
    args: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADS_DATADIR", "/tmp")
    assert run(*args) == os.EX_CONFIG
    assert capsys.readouterr().err.startswith("leads: LEADS_DATADIR is not a setting. Did you mean LEADS_DATA_DIR?")


@pytest.mark.parametrize(
    "given, why",
    [
        ({"LEADS_SINK_URL": "mysql://user:s3cret@host/crm"}, "no sink has such a URL"),
        ({"LEADS_SINK_PASSWORD": "s3cret"}, "it has no password"),
    ],
)
def test_a_sink_that_does_not_exist_is_said_once_and_before_anything_starts(
    given: dict[str, str], why: str, tmp_path: Path
) -> None:
    directory = tmp_path / "var"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "up"],
        env={**inherited, **given, "LEADS_DATA_DIR": str(directory), "LEADS_BROKER_PORT": str(free_port())},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert done.stderr.startswith(f"leads: LEADS_SINK_URL cannot be used: {why}")
    assert "s3cret" not in done.stderr
    assert not directory.exists()


@pytest.mark.parametrize("command", ["up", "broker"])
def test_a_command_without_the_app_does_not_load_it(command: str) -> None:
    script = f"""
import sys
from pipeline.__main__ import main
try:
    main([{command!r}, "--help"])
except SystemExit:
    sys.exit(" ".join(sys.modules.keys() & {{"faust", "aiokafka", "pipeline.app"}}) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
