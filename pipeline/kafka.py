"""How every client of the broker connects: one place for addresses and credentials."""

from __future__ import annotations

from typing import Any

from pipeline.settings import Settings

__all__ = ["client_options"]


def client_options(settings: Settings) -> dict[str, Any]:
    """What aiokafka's producers, consumers and admin clients need to reach the broker of `settings`."""
    return {"bootstrap_servers": settings.bootstrap}
