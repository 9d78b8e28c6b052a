"""A worker process of the lab, seen from outside."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.embedded import free_port
from pipeline.lab.program import Program

__all__ = ["Worker"]

PROBE_TIMEOUT_S = 5.0


class Worker(Program):
    """`faust -A <app> worker`.

    Args:
        app: the module of the app.
        environ, log: as those of `Program`.
        port: of its web server; default: a free one.
    """

    def __init__(self, app: str, environ: Mapping[str, str], log: Path, *, port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__(["faust", "-A", app, "worker", "-l", "info", "-p", str(self.port)], environ, log)

    @property
    def url(self) -> str:
        """Its web server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_ready(self) -> bool:
        """Whether it says that it is ready."""
        answer = self.ask("/readyz")
        return answer is not None and answer.get("status") == "ready"

    def ask(self, path: str) -> dict[str, Any] | None:
        """The JSON that its web server answers to a GET, whatever the status; None while nobody does."""
        # Not urllib: it would send this through the proxy of the environment.
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request("GET", path)
            found: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return found
