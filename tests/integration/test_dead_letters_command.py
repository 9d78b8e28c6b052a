"""`leads dead-letters` as a process: what was refused is shown, and sent again when it can be written."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from pipeline import topics
from pipeline.dead_letters import ID_CONFLICT, INVALID, REJECTED, dead_letter
from tests.integration.asking import post
from tests.integration.broker_side import delete_records
from tests.integration.crm_side import let_in, refuse
from tests.integration.installation import ROOT, Installation, key, lead, leads, partition
from tests.integration.running import environ, run
from tests.unit.engine import record

pytestmark = pytest.mark.integration

SOURCE = [("source", b"web"), ("reason", b"mine")]


def command(installation: Installation, *args: str, status: int = 0, **settings: str) -> str:
    """What `leads dead-letters` prints."""
    done = run(installation, "dead-letters", *args, **settings)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def objects(installation: Installation, *args: str, status: int = 0, **settings: str) -> list[dict[str, Any]]:
    """The objects that it prints with --json."""
    lines = command(installation, *args, "--json", status=status, **settings).splitlines()
    return [json.loads(one) for one in lines]


def letter(
    of: dict[str, Any],
    offset: int,
    *,
    reason: str = REJECTED,
    group: str = "leads",
    topic: str = topics.ACCEPTED,
    value: bytes | None = None,
) -> Any:
    """A dead letter as a worker appends it: partition, key, value and headers."""
    number = partition(key(of))
    value = json.dumps(of).encode() if value is None else value
    origin = record(offset, value=value, key=key(of), topic=topic, partition=number, headers=SOURCE)
    return number, *dead_letter(origin, group=group, reason=reason, detail="SQLITE_CONSTRAINT")


def append(installation: Installation, *letters: Any) -> None:
    """Append letters to lead-dead-letter."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=installation.bootstrap) as producer:
            for number, name, value, headers in letters:
                await producer.send(topics.DEAD_LETTER, value, name, partition=number, headers=headers)

    asyncio.run(send())


def accepted(installation: Installation) -> list[tuple[int, bytes, bytes, Any]]:
    """What is in lead-accepted."""
    return [(r.partition, r.key, r.value, list(r.headers)) for r in installation.records(topics.ACCEPTED)]


@contextmanager
def running(installation: Installation, *args: str) -> Iterator[subprocess.Popen[str]]:
    """The command, still running."""
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "dead-letters", *args],
        cwd=ROOT, env=environ(installation), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        yield process


def test_what_the_crm_refused_is_written_after_a_replay_once(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    refuse(installation, "bad-%")
    good, bad = leads(20, "good"), leads(30, "bad")
    for one in (*good, *bad, bad[0]):
        post(worker, one)
    post(worker, lead("good-000000", name="another"))
    installation.produce_raw([(key(lead("no-lead")), b"no lead")])
    installation.wait_letters(32)
    installation.assert_once(good)

    found = objects(installation, "list")
    assert [one["reason"] for one in found].count(REJECTED) == 30
    assert {one["message_id"] for one in found if one["reason"] == REJECTED} == {one["message_id"] for one in bad}
    (invalid,) = objects(installation, "list", "--reason", INVALID)
    assert (invalid["message_id"], invalid["origin"]["topic"]) == ("no-lead", topics.CAPTURED)
    table = command(installation, "list", "--reason", INVALID, "--reason", ID_CONFLICT)
    assert len(table.splitlines()) == 4
    assert table.endswith("2 dead letters.\n")
    assert "@example.com" not in command(installation, "list")

    before = accepted(installation)
    dry = command(installation, "replay", "--reason", REJECTED, "--dry-run")
    assert dry.splitlines()[-1] == "30 leads would be sent, none was; 0 letters skipped."
    assert len(dry.splitlines()) == 32
    assert accepted(installation) == before, "a dry run sends nothing"

    # Too early: each is refused again, so that the topic has two letters of each; a replay still sends one lead.
    command(installation, "replay", "--reason", REJECTED)
    installation.wait_letters(62)
    let_in(installation)
    said = command(installation, "replay", "--all", status=1)
    assert said.splitlines() == [
        "30 leads (30 more letters of the same) sent to lead-accepted; 2 letters skipped.",
        "Skipped: 1 id-conflict: the first lead with this id stays.",
        "Skipped: 1 still no lead.",
    ]
    installation.assert_once([*good, *bad])
    for one in bad[:3]:
        asked = run(installation, "status", f"default/{one['message_id']}", "--url", worker.url)
        assert f"default/{one['message_id']} is written" in asked.stdout

    command(installation, "replay", "--reason", REJECTED)
    installation.assert_once([*good, *bad])
    assert len(installation.dead_letters()) == 62, "to replay again is harmless"


def test_what_is_sent_is_the_record_as_it_was(installation: Installation) -> None:
    installation.create_topics()
    one = lead("m-1")
    append(installation, letter(one, 5))
    assert command(installation, "replay", "--id", "m-1") == "1 lead sent to lead-accepted; 0 letters skipped.\n"
    assert accepted(installation) == [(partition(key(one)), key(one), json.dumps(one).encode(), SOURCE)]
    assert installation.records(topics.CAPTURED) == []


def test_a_letter_that_was_appended_again_after_a_crash_is_shown_once(installation: Installation) -> None:
    installation.create_topics()
    append(installation, letter(lead("m-1"), 5), letter(lead("m-1"), 5), letter(lead("m-1"), 6), letter(lead("m-2"), 5))
    assert [(one["message_id"], one["origin"]["offset"]) for one in objects(installation, "list", "--id", "m-1")] == [
        ("m-1", 5), ("m-1", 6),
    ]  # fmt: skip
    said = command(installation, "list")
    assert said.endswith("3 dead letters (1 repeated after a crash, not shown again).\n")
    command(installation, "replay", "--tenant", "default")
    assert sorted(name for _, name, _, _ in accepted(installation)) == [b"default/m-1", b"default/m-2"]


def test_letters_of_another_crm_are_left_alone_unless_they_are_named(installation: Installation) -> None:
    installation.create_topics()
    other, front = lead("other"), lead("front")
    append(
        installation,
        letter(other, 5, group="leads-crm2"),
        letter(front, 5, group="leads-front", topic=topics.CAPTURED, reason="bug"),
    )
    said = command(installation, "replay", "--all")
    assert said.splitlines()[1:] == ["Left alone: 1 letter of other groups (see --group)."]
    assert [name for _, name, _, _ in accepted(installation)] == [key(front)]
    command(installation, "replay", "--reason", REJECTED, LEADS_APP_ID="leads-crm2")
    command(installation, "replay", "--group", "leads-crm2")
    assert [name for _, name, _, _ in accepted(installation)].count(key(other)) == 2
    assert len(objects(installation, "list")) == 2
    assert len(objects(installation, "list", "--group", "leads-front")) == 1


def test_everything_of_a_letter_is_shown_and_cannot_drive_a_terminal(installation: Installation) -> None:
    installation.create_topics()
    hostile = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\x7f\r".encode() + b"\xff"
    append(installation, letter(lead("m-1"), 5), letter(lead("m-2"), 6, value=hostile))
    first, second = objects(installation, "list")
    place = [str(first["letter"][name]) for name in ("partition", "offset")]
    shown = command(installation, "show", *place)
    assert f'"message_id": "{first["message_id"]}"' in shown or "owned" in shown
    assert second["message_id"] not in shown
    for args in (["--id", "m-1"], ["--id", "m-2"], ["--since", "1h"]):
        assert all(line.isprintable() for line in command(installation, "show", *args).split("\n"))
    assert '"email": "m-1@example.com"' in command(installation, "show", "--id", "m-1")
    assert r"\x1b]0;owned" in command(installation, "show", "--id", "m-2")
    (full,) = objects(installation, "show", "--id", "m-2")
    assert full["headers"] == [["source", "web"], ["reason", "mine"]]
    assert full["value"].keys() == {"base64"}
    command(installation, "show", "0", "4711", status=1)
    command(installation, "show", "99", "0", status=1)
    command(installation, "show", "--until", "1h", status=1)
    command(installation, "show", status=2)
    command(installation, "show", "1", status=2)
    command(installation, "replay", status=2)
    command(installation, "replay", "--all", "--reason", "bug", status=2)


def test_before_the_first_worker_and_without_a_broker(installation: Installation) -> None:
    for args in (["list"], ["replay", "--all"]):
        none = run(installation, "dead-letters", *args)
        assert (none.returncode, none.stdout) == (1, "")
        assert none.stderr.startswith("Error: No worker has started yet")
    installation.create_topics()
    assert command(installation, "list") == "0 dead letters.\n"
    assert command(installation, "replay", "--all") == "0 leads sent to lead-accepted; 0 letters skipped.\n"
    installation.broker.kill()
    for args in (["list"], ["replay", "--all"]):
        away = run(installation, "dead-letters", *args)
        assert (away.returncode, away.stdout, len(away.stderr.splitlines())) == (69, "", 1)
        assert "cannot be reached" in away.stderr


def test_what_retention_deleted_is_not_there_and_nobody_waits_for_it(installation: Installation) -> None:
    installation.create_topics()
    letters = [letter(lead("m-1"), offset) for offset in range(5)]
    append(installation, *letters)
    delete_records(installation, topics.DEAD_LETTER, {letters[0][0]: 3})
    assert [one["origin"]["offset"] for one in objects(installation, "list")] == [3, 4]


def many(installation: Installation, count: int) -> None:
    """Letters of `count` leads."""
    installation.create_topics()
    append(installation, *(letter(one, n) for n, one in enumerate(leads(count))))


def test_a_reader_that_goes_away_ends_it_quietly_and_a_full_disk_with_a_sentence(installation: Installation) -> None:
    many(installation, 20_000)
    with running(installation, "list") as listing:
        assert listing.stdout is not None
        assert listing.stderr is not None
        assert listing.stdout.readline().startswith("TIME")
        listing.stdout.close()
        assert listing.wait(timeout=60) == 1
        assert listing.stderr.read() == ""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "dead-letters", "list"],
            cwd=ROOT, env=environ(installation), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 74
    assert done.stderr == "Error: What was found cannot be printed: No space left on device.\n"


def test_ctrl_c_says_how_many_were_acknowledged_and_the_next_run_sends_the_rest(installation: Installation) -> None:
    many(installation, 20_000)
    with running(installation, "replay", "--all", "--json") as replaying:
        assert replaying.stdout is not None
        assert replaying.stderr is not None
        for _ in range(1000):
            replaying.stdout.readline()
        replaying.send_signal(signal.SIGINT)
        # The rows that it has printed meanwhile, so that it does not wait for us.
        rest = replaying.stdout.read()
        said = replaying.stderr.read().splitlines()
        assert replaying.wait(timeout=60) == 130
    stopped, counts, again = said
    sent = len(accepted(installation))
    assert stopped == "Stopped."
    assert counts == f"{sent:,} leads sent to lead-accepted, the rest not confirmed; 0 letters skipped."
    assert 1000 <= len(rest.splitlines()) + 1000 <= sent < 20_000
    assert again.startswith("Run the same command again later")
    command(installation, "replay", "--all")
    assert {name for _, name, _, _ in accepted(installation)} == {key(one) for one in leads(20_000)}


def test_a_broker_that_goes_away_meanwhile(installation: Installation) -> None:
    many(installation, 20_000)
    with running(installation, "replay", "--all", "--patience", "2", "--json") as replaying:
        assert replaying.stdout is not None
        assert replaying.stderr is not None
        replaying.stdout.readline()
        installation.broker.kill()
        replaying.stdout.read()
        counts, again, error = replaying.stderr.read().splitlines()
        assert replaying.wait(timeout=60) == 75
    assert "the rest not confirmed" in counts
    assert again.startswith("Run the same command again later")
    assert error.endswith("has sent or acknowledged nothing for 2 s.")
