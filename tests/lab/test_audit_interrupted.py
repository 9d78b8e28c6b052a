"""`leads audit` beside what disturbs it: a broker that goes away, Ctrl-C, a load; and what it shows meanwhile."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pipeline import topics
from pipeline.embedded import Broker
from pipeline.letters.originals import BATCH_MAX_LEADS
from pipeline.letters.sending import AGAIN
from tests.integration.installation import PARTITIONS, PATIENCE_S, ROOT, Installation, key, leads
from tests.integration.running import environ, run
from tests.lab.test_audit import audit, skip

pytestmark = pytest.mark.integration

#: So many that nobody reads or sends them between an event and what a test does then.
COUNT = 20_000
SHOW_CURSOR = "\x1b[?25h"
OUTAGES = [pytest.param(Broker.kill, Broker.start, id="killed"), pytest.param(Broker.pause, Broker.resume, id="frozen")]


@contextmanager
def auditing(installation: Installation, *args: str, stderr: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """`leads audit`, still running; it gives up on a broker after 2 s."""
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "audit", "--patience", "2", *args],
        cwd=ROOT, env=environ(installation, TERM="xterm"), stdout=subprocess.PIPE, stderr=stderr, text=True,
    ) as process:  # fmt: skip
        yield process


def ended(process: subprocess.Popen[str]) -> tuple[int, str, list[str]]:
    """Wait for its end; returns its status, what it printed, and the lines of what it said on stderr."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    return process.returncode, out, err.splitlines()


class Terminal:
    """Our side of a terminal."""

    def __init__(self, ours: int) -> None:
        self._ours = ours
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Wait until a program shows `text`."""
        while text not in self.shown:
            assert self._more(), f"it ended without {text!r}: {self.shown}"

    def wait_closed(self) -> None:
        """Wait until no program has the terminal any more, and take what they show meanwhile."""
        while self._more():
            pass

    def _more(self) -> bool:
        try:
            block = os.read(self._ours, 65536)
        except OSError:  # how Linux says that the other side of a terminal is closed
            return False
        self.shown += block.decode(errors="replace")
        return bool(block)


@contextmanager
def on_terminal(installation: Installation) -> Iterator[tuple[subprocess.Popen[str], Terminal]]:
    """`leads audit`, still running, and the terminal that is its stderr."""
    ours, theirs = pty.openpty()
    try:
        with auditing(installation, stderr=theirs) as process:
            os.close(theirs)
            yield process, Terminal(ours)
    finally:
        os.close(ours)


def lost(installation: Installation) -> list[dict[str, Any]]:
    """Leads that dedupe has passed, and that are nowhere else."""
    installation.create_topics()
    installation.produce(found := leads(COUNT))
    skip(installation, topics.CAPTURED, "all")
    return found


def once_sent(installation: Installation, act: Callable[[], None]) -> None:
    """Do it as soon as a mend has sent one lead of its second batch: all of the first are acknowledged then."""
    asyncio.run(_once_sent(installation.bootstrap, BATCH_MAX_LEADS + 1, act))


async def _once_sent(bootstrap: list[str], count: int, act: Callable[[], None]) -> None:
    async with (
        asyncio.timeout(PATIENCE_S),
        AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        consumer.assign([TopicPartition(topics.ACCEPTED, number) for number in range(PARTITIONS)])
        for _ in range(count):
            await consumer.getone()
        act()


def no_answer(installation: Installation, why: str) -> str:
    """What it says when the broker is gone before anything is sent."""
    todo = "See that it runs, or set LEADS_BROKER_URL to where it is."
    return f"Error: The broker at {installation.broker.url} does not answer ({why}). {todo}"


def sent_count(line: str) -> int:
    """How many leads a mend says that it has sent."""
    found = re.fullmatch(r"([\d,]+) records sent to lead-accepted\.", line)
    assert found, line
    return int(found[1].replace(",", ""))


def accepted(installation: Installation) -> set[bytes]:
    """The keys in lead-accepted."""
    return {one.key for one in installation.records(topics.ACCEPTED)}


def assert_the_next_mend_sends_the_rest(installation: Installation, wanted: list[dict[str, Any]]) -> None:
    """After it every lead is in the CRM once."""
    before = accepted(installation)
    assert 0 < len(before) < len(wanted)
    again = audit(installation, "--mend")["mended"]
    # Fewer when a broker that was frozen finds a request of the first mend in its socket only now.
    assert 0 < again["sent"] <= len(wanted) - len(before)
    assert accepted(installation) == {key(one) for one in wanted}
    installation.worker().wait_ready()
    installation.assert_once(wanted)
    found = audit(installation)
    assert found["written"] == found["rows"] == len(wanted)


def test_a_broker_that_is_killed_during_an_audit(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    installation.produce(sent := leads(COUNT))
    with on_terminal(installation) as (process, terminal):
        terminal.wait_for(f"of {topics.CAPTURED} read")
        installation.broker.kill()
        terminal.wait_closed()
        assert process.stdout is not None
        assert process.stdout.read() == ""
        assert process.wait(timeout=PATIENCE_S) == 69
    assert "Traceback" not in terminal.shown
    assert terminal.shown.count("Error: ") == 1
    # The bar gives back the cursor, whatever the end is.
    assert terminal.shown.splitlines()[-1] == SHOW_CURSOR + no_answer(installation, "no connection")
    installation.broker.start()
    installation.assert_once(sent)
    found = audit(installation)
    assert found["written"] == found["rows"] == COUNT
    assert worker.process.poll() is None


def locked(path: Path) -> sqlite3.Connection:
    """What keeps everybody from reading a SQLite database, which nobody has open, until it is closed."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def has_open(process: subprocess.Popen[str], path: Path) -> bool:
    """Whether it has opened the file."""
    return any(file.path == str(path) for file in psutil.Process(process.pid).open_files())


def test_a_broker_that_does_not_answer_a_question_of_an_audit(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    installation.produce(sent := leads(10))
    installation.assert_once(sent)
    assert worker.stop() == 0
    path = installation.directory / "var" / "crm.sqlite3"
    with closing(locked(path)) as lock, auditing(installation) as process:
        # Then it waits for the CRM, with more to ask of the broker.
        installation.wait(lambda: has_open(process, path))
        installation.broker.pause()
        lock.close()
        status, out, said = ended(process)
    assert (status, out) == (69, "")
    assert said == [no_answer(installation, "no answer in time")]
    installation.broker.resume()
    # Frozen for long it is no leader at first.
    installation.wait(installation.drained)
    found = audit(installation)
    assert found["written"] == found["rows"] == len(sent)


@pytest.mark.parametrize("goes,returns", OUTAGES)
def test_a_broker_that_goes_away_during_a_mend(
    installation: Installation, goes: Callable[[Broker], None], returns: Callable[[Broker], None]
) -> None:
    wanted = lost(installation)
    with auditing(installation, "--mend") as mending:
        once_sent(installation, lambda: goes(installation.broker))
        status, out, said = ended(mending)
    assert (status, out) == (75, "")
    counts, again, error = said
    assert again == f"The rest is not confirmed. {AGAIN}"
    assert error == f"Error: The broker at {installation.broker.url} has sent or acknowledged nothing for 2 s."
    returns(installation.broker)
    assert BATCH_MAX_LEADS <= sent_count(counts) <= len(accepted(installation))
    assert_the_next_mend_sends_the_rest(installation, wanted)


def test_ctrl_c_during_a_mend_says_how_many_were_acknowledged(installation: Installation) -> None:
    wanted = lost(installation)
    with auditing(installation, "--mend") as mending:
        once_sent(installation, lambda: mending.send_signal(signal.SIGINT))
        status, out, said = ended(mending)
    assert (status, out) == (130, "")
    stopped, counts, again = said
    assert stopped == "Stopped."
    assert again == f"The rest is not confirmed. {AGAIN}"
    # The broker lives: all that was on the way is acknowledged before the end.
    assert BATCH_MAX_LEADS <= sent_count(counts) == len(installation.records(topics.ACCEPTED))
    assert_the_next_mend_sends_the_rest(installation, wanted)


def test_ctrl_c_while_a_mend_waits_for_a_broker_that_hangs(installation: Installation) -> None:
    def hang_and_stop() -> None:
        installation.broker.pause()
        mending.send_signal(signal.SIGINT)

    wanted = lost(installation)
    # Nobody waits for its patience.
    with auditing(installation, "--mend", "--patience", "3600") as mending:
        once_sent(installation, hang_and_stop)
        status, out, said = ended(mending)
    assert (status, out) == (130, "")
    stopped, counts, again = said
    assert (stopped, again) == ("Stopped.", f"The rest is not confirmed. {AGAIN}")
    installation.broker.resume()
    assert BATCH_MAX_LEADS <= sent_count(counts) <= len(accepted(installation))
    assert_the_next_mend_sends_the_rest(installation, wanted)


def test_a_bar_where_somebody_looks(installation: Installation) -> None:
    installation.worker().wait_ready()
    installation.produce(sent := leads(100))
    installation.assert_once(sent)
    with on_terminal(installation) as (process, terminal):
        terminal.wait_closed()
        assert process.stdout is not None
        out = process.stdout.read()
        assert process.wait(timeout=PATIENCE_S) == 0
    assert f"100 of {topics.CAPTURED} read" in terminal.shown
    assert "records/s" in terminal.shown
    assert "100 rows of the CRM read" in terminal.shown
    assert "rows/s" in terminal.shown
    assert "The books balance." not in terminal.shown
    piped = run(installation, "audit")
    assert (piped.returncode, piped.stderr) == (0, "")
    # The first line says when, and how long it took.
    assert out.splitlines()[1:] == piped.stdout.splitlines()[1:]
    assert all(line.isprintable() for line in (out + piped.stdout).splitlines())
    assert "records/s" not in out + piped.stdout
