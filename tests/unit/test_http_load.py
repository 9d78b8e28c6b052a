"""The load of the benchmark: what it sends, how it takes answers apart, and that it counts only what was accepted."""

from __future__ import annotations

import asyncio
import json

import pytest

from pipeline.lab.http_load import Answers, Load, requests
from pipeline.lab.workload import Workload
from pipeline.lead import encode

LEADS = Workload(1, 25)


def receipt(count: int = 1, status: int = 202) -> bytes:
    body = json.dumps([{"status_url": "/leads/x"}] * count, separators=(",", ":")).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def test_each_lead_is_in_one_request() -> None:
    found = []
    for request, count in requests(LEADS, 10):
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /leads HTTP/1.1\r\n")
        assert head.endswith(b"Content-Length: %d" % len(body))
        items = json.loads(body)
        assert len(items) == count
        found += [item["message_id"] for item in items]
    assert found == [LEADS.message_id(number) for number in LEADS.numbers()]


def test_one_lead_is_no_array() -> None:
    request, count = next(requests(LEADS, 1))
    assert (request.partition(b"\r\n\r\n")[2], count) == (encode(LEADS.lead(0)), 1)


@pytest.mark.parametrize("cut", range(1, len(receipt())))
def test_an_answer_in_two_pieces(cut: int) -> None:
    answers = Answers()
    for _ in range(2):
        assert answers.feed(receipt()[:cut]) is None
        assert answers.feed(receipt()[cut:]) == receipt()


def test_an_answer_without_a_length() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        Answers().feed(b"HTTP/1.1 202 Accepted\r\n\r\n")


async def test_only_receipts_count_and_only_after_the_warm_up_they_are_timed() -> None:
    given = list(requests(LEADS, 5))
    load = Load(given, warm_up=2)
    answers = [receipt(5), receipt(5), receipt(4), receipt(5, status=503), receipt(5)]
    for (_, leads), answer in zip(given, answers, strict=True):
        await asyncio.sleep(0)
        load.answered(answer, leads, float("inf"))
    report = await load.done
    assert (report.accepted, report.timed, len(report.flaws)) == (15, 5, 2)


async def test_a_broken_connection_ends_it() -> None:
    load = Load(list(requests(LEADS, 5)), warm_up=0)
    load.failed("a connection was lost")
    assert (await load.done).flaws == ["a connection was lost"]


async def test_what_is_refused_is_sent_again_and_counted() -> None:
    given = list(requests(LEADS, 25))
    load = Load(given, warm_up=0, pause_s=0.1)
    assert load.is_refused(receipt(25, status=503))
    assert not load.is_refused(receipt(25))
    load.answered(receipt(25), 25, 0.0)
    report = await load.done
    assert (report.accepted, report.refused, report.flaws) == (25, 1, [])
    assert not Load(given, warm_up=0).is_refused(receipt(25, status=503))
