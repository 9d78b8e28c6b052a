"""The supervisor, with real child processes and a broker that only counts. `say` is where things are awaited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.child import LINE_MAX_BYTES, Child
from pipeline.embedded import BrokerError
from pipeline.slots import SlotError
from pipeline.supervisor import EX_CONFIG, BackOff, Supervisor

PATIENT = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("bye")))
print("up")
signal.pause()
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("no"))
print("up")
while True:
    signal.pause()
"""


class Log:
    """Keeps every line, and calls `react` with it: that is how a test knows that something has happened."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.react: Callable[[str], None] = lambda line: None

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self.react(line)

    def count(self, text: str) -> int:
        return sum(text in line for line in self.lines)


class CountingBroker:
    def __init__(self, log: Log) -> None:
        self.log = log
        self.running = False
        self.errors: list[Exception] = []
        self.during_start: Callable[[], None] = lambda: None
        self.during_stop: Callable[[], None] = lambda: None

    def start(self, *, timeout_s: float) -> None:
        self.during_start()
        if self.errors:
            raise self.errors.pop(0)
        self.running = True
        self.log("broker serves")

    def stop(self, *, timeout_s: float) -> None:
        if timeout_s > 0:
            self.during_stop()
        self.running = False
        self.log(f"broker stopped {'in order' if timeout_s > 0 else 'at once'}")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def broker(log: Log) -> CountingBroker:
    return CountingBroker(log)


@pytest.fixture
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BackOff, "FIRST_S", 0.0)


def children(log: Log, *scripts: str) -> list[Child]:
    return [Child(f"worker-{n}", [sys.executable, "-c", script], {}, log) for n, script in enumerate(scripts, 1)]


def exists(pid: int | None) -> bool:
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_delays_double_up_to_half_a_minute() -> None:
    back_off = BackOff()
    assert [back_off.after(1.0) for _ in range(9)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_after_a_minute_of_life_delays_start_anew() -> None:
    back_off = BackOff()
    assert [back_off.after(uptime_s) for uptime_s in (1.0, 1.0, 60.0, 1.0)] == [0.5, 1.0, 0.5, 1.0]


@pytest.mark.usefixtures("no_delay")
def test_what_ends_is_started_again_under_its_name(log: Log) -> None:
    supervisor = Supervisor(lambda: children(log, "import sys; print('hello'); sys.exit(3)"), say=log)
    log.react = lambda line: supervisor.stop() if log.count("hello") == 3 else None
    assert supervisor.run() == 0
    assert log.count("worker-1 | hello") == 3
    assert log.count("worker-1 ended (status 3) after") == 2


@pytest.mark.usefixtures("no_delay")
def test_a_killed_worker_is_started_again(log: Log) -> None:
    (worker,) = workers = children(log, PATIENT)
    supervisor = Supervisor(lambda: workers, say=log)
    pids: list[int] = []

    def react(line: str) -> None:
        if line == "worker-1 | up":
            assert worker.pid is not None
            pids.append(worker.pid)
            supervisor.stop() if len(pids) == 2 else worker.kill()

    log.react = react
    assert supervisor.run() == 0
    assert len(set(pids)) == 2
    assert log.count("worker-1 ended (killed by SIGKILL)") == 1


def test_workers_stop_before_the_broker(log: Log, broker: CountingBroker) -> None:
    workers = children(log, PATIENT, PATIENT)
    supervisor = Supervisor(lambda: workers, broker=broker, say=log)
    log.react = lambda line: supervisor.stop() if line.endswith("| up") and log.count("| up") == 2 else None
    assert supervisor.run() == 0
    assert log.lines[:2] == ["broker starts", "broker serves"]
    assert sorted(log.lines[-3:-1]) == ["worker-1 | bye", "worker-2 | bye"]
    assert log.lines[-1] == "broker stopped in order"
    assert not any(exists(worker.pid) for worker in workers)


def test_a_worker_that_does_not_stop_is_killed_after_the_grace(log: Log) -> None:
    (worker,) = workers = children(log, STUBBORN)
    supervisor = Supervisor(lambda: workers, say=log, grace_s=0.2)
    log.react = lambda line: supervisor.stop() if line.endswith("up") else None
    assert supervisor.run() == 0
    assert "worker-1 has not stopped, so it is killed" in log.lines
    assert not exists(worker.pid)


def test_a_second_stop_kills_at_once(log: Log, broker: CountingBroker) -> None:
    (worker,) = workers = children(log, STUBBORN)
    supervisor = Supervisor(lambda: workers, broker=broker, say=log, grace_s=3600.0)
    log.react = lambda line: supervisor.stop() if line in ("worker-1 | up", "worker-1 | no") else None
    assert supervisor.run() == 0
    assert not exists(worker.pid)
    assert log.lines[-1] == "broker stopped at once"


def test_a_paused_worker_stops_too(log: Log) -> None:
    (worker,) = workers = children(log, PATIENT)
    supervisor = Supervisor(lambda: workers, say=log, grace_s=3600.0)

    def react(line: str) -> None:
        if line.endswith("up"):
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGSTOP)
            supervisor.stop()

    log.react = react
    assert supervisor.run() == 0
    assert log.lines[-1] == "worker-1 | bye"


def test_wrong_settings_stop_everything_and_are_shown(log: Log, broker: CountingBroker) -> None:
    wrong = f"import sys; sys.exit(print('8 partitions, not 12.') or {EX_CONFIG})"
    workers = children(log, wrong, PATIENT)
    assert Supervisor(lambda: workers, broker=broker, say=log).run() == EX_CONFIG
    assert "worker-1 cannot run with its settings, so all is stopped: 8 partitions, not 12." in log.lines
    assert log.lines[-1] == "broker stopped in order"
    assert not exists(workers[1].pid)


@pytest.mark.usefixtures("no_delay")
def test_a_broker_that_dies_is_started_again(log: Log, broker: CountingBroker) -> None:
    supervisor = Supervisor(lambda: children(log, PATIENT), broker=broker, say=log)

    def react(line: str) -> None:
        if line.endswith("| up"):
            broker.errors = [BrokerError("Port 9092 is taken")]
            broker.running = False
        elif line == "broker serves" and log.count("broker serves") == 2:
            supervisor.stop()

    log.react = react
    assert supervisor.run() == 0
    assert log.count("broker ended; it is started again in") == 1
    assert log.count("Port 9092 is taken; it is started again in") == 1
    assert log.count("worker-1 | up") == 1


def test_a_broker_that_never_starts_is_an_error_and_no_worker_starts(log: Log, broker: CountingBroker) -> None:
    broker.errors = [BrokerError("no Java")]
    (worker,) = workers = children(log, PATIENT)
    with pytest.raises(BrokerError, match="no Java"):
        Supervisor(lambda: workers, broker=broker, say=log).run()
    assert worker.pid is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_of_the_broker_ends_it(log: Log, broker: CountingBroker, number: int) -> None:
    broker.during_start = lambda: signal.raise_signal(number)
    (worker,) = workers = children(log, PATIENT)
    assert Supervisor(lambda: workers, broker=broker, say=log).run() == 0
    assert log.lines == ["broker starts", "stopping", "broker stopped in order"]
    assert worker.pid is None


def test_a_signal_while_workers_are_made_ends_it(log: Log) -> None:
    def workers() -> list[Child]:
        signal.raise_signal(signal.SIGTERM)
        return children(log, PATIENT)

    assert Supervisor(workers, say=log).run() == 0
    assert log.lines == ["stopping"]


def test_an_error_while_workers_are_made_stops_the_broker(log: Log, broker: CountingBroker) -> None:
    def workers() -> list[Child]:
        raise SlotError("Port 6066 is taken.")

    with pytest.raises(SlotError):
        Supervisor(workers, broker=broker, say=log).run()
    assert log.lines[-1] == "broker stopped in order"


def test_a_second_signal_during_the_stop_of_the_broker_ends_it_at_once(log: Log, broker: CountingBroker) -> None:
    broker.during_start = broker.during_stop = lambda: signal.raise_signal(signal.SIGINT)
    assert Supervisor(list, broker=broker, say=log).run() == 0
    assert log.lines[-1] == "broker stopped at once"


def test_signal_handlers_are_given_back(log: Log, broker: CountingBroker) -> None:
    former = signal.getsignal(signal.SIGINT)
    broker.during_start = lambda: signal.raise_signal(signal.SIGINT)
    Supervisor(list, broker=broker, say=log).run()
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.usefixtures("no_delay")
def test_long_lines_come_in_pieces_and_broken_text_comes_through(log: Log) -> None:
    script = f"import sys; sys.stdout.buffer.write(b'x' * {LINE_MAX_BYTES + 5} + b'\\n\\xff\\nno newline')"
    supervisor = Supervisor(lambda: children(log, script), say=log)
    log.react = lambda line: supervisor.stop() if line.endswith("no newline") else None
    supervisor.run()
    pieces = [line.removeprefix("worker-1 | ") for line in log.lines[:4]]
    assert [len(piece) for piece in pieces[:2]] == [LINE_MAX_BYTES, 5]
    assert pieces[2:] == ["\N{REPLACEMENT CHARACTER}", "no newline"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_workers_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    fifo = tmp_path / "alive"
    os.mkfifo(fifo)
    worker = f"import signal; file = open({str(fifo)!r}, 'w'); file.write('up'); file.flush(); signal.pause()"
    script = f"""
import sys
from pipeline.child import Child
from pipeline.slots import SlotError
from pipeline.supervisor import Supervisor
Supervisor(lambda: [Child("worker-1", [sys.executable, "-c", {worker!r}], {{}}, print)], say=print).run()
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL)
    with supervisor, fifo.open() as alive:
        assert alive.read(2) == "up"
        supervisor.kill()
        assert alive.read() == ""  # the end: nobody has it open for writing any more
