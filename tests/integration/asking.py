"""What a client asks of a worker over HTTP."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.integration.installation import Worker


def post(worker: Worker, body: Any, **headers: str) -> tuple[int, Any]:
    """POST JSON to /leads; returns status and answer."""
    request = urllib.request.Request(
        f"{worker.url}/leads", json.dumps(body).encode(), {"Content-Type": "application/json", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def get(worker: Worker, path: str, **headers: str) -> tuple[int, Any]:
    """GET JSON; returns status and answer."""
    request = urllib.request.Request(f"{worker.url}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
