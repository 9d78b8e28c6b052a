"""`leads status` against a real HTTP server that answers as a worker does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result

from pipeline.commands.status import status
from pipeline.embedded import free_port
from pipeline.inspection.answers import BadName, LeadState, in_words, lead_name, status_url
from pipeline.web.problems import problem

BASE = "http://127.0.0.1:6066"


@pytest.mark.parametrize(
    "name, url",
    [
        ("acme/x", f"{BASE}/leads/acme/x"),
        ("x", f"{BASE}/leads/default/x"),
        ("acme/a b?c#d%2F", f"{BASE}/leads/acme/a%20b%3Fc%23d%252F"),
        ("acme/größe", f"{BASE}/leads/acme/gr%C3%B6%C3%9Fe"),
        ("/leads/acme/x%20y?partition=2&offset=0", f"{BASE}/leads/acme/x%20y?partition=2&offset=0"),
        ("http://other:1/leads/acme/x?partition=2&offset=0", "http://other:1/leads/acme/x?partition=2&offset=0"),
    ],
)
def test_the_url_that_is_asked(name: str, url: str) -> None:
    assert status_url(BASE, name) == url
    assert status_url(f"{BASE}/", name) == url


@pytest.mark.parametrize(
    "name, lead",
    [
        ("acme/x", ("acme", "x")),
        ("x", ("default", "x")),
        ("/leads/acme/x%20y?partition=2&offset=0", ("acme", "x y")),
        ("http://other:1/leads/acme/gr%C3%B6%C3%9Fe", ("acme", "größe")),
    ],
)
def test_the_lead_that_is_named(name: str, lead: tuple[str, str]) -> None:
    assert lead_name(name) == lead


@pytest.mark.parametrize("name", ["", "acme/", "/x", "a/b/c", "ac me/x", "x" * 129, "/leads/x", "http://other/x",
                                  "\udcff", "/leads/a/\udcff", "http://[x/leads/a/b", "a/\x1b[2J"])  # fmt: skip
def test_what_names_no_lead(name: str) -> None:
    with pytest.raises(BadName):
        status_url(BASE, name)
    with pytest.raises(BadName):
        lead_name(name)


def state(**members: Any) -> LeadState:
    """A state of acme/x."""
    return msgspec.convert({"tenant": "acme", "message_id": "x", **members}, LeadState)


def test_words() -> None:
    assert in_words(state(state="pending")) == "acme/x is pending: it is safe in Kafka and not in the CRM yet."
    written = state(state="written", record_id="17", written_at="2026-11-24T08:00:01.123456Z", times_received=2)
    assert in_words(written) == (
        "acme/x is written: it is in the CRM as record 17, since 2026-11-24 08:00:01 UTC.\nReceived twice."
    )
    letter = state(state="dead-lettered", reason="invalid", dead_letter={"partition": 3, "offset": 12})
    assert "is dead-lettered (invalid): it is kept" in in_words(letter)
    conflicts = state(state="written", conflicts=1, times_received=5, first_received_at="2026-11-24T09:00:01+01:00")
    assert "Received 5 times, first at 2026-11-24 08:00:01 UTC." in in_words(conflicts)
    assert "Once this id came with other content" in in_words(conflicts)
    edited = in_words(state(state="written", this_record="id-conflict"))
    assert "The record of this receipt is not that lead: it is in the dead letters as id-conflict." in edited
    assert "receipt" not in in_words(state(state="written", this_record="first"))


async def answer(request: web.Request) -> web.Response:
    """What a worker answers, by the message id."""
    tenant, message_id = request.match_info["tenant"], request.match_info["message_id"]
    lead = {"tenant": tenant, "message_id": message_id}
    if request.query.get("offset"):
        return web.json_response({**lead, "state": "pending"})
    answers: dict[str, Any] = {
        "w": web.json_response({**lead, "state": "written", "record_id": "17"}),
        "a b?c": web.json_response({**lead, "state": "pending"}),
        "dead": web.json_response(
            {**lead, "state": "dead-lettered", "reason": "rejected", "dead_letter": {"partition": 3, "offset": 12}}
        ),
        "bad": problem(400, "Bad request", "That is no message id."),
        "away": problem(503, "Try again", "The owner is away.", headers={"Retry-After": "2"}),
        "none": problem(404, "No such lead", "Nothing came under this id."),
        "broken": web.Response(status=500, text="oops"),
        "esc": web.json_response({**lead, "state": "dead-lettered", "reason": "\x1b]0;pwned\x07\x9b"}),
        "esc-none": problem(404, "No\x1b[2J", "\u202e"),
        "esc-away": problem(503, "Try", "again", headers={"Retry-After": "\u009b2"}),
        "odd": web.json_response({"hello": "world"}),
    }
    return answers[message_id]


@pytest.fixture
async def worker() -> AsyncIterator[str]:
    """The URL of a server with that endpoint and no other."""
    app = web.Application()
    app.router.add_get("/leads/{tenant}/{message_id}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def run(*args: str) -> Result:
    """The command, in a thread: it has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, status, args)


@pytest.mark.parametrize(
    "name, exit_code, stdout, stderr",
    [
        ("acme/w", 0, "acme/w is written", ""),
        ("w", 0, "default/w is written", ""),
        ("acme/a b?c", 0, "acme/a b?c is pending", ""),
        ("/leads/acme/w?partition=2&offset=0", 0, "acme/w is pending", ""),
        (
            "acme/dead",
            0,
            "acme/dead is dead-lettered (rejected): it is kept, and not in the CRM. See: leads dead-letters show",
            "",
        ),
        ("acme/none", 1, "", "No such lead: Nothing came under this id."),
        ("acme/bad", 2, "", "Bad request: That is no message id."),
        ("acme/away", 69, "", "Try again: The owner is away. Ask again in 2 s."),
        ("acme/broken", 69, "", "What answers is no worker: status 500"),
        ("acme/odd", 69, "", "What answers is no worker: status 200"),
        ("acme/esc", 0, "dead-lettered (\\u001b]0;pwned\\u0007\\u009b)", ""),
        ("acme/esc-none", 1, "", "No\\u001b[2J: \\u202e"),
        ("acme/esc-away", 69, "", "Ask again in \\u009b2 s."),
        ("acme/x/y", 2, "", "names no lead"),
    ],
)
async def test_answers(worker: str, name: str, exit_code: int, stdout: str, stderr: str) -> None:
    result = await run(name, "--url", worker)
    assert result.exit_code == exit_code, result.output
    assert stdout in result.stdout
    assert stderr in result.stderr
    assert bool(result.stdout) == bool(stdout)


async def test_another_web_server_has_no_such_lead_either_and_is_not_believed(worker: str) -> None:
    result = await run("acme/w", "--url", f"{worker}/elsewhere")
    assert result.exit_code == 69
    assert "What answers is no worker: status 404" in result.stderr


@pytest.mark.parametrize("name, exit_code", [("acme/w", 0), ("acme/none", 1), ("acme/away", 69)])
async def test_json_is_what_the_worker_said(worker: str, name: str, exit_code: int) -> None:
    result = await run(name, "--url", worker, "--json")
    assert result.exit_code == exit_code
    assert {"state", "title"} & json.loads(result.stdout).keys()


async def test_no_worker() -> None:
    port = free_port()
    result = await run("acme/w", "--url", f"127.0.0.1:{port}")
    assert result.exit_code == 69
    assert f"No worker answers at http://127.0.0.1:{port} (" in result.stderr


async def test_no_url() -> None:
    result = await run("acme/w", "--url", "http://host:port")
    assert result.exit_code == 2
    assert "That is no URL" in result.stderr
