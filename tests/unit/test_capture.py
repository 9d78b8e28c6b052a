"""`POST /leads` over a real socket, with a double of our own `Publisher`."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import ClientResponse

from pipeline.lead import ARRAY_MAX_LEADS, LEAD_SIZE_MAX_BYTES, decode
from pipeline.spool import Headers
from pipeline.web.capture import BODY_SIZE_MAX_BYTES, Result
from tests.unit.capture_server import SECRET, Client, Topic, serve

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def topic() -> Topic:
    return Topic()


@pytest.fixture
async def client(topic: Topic) -> AsyncIterator[Client]:
    async for client in serve(topic):
        yield client


async def problem(response: ClientResponse, status: int) -> dict[str, Any]:
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    assert SECRET not in await response.text()
    found: dict[str, Any] = await response.json(content_type=None)
    assert found["status"] == status
    assert found["type"].startswith("urn:problem-type:leads:")
    assert found["title"]
    assert found["detail"]
    return found


def lead(number: int = 1, **members: Any) -> dict[str, Any]:
    return {"message_id": f"m{number}", "email": SECRET} | members


class TestOne:
    async def test_a_receipt(self, client: Client, topic: Topic) -> None:
        response = await client.post("/leads", json=lead(tenant="acme", message_id="é 1?&#%", utm="x"))
        assert response.status == 202
        assert response.content_type == "application/json"
        receipt = await response.json()
        url = receipt.pop("status_url")
        assert receipt == {"message_id": "é 1?&#%", "tenant": "acme", "partition": 3, "offset": 0}
        assert url == "/leads/acme/%C3%A9%201%3F%26%23%25?partition=3&offset=0"
        assert unquote(url).startswith("/leads/acme/é 1?&#%?")
        [(key, value)] = topic.records
        assert key == "acme/é 1?&#%".encode()
        assert decode(value).fields == {"utm": "x"}

    async def test_no_answer_before_the_broker_has_it(self, client: Client, topic: Topic) -> None:
        topic.acknowledge.clear()
        request = asyncio.ensure_future(client.post("/leads", json=lead()))
        await topic.asked.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not request.done()
        topic.acknowledge.set()
        assert (await request).status == 202

    async def test_an_id_is_made(self, client: Client, topic: Topic) -> None:
        receipts = [await (await client.post("/leads", json={"phone": "1"})).json() for _ in range(2)]
        assert [uuid.UUID(receipt["message_id"]).version for receipt in receipts] == [7, 7]
        assert len({key for key, _ in topic.records}) == 2

    @pytest.mark.parametrize("header", ["k-1", '"k-1"'])
    async def test_the_idempotency_key_is_the_id(self, client: Client, header: str) -> None:
        for body in ({"phone": "1"}, {"phone": "1", "message_id": "k-1"}):
            response = await client.post("/leads", json=body, headers={"Idempotency-Key": header})
            assert (await response.json())["message_id"] == "k-1"

    @pytest.mark.parametrize("header", ["other", "", "a/b", "x" * 129, '""'])
    async def test_a_bad_idempotency_key(self, client: Client, topic: Topic, header: str) -> None:
        response = await client.post("/leads", json=lead(), headers={"Idempotency-Key": header})
        assert (await problem(response, 400))["field"] == "message_id"
        assert topic.records == []

    async def test_two_idempotency_keys(self, client: Client) -> None:
        headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
        await problem(await client.post("/leads", json={"phone": "1"}, headers=headers), 400)

    @pytest.mark.parametrize(
        "body,field",
        [
            (b"", None),
            (b"5", None),
            (b'"x"', None),
            (b"{", None),
            (b"\xff", None),
            (b"{}", "email"),
            (json.dumps(lead(email=[SECRET])).encode(), "email"),
            (json.dumps(lead(tenant=SECRET)).encode(), "tenant"),
            (json.dumps(lead(captured_at=SECRET)).encode(), "captured_at"),
            (json.dumps(lead(message_id=f"/{SECRET}")).encode(), "message_id"),
            (json.dumps(lead(name=SECRET + "\0")).encode(), "name"),
            (json.dumps(lead(a=SECRET, fields={"a": SECRET})).encode(), "fields.a"),
        ],
    )
    async def test_what_is_no_lead(
        self, client: Client, topic: Topic, caplog: pytest.LogCaptureFixture, body: bytes, field: str | None
    ) -> None:
        caplog.set_level(logging.DEBUG, "pipeline")
        found = await problem(await client.post("/leads", data=body, headers=JSON), 400)
        assert found.get("field") == field
        assert found["reason"]
        assert SECRET not in caplog.text
        assert topic.records == []

    async def test_not_acknowledged(self, client: Client, topic: Topic) -> None:
        topic.silent = {"*"}
        response = await client.post("/leads", json={"email": SECRET})
        found = await problem(response, 503)
        assert response.headers["Retry-After"] == "5"
        assert "safe" in found["detail"]
        topic.silent.clear()
        again = await client.post("/leads", json={"email": SECRET, "message_id": found["message_id"]})
        assert (await again.json())["message_id"] == found["message_id"]

    async def test_spooled(self, client: Client, topic: Topic) -> None:
        topic.spooled = {"*"}
        response = await client.post("/leads", json={"email": SECRET, "message_id": "a b"})
        assert response.status == 202
        assert await response.json() == {
            "message_id": "a b",
            "tenant": "default",
            "spooled": True,
            "status_url": "/leads/default/a%20b?spooled=true",
        }

    async def test_a_bug_is_not_swallowed(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken:
            async def publish(self, records: Sequence[tuple[bytes, bytes]], headers: Headers = ()) -> list[Result]:
                raise RuntimeError("bug")

        async for client in serve(Broken()):
            assert (await client.post("/leads", json=lead())).status == 500
        assert "RuntimeError: bug" in caplog.text


class TestArray:
    async def post(self, client: Client, items: Any, **options: Any) -> ClientResponse:
        return await client.post("/leads", data=b" \n" + json.dumps(items).encode(), headers=JSON, **options)

    async def test_results_are_in_order(self, client: Client, topic: Topic) -> None:
        topic.silent = {"m4"}
        response = await self.post(client, [lead(1), {"name": SECRET}, lead(3), lead(4), 5, lead(6)])
        assert response.status == 202
        results = (await response.json())["results"]
        assert [result.get("status", 202) for result in results] == [202, 400, 202, 503, 400, 202]
        assert [result.get("message_id") for result in results] == ["m1", None, "m3", "m4", None, "m6"]
        assert [result.get("field") for result in results][1] == "email"
        assert SECRET not in await response.text()
        assert [key for key, _ in topic.records] == [b"default/m1", b"default/m3", b"default/m6"]

    async def test_some_are_spooled(self, client: Client, topic: Topic) -> None:
        topic.spooled, topic.silent = {"m2"}, {"m3"}
        response = await self.post(client, [lead(1), lead(2), lead(3)])
        assert response.status == 202
        results = (await response.json())["results"]
        assert [(one.get("offset"), one.get("spooled"), one.get("status")) for one in results] == [
            (0, None, None),
            (None, True, None),
            (None, None, 503),
        ]

    async def test_all_are_spooled(self, client: Client, topic: Topic) -> None:
        topic.spooled = {"*"}
        assert (await self.post(client, [lead(1), lead(2)])).status == 202

    async def test_one_id_twice_is_published_twice(self, client: Client, topic: Topic) -> None:
        response = await self.post(client, [lead(1), lead(1)])
        assert [result["offset"] for result in (await response.json())["results"]] == [0, 1]

    async def test_as_many_as_allowed(self, client: Client, topic: Topic) -> None:
        assert (await self.post(client, [lead(n) for n in range(ARRAY_MAX_LEADS)])).status == 202
        assert len(topic.records) == ARRAY_MAX_LEADS

    @pytest.mark.parametrize("items", [[], [lead(1)] * (ARRAY_MAX_LEADS + 1)], ids=["none", "too many"])
    async def test_too_few_or_many(self, client: Client, topic: Topic, items: list[Any]) -> None:
        assert "1 to 1000" in (await problem(await self.post(client, items), 400))["reason"]
        assert topic.records == []

    @pytest.mark.parametrize("body", [b"[", b"[1,]", b"[" * 100_000, b'[{"a":"\xff', b"[]]"])
    async def test_malformed(self, client: Client, body: bytes) -> None:
        await problem(await client.post("/leads", data=body, headers=JSON), 400)

    async def test_no_idempotency_key(self, client: Client, topic: Topic) -> None:
        response = await client.post("/leads", json=[lead(1)], headers={"Idempotency-Key": "k"})
        assert "Idempotency-Key" in (await problem(response, 400))["reason"]
        assert topic.records == []

    async def test_nothing_acknowledged(self, client: Client, topic: Topic) -> None:
        topic.silent = {"*"}
        response = await self.post(client, [lead(1), {}, lead(2)])
        found = await problem(response, 503)
        assert response.headers["Retry-After"]
        assert [result["status"] for result in found["results"]] == [503, 400, 503]
        assert [result.get("message_id") for result in found["results"]] == ["m1", None, "m2"]

    async def test_nothing_valid_is_not_published(self, client: Client, topic: Topic) -> None:
        found = await problem(await self.post(client, [{}, 1]), 400)
        assert [result["status"] for result in found["results"]] == [400, 400]
        assert not topic.asked.is_set()

    async def test_an_item_that_is_too_large(self, client: Client) -> None:
        response = await self.post(client, [lead(1), lead(2, other="x" * LEAD_SIZE_MAX_BYTES)])
        assert [result.get("status", 202) for result in (await response.json())["results"]] == [202, 400]


class TestBody:
    async def test_a_lead_that_is_too_large(self, client: Client, topic: Topic) -> None:
        await problem(await client.post("/leads", json=lead(other="x" * LEAD_SIZE_MAX_BYTES)), 413)
        assert topic.records == []

    async def test_an_array_larger_than_a_lead(self, client: Client) -> None:
        items = [lead(n, other="x" * 50_000) for n in range(100)]
        assert (await client.post("/leads", json=items)).status == 202

    async def test_a_stated_length_is_believed(self, client: Client) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"POST /leads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(f"Content-Length: {BODY_SIZE_MAX_BYTES + 1}\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
        writer.close()

    @pytest.mark.parametrize("first", [b"[", b"{"])
    async def test_a_body_without_end_is_not_read_to_its_end(self, client: Client, first: bytes) -> None:
        answered = asyncio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield first
            while not answered.is_set():
                yield b" " * 65536
                await asyncio.sleep(0)

        response = await client.post("/leads", data=endless(), headers=JSON)
        await problem(response, 413)
        answered.set()

    async def test_chunks(self, client: Client) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for byte in json.dumps(lead()).encode():
                yield bytes([byte])

        assert (await client.post("/leads", data=chunks(), headers=JSON)).status == 202

    async def test_a_body_that_does_not_end(self, topic: Topic) -> None:
        async for client in serve(topic, body_timeout_s=0.01):
            answered = asyncio.Event()

            async def stuck(answered: asyncio.Event = answered) -> AsyncIterator[bytes]:
                yield b"{"
                await answered.wait()

            response = await client.post("/leads", data=stuck(), headers=JSON)
            await problem(response, 408)
            answered.set()

    async def test_a_client_that_goes_away_leaves_no_traceback(
        self, client: Client, topic: Topic, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert client.port is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"POST /leads HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 99\r\n\r\n{")
        await writer.drain()
        assert (await client.post("/leads", json=lead())).status == 202  # by now the other one is being read
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        assert (await client.post("/leads", json=lead())).status == 202
        assert "Traceback" not in caplog.text
        assert len(topic.records) == 2

    @pytest.mark.parametrize(
        "content_type",
        [
            "application/json; charset=UTF-8",
            'application/json;charset="utf-8"',
            "application/vnd.crm+json",
            "Application/JSON",
        ],
    )
    async def test_content_types(self, client: Client, content_type: str) -> None:
        response = await client.post("/leads", data=json.dumps(lead()), headers={"Content-Type": content_type})
        assert response.status == 202

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
            {"Content-Type": ""},
            {"Content-Type": "application/json; charset=latin-1"},
            JSON | {"Content-Encoding": "deflate"},
        ],
    )
    async def test_other_content_types(self, client: Client, topic: Topic, headers: dict[str, str]) -> None:
        response = await client.post("/leads", data=json.dumps(lead()).encode(), headers=headers)
        await problem(response, 415)
        assert topic.records == []

    async def test_compressed(self, client: Client) -> None:
        body = gzip.compress(json.dumps(lead()).encode())
        response = await client.post("/leads", data=body, headers=JSON | {"Content-Encoding": "gzip"})
        await problem(response, 415)

    async def test_identity(self, client: Client) -> None:
        response = await client.post("/leads", json=lead(), headers={"Content-Encoding": "identity"})
        assert response.status == 202
