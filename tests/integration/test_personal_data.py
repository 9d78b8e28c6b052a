"""No personal data in logs, errors, URLs or dead letters: a flood of marked leads, good, bad and hostile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.installation import Installation, Worker, lead

pytestmark = pytest.mark.integration

NAME, EMAIL, PHONE = "Zyxwvmark Personsdottir", "zyxwvmark@example.com", "+4917099988777"
MARKS = [b"zyxwvmark", b"Zyxwvmark", b"17099988777"]
#: Where leads belong: the CRM, the tables, and what is kept for the broker.
KEPT = ("crm.sqlite3", "spool.sqlite3", "worker-")

#: Not sent: behind it the client closes its side.
CUT = b"<cut>"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


def person(message_id: str, **members: Any) -> dict[str, Any]:
    return {**lead(message_id), "name": NAME, "email": EMAIL, "phone": PHONE, **members}


def part(name: str, value: str, more: str = "") -> str:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'


def requests() -> Iterator[bytes]:
    """Requests to `POST /leads` and elsewhere, with marks wherever a client can put some."""
    good = person("good")
    bodies: list[tuple[str, Any]] = [
        (JSON, good),
        (JSON, [person(f"array-{number}") for number in range(5)] + [{"name": NAME}]),
        (JSON, {**good, "message_id": "extra", EMAIL: NAME, "fields": {PHONE: NAME}}),
        (JSON, {**good, "email": {"address": EMAIL}}),
        (JSON, {**good, "phone": [PHONE]}),
        (JSON, {**good, "tenant": NAME}),
        (JSON, {**good, "captured_at": EMAIL}),
        (JSON, {**good, "name": NAME * 100}),
        (JSON, {**good, "message_id": f"/{EMAIL}"}),
        (JSON, {**good, "fields": NAME}),
        (JSON, {**good, "fields": {EMAIL: "\0"}}),
        (JSON, {"name": NAME, EMAIL: EMAIL, "fields": {EMAIL: PHONE}}),
        (JSON, {**good, "name": NAME + "x" * 70_000}),
        (JSON, f'{{"email": "{EMAIL}", "name": "{NAME}'),
        (JSON, f'{{"email": "{EMAIL}" "{NAME}"}}'),
        (JSON, f'"{EMAIL}"'),
        (JSON, f'[{{"email": "{EMAIL}"}}, "{NAME}"'),
        (JSON, f'{{"email": "{EMAIL}\\ud800"}}'.encode()),
        (JSON, f'{{"email": "{EMAIL}", "name": "'.encode() + b'\xff"}'),
        (f"text/{EMAIL}", good),
        (f"{JSON}; charset={NAME}", good),
        (FORM, f"name={NAME}&email={EMAIL}&phone={PHONE}&message_id=form"),
        (FORM, f"name={NAME}&email={EMAIL}&email={EMAIL}"),
        (FORM, f"name={NAME}&{EMAIL}={PHONE}&tenant={NAME}"),
        (FORM, f"email={EMAIL}&name=%ff{NAME}"),
        (MULTIPART, part("email", EMAIL) + part("name", NAME) + "--b--\r\n"),
        (MULTIPART, part("cv", EMAIL, f'; filename="{NAME}.pdf"') + "--b--\r\n"),
        (MULTIPART, part(EMAIL, EMAIL, f'; filename="{NAME}"') + "--b"),
        (f"multipart/form-data; boundary={NAME}", part("email", EMAIL)),
    ]
    for kind, body in bodies:
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        for path, more in (("/leads", ""), ("/leads", "Accept: application/json\r\n"), ("/forms/contact", "")):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n{more}"
            yield f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data
            # Cut off by a client that goes, and wrongly framed.
            yield f"{head}Content-Length: {len(data) + 9}\r\n\r\n".encode() + data + CUT
            yield f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode() + data
    for head in (
        f"GET /{EMAIL} HTTP/1.1\r\nHost: x",
        f"GET /tables/{EMAIL}/{NAME} HTTP/1.1\r\nHost: 127.0.0.1",
        f"GET /?email={EMAIL} HTTP/1.1\r\nHost: {EMAIL}",
        f"GET /leads/{EMAIL}/{PHONE}?offset={EMAIL} HTTP/1.1\r\nHost: 127.0.0.1",
        f"{EMAIL} / HTTP/1.1\r\nHost: x",
        f"POST /leads HTTP/9.{NAME}\r\nHost: x",
        f"POST /leads HTTP/1.1\r\n{NAME}: {EMAIL}",
        f"POST /leads HTTP/1.1\r\nHost: x\r\nContent-Length: {PHONE}x",
        f"POST /leads HTTP/1.1\r\nHost: x\r\nCookie: {NAME * 1000}",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {EMAIL}",
        f"\0{EMAIL}",
        NAME,
    ):
        yield f"{head}\r\nConnection: close\r\n\r\n".encode()


def ask(worker: Worker, request: bytes) -> bytes:
    """Send bytes and nothing more; returns all that is answered."""
    with socket.create_connection(("127.0.0.1", worker.port), timeout=30) as client:
        client.sendall(request.removesuffix(CUT))
        if request.endswith(CUT):
            client.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while block := client.recv(65536):
                answer += block
        except ConnectionResetError:
            pass
        return answer


def echoes(request: bytes, answer: bytes) -> bool:
    """A form comes back to whoever sent it, to be mended."""
    return b"application/json" not in request.partition(b"\r\n\r\n")[0] and b"<form" in answer


def test_no_personal_data_where_none_belongs(installation: Installation) -> None:
    worker = installation.worker().wait_ready()
    statuses = set()
    for request in requests():
        answer = ask(worker, request)
        statuses.add(answer[9:12])
        assert answer[9:12] != b"500", answer
        if not echoes(request, answer):
            assert not any(mark in answer for mark in MARKS), (request, answer)
    assert {b"202", b"400", b"404", b"413", b"415"} <= statuses
    installation.produce_raw([(b"default/x", json.dumps({"name": NAME, "email": 5}).encode())])
    installation.produce_raw([(EMAIL.encode(), json.dumps(person("other-key")).encode())])
    installation.wait(installation.drained)
    assert installation.rows()
    for letter in installation.dead_letters():
        assert not any(mark.decode() in value for mark in MARKS for value in letter.values()), letter
    for path in ("/readyz", "/healthz", "/tables", "/openapi.json", "/"):
        assert not any(
            mark in ask(worker, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            for mark in MARKS
        )
    assert worker.stop() == 0
    written = [file for file in installation.directory.rglob("*") if file.is_file() and not is_kept(installation, file)]
    assert worker.log in written
    for file in written:
        content = file.read_bytes()
        assert not any(mark in content for mark in MARKS), file


def is_kept(installation: Installation, file: Any) -> bool:
    parts = file.relative_to(installation.directory).parts
    return parts[0] == "broker" or (parts[0] == "var" and parts[1].startswith(KEPT))
