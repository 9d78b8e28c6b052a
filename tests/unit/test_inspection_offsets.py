"""Owners, lag, losses and their warnings, and how they are shown."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.structs import TopicPartition
from rich.console import Console

from pipeline import topics
from pipeline.commands import offsets
from pipeline.inspection.members import Member, owners
from pipeline.inspection.offsets import TOPICS
from pipeline.inspection.positions import GroupPosition, PartitionPosition
from pipeline.inspection.tables import age, full


def member(user_data: bytes | None, assigned: list[tuple[str, list[int]]] | None = None) -> Member:
    """A member as a coordinator describes it."""
    metadata = ConsumerProtocolMemberMetadata(0, ["lead-captured"], user_data).encode()
    assignment = ConsumerProtocolMemberAssignment(0, assigned or [], b"").encode()
    return Member("m-1", "console", "/10.0.0.7", metadata, assignment)


def position(*partitions: PartitionPosition, group: str = "leads") -> GroupPosition:
    """Where a group stands in lead-captured."""
    return GroupPosition("lead-captured", group, "Stable", 1, partitions)


def test_the_topics_are_those_of_the_pipeline() -> None:
    assert TOPICS == (topics.CAPTURED, topics.ACCEPTED, topics.DEAD_LETTER)


def test_a_worker_is_called_by_its_url() -> None:
    user_data = json.dumps({"assignment": {}, "url": "http://10.0.0.7:6066"}).encode()
    found = owners([member(user_data, [("lead-captured", [0, 2]), ("lead-accepted", [2])])])
    assert found == dict.fromkeys(
        [TopicPartition("lead-captured", 0), TopicPartition("lead-captured", 2), TopicPartition("lead-accepted", 2)],
        "http://10.0.0.7:6066",
    )


@pytest.mark.parametrize("user_data", [None, b"", b"\xff\xfe", b"[]", b"7", b'{"url": 7}', b'{"url": ""}', b"{}"])
def test_any_other_consumer_is_called_by_client_and_host(user_data: bytes | None) -> None:
    assert member(user_data).name == "console@10.0.0.7"


def test_a_later_version_of_the_metadata_has_more_behind_it() -> None:
    one = member(b'{"url": "http://a:1"}')
    assert one._replace(metadata=one.metadata + b"\x00\x00\x00\x00\x00\x00\x00\x07").name == "http://a:1"


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\x00\x01\xff\xff\xff\xff", b"\x00\x01\x00\x00\x00\x05ab"])
def test_during_a_rebalance_nobody_owns_anything(garbage: bytes) -> None:
    assert owners([Member("m-1", "c", "/h", garbage, garbage)]) == {}
    assert Member("m-1", "c", "/h", garbage, garbage).name == "c@h"


@pytest.mark.parametrize(
    "start, end, committed, lag, lost, is_beyond_end",
    [
        (0, 10, 4, 6, 0, False),
        (0, 10, 10, 0, 0, False),
        (3, 10, None, 7, 0, False),
        (7, 10, 3, 3, 4, False),
        (10, 10, 3, 0, 7, False),
        (0, 10, 25, 0, 0, True),
        (0, 0, 0, 0, 0, False),
        (None, None, 4, None, 0, False),
    ],
)
def test_lag_counts_what_is_there_to_read(
    start: int | None, end: int | None, committed: int | None, lag: int | None, lost: int, is_beyond_end: bool
) -> None:
    one = PartitionPosition(0, start, end, committed)
    assert (one.lag, one.lost, one.is_beyond_end) == (lag, lost, is_beyond_end)


def test_what_is_lost_is_named_with_the_command_that_accepts_it() -> None:
    (text,) = position(PartitionPosition(5, 42, 50, 10)).warnings("leads")
    assert "lead-captured/5: offsets 10 to 41 are lost" in text
    assert text.endswith("`leads skip lead-captured 5 42`.")


def test_the_command_is_for_the_group_that_lost_it() -> None:
    (text,) = position(PartitionPosition(5, 42, 50, 10), group="leads-crm2").warnings("leads")
    assert "`LEADS_APP_ID=leads-crm2 leads skip lead-captured 5 42`" in text


def test_an_offset_of_another_log_and_a_partition_without_leader_are_warned_of() -> None:
    beyond, down = position(PartitionPosition(0, 0, 3, 9), PartitionPosition(1, None, None, 9)).warnings("leads")
    assert "committed 9 and the log ends at 3" in beyond
    assert "lead-captured/1 has no leader" in down


def test_totals_leave_out_what_is_not_known() -> None:
    found = position(PartitionPosition(0, 0, 9, 4, "w", 2.0), PartitionPosition(1, None, None, 1))
    assert (found.lag, found.oldest_pending_age_s) == (5, 2.0)
    assert position(PartitionPosition(0, 0, 9, 9)).oldest_pending_age_s is None


def test_the_names_in_the_json_object_are_stable() -> None:
    found = position(PartitionPosition(0, 0, 9, 4, "http://w:1", 2.00049)).as_json("leads")
    assert found == {
        "topic": "lead-captured",
        "group": "leads",
        "state": "Stable",
        "members": 1,
        "lag": 5,
        "oldest_pending_age_s": 2.0,
        "partitions": [
            {
                "partition": 0,
                "log_start": 0,
                "log_end": 9,
                "committed": 4,
                "lag": 5,
                "oldest_pending_age_s": 2.0,
                "owner": "http://w:1",
                "lost": 0,
            }
        ],
        "warnings": [],
    }


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0.0 s"), (9.96, "10.0 s"), (59.9, "59 s"), (60, "1 min"), (245, "4 min 5 s"),
        (3600, "1 h"), (90061, "1 d 1 h"), (86400 * 400, "400 d"),
    ],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize("columns", [80, 100])
def test_a_table_fits_with_the_url_of_a_worker_on_one_line(columns: int) -> None:
    rows = [PartitionPosition(n, 1_000, 123_456, 99_999, "http://10.20.30.40:6066", 4000) for n in range(8)]
    console = Console(width=columns, force_terminal=False)
    with console.capture() as captured:
        console.print(full([position(*rows)], "leads"))
    lines = captured.get().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    assert sum("http://10.20.30.40:6066" in line and "23,457" in line for line in lines) == 8
    total = next(line for line in lines if line.strip().startswith("all"))
    assert total.split() == ["all", f"{8 * 23_457:,}", "1", "h", "6", "min", "8", "of", "8", "owned"]


@pytest.mark.parametrize("height", [24, 30])
def test_a_window_that_is_too_small_shows_what_waits_most_and_where_the_rest_is(height: int) -> None:
    rows = [PartitionPosition(n, 0, 100_000, 100_000 - n, "http://127.0.0.1:6066", None) for n in range(7)]
    groups = [position(*rows, PartitionPosition(7, 0, 9, 9), group=f"crm{n}") for n in range(3)]
    console = Console(width=80, height=height, force_terminal=False)
    with console.capture() as captured:
        console.print(offsets._fitting(console, groups, "leads"))
    lines = captured.get().splitlines()
    assert 20 <= len(lines) < height
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert sum("7 of 8" in line for line in lines) == 3
    behind = [line.split()[4] for line in lines if "http://127.0.0.1:6066" in line]
    assert behind[:6] == ["6", "6", "6", "5", "5", "5"]
    assert "lines: enlarge the window, or use `leads offsets`." in lines[-1]


def test_warnings_come_before_the_partitions_and_a_large_window_has_all() -> None:
    groups = [position(PartitionPosition(0, 5, 9, 4))]
    for height, shown in ((12, "All of it takes 13 lines"), (5, "All of it"), (40, "0 of 1 owned")):
        console = Console(width=80, height=height, force_terminal=False)
        with console.capture() as captured:
            console.print(offsets._fitting(console, groups, "leads"))
        assert "offsets 4 to 4 are lost" in captured.get()
        assert shown in captured.get()


@pytest.mark.parametrize("name", ["offsets", "status", "dead_letters"])
def test_the_command_does_not_import_faust(name: str) -> None:
    """It takes a second, and these are called often."""
    program = f"import sys, pipeline.commands.{name}; sys.exit('faust' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_ctrl_c_ends_watching_also_when_what_it_raises_is_lost() -> None:
    """As in a finalizer of aiokafka's, in which Python drops what is raised."""
    program = (
        "import os, signal\n"
        "from pipeline.commands import offsets\n"
        "class LeftBehind:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "def asked(settings, only):\n"
        "    LeftBehind()\n"
        "    return []\n"
        "offsets._asked = asked\n"
        "offsets.offsets(['--watch', '--json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.count("positions")) == (0, 1)
    assert "Exception ignored" in done.stderr
