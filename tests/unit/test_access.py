"""Who a client is, and who may see what the workers know."""

from __future__ import annotations

import time
from base64 import b64encode
from ipaddress import ip_network
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion10
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from pipeline.web import access
from pipeline.web.access import FORWARDED, Access, peer_headers
from pipeline.web.errors import explained
from pipeline.web.ops import Ops

TOKEN = "0123456789abcdef-secret"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


def request(remote: str, path: str = "/tables", **headers: str) -> web.Request:
    given = {"Host": "127.0.0.1:6066", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return make_mocked_request("GET", path, headers=given).clone(remote=remote)


@pytest.mark.parametrize(
    "remote,forwarded,client",
    [
        ("192.0.2.7", None, "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),  # anybody can write this
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),  # the first was written by the client
        ("10.0.0.1", "203.0.113.9, 10.2.3.4", "203.0.113.9"),  # through two of our proxies
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("::ffff:10.0.0.1", "2001:db9::7", "2001:db9::7"),
        ("2001:db8::1", "::ffff:198.51.100.1", "198.51.100.1"),
    ],
)
def test_the_address_of_a_client(remote: str, forwarded: str | None, client: str) -> None:
    headers = {} if forwarded is None else {"X_Forwarded_For": forwarded}
    assert str(Access(proxies=PROXIES).client(request(remote, **headers))) == client


@pytest.mark.parametrize(
    "remote,headers,may",
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("127.8.9.1", {"Host": "localhost:6066"}, True),
        ("127.0.0.1", {"Host": "[::1]:6066"}, True),
        ("192.0.2.7", {}, False),
        ("10.0.0.1", {"X_Forwarded_For": "127.0.0.1"}, False),
        ("127.0.0.1", {"X_Forwarded_For": "192.0.2.7"}, False),
        ("127.0.0.1", {"Via": "1.1 proxy"}, False),
        ("127.0.0.1", {"X_Forwarded_Proto": "https"}, False),
        ("127.0.0.1", {"Forwarded": "for=127.0.0.1"}, False),
        ("127.0.0.1", {"Host": "evil.example"}, False),  # which resolves to 127.0.0.1: DNS rebinding
        ("127.0.0.1", {"Host": "127.0.0.1.evil.example"}, False),
        ("127.0.0.1", {"Host": "[127.0.0.1"}, False),
        ("127.0.0.1", {"Host": "127.0.0.1:x"}, False),
        ("127.0.0.1", {"Host": ""}, False),
    ],
)
def test_without_a_token_only_this_machine_may(remote: str, headers: dict[str, str], may: bool) -> None:
    assert Access(proxies=PROXIES).may_operate(request(remote, **headers)) is may


def test_a_proxy_on_this_machine_that_says_nothing_of_its_clients() -> None:
    # As nginx asks without any setting.
    asked = make_mocked_request("GET", "/tables", headers={"Host": "127.0.0.1:6066"}, version=HttpVersion10)
    assert not Access().may_operate(asked.clone(remote="127.0.0.1"))
    here = Access(proxies=[ip_network("127.0.0.1")])
    assert not here.may_operate(request("127.0.0.1"))


@pytest.mark.parametrize(
    "remote,own,host,may",
    [
        ("10.1.1.1", "10.1.1.1", "10.1.1.1:6066", True),
        ("10.1.1.1", "10.1.1.1", "intranet.example", False),
        ("10.1.1.2", "10.1.1.1", "10.1.1.1:6066", False),
        ("127.0.0.1", "127.0.0.1", "0.0.0.0:6066", False),
    ],
)
def test_by_its_own_address_a_machine_calls_itself(remote: str, own: str, host: str, may: bool) -> None:
    transport = Mock()
    transport.get_extra_info = {"sockname": (own, 6066)}.get
    asked = make_mocked_request("GET", "/tables", headers={"Host": host}, transport=transport).clone(remote=remote)
    assert Access().may_operate(asked) is may


def basic(password: str) -> str:
    return f"Basic {b64encode(f'anybody:{password}'.encode()).decode()}"


@pytest.mark.parametrize(
    "authorization,may",
    [
        (f"Bearer {TOKEN}", True),
        (f"bearer {TOKEN}", True),
        (basic(TOKEN), True),
        (None, False),
        ("Bearer", False),
        (f"Bearer {TOKEN}x", False),
        (f"Digest {TOKEN}", False),
        (basic("x"), False),
        ("Basic é", False),
    ],
)
@pytest.mark.parametrize("remote", ["127.0.0.1", "192.0.2.7"])
def test_with_a_token_whoever_gives_it_may(remote: str, authorization: str | None, may: bool) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert Access(TOKEN).may_operate(request(remote, **headers)) is may


OWNER = "http://10.0.0.1:6066"


def test_workers_show_each_other_that_they_know_the_token() -> None:
    signed = peer_headers(TOKEN, OWNER)
    assert TOKEN not in str(signed)
    assert Access(TOKEN).may_operate(request("192.0.2.7", **signed, **{FORWARDED: OWNER}))
    assert peer_headers("", OWNER) == {}


def test_what_was_signed_opens_nobody_else_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = peer_headers(TOKEN, OWNER)
    for headers in (signed, {**signed, FORWARDED: "http://10.0.0.2:6066"}, {access.SIGNED: "1:x", FORWARDED: OWNER}):
        assert not Access(TOKEN).may_operate(request("192.0.2.7", **headers))
    assert not Access("another-token-of-16").may_operate(request("192.0.2.7", **signed, **{FORWARDED: OWNER}))
    late_s = time.time() + 61
    monkeypatch.setattr("pipeline.web.access.time.time", lambda: late_s)
    assert not Access(TOKEN).may_operate(request("192.0.2.7", **signed, **{FORWARDED: OWNER}))


async def _answer(_: web.Request) -> web.Response:
    return web.Response(text="seen")


def served(access: Access) -> TestClient[Any, Any]:
    application = web.Application(middlewares=[explained, access.guard])
    ops = Ops({"tables": lambda: "recovering"}, access, lambda: "leads@x")
    paths = ["/", "/tables", "/tables/seen", "/leads/default/m-1"]
    application.add_routes([*(web.get(path, _answer) for path in paths), *ops.routes()])
    return TestClient(TestServer(application))


@pytest.mark.parametrize("path", ["/tables", "/tables/seen", "/leads/default/m-1"])
async def test_what_is_for_operators(path: str) -> None:
    async with served(Access(TOKEN)) as client:
        refused = await client.get(path)
        assert (refused.status, (await refused.json())["title"]) == (401, "Not authorised")
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
        assert TOKEN not in await refused.text()
        assert (await client.get(path, headers=BEARER)).status == 200
    async with served(Access()) as client:
        assert (await client.get(path)).status == 200
        elsewhere = await client.get(path, headers={"X-Forwarded-For": "192.0.2.7"})
        assert (elsewhere.status, (await elsewhere.json())["title"]) == (403, "Only on this machine")


async def test_probes_are_answered_to_everybody_and_details_to_operators() -> None:
    async with served(Access(TOKEN)) as client:
        assert (await client.get("/")).status == 200
        assert await (await client.get("/healthz")).json() == {"status": "alive", "workers_of": "leads@x"}
        answer = await client.get("/readyz")
        assert (answer.status, await answer.json()) == (503, {"status": "not ready"})
        answer = await client.get("/readyz", headers=BEARER)
        assert (await answer.json())["checks"] == {"tables": "recovering"}
