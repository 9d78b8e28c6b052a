"""How every client of the broker connects and ends: one place for addresses and credentials."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Coroutine
from typing import Any

from pipeline.settings import Settings

__all__ = ["CannotConnect", "client_options", "closed", "connection_options", "tls_context"]


CLOSE_MAX_S = 2.0


class CannotConnect(RuntimeError):
    """The broker cannot be used; the text is a sentence that says why and what to do, and holds no secret.

    `status` is the exit status of a program that ends with it (sysexits.h): 78 where the settings are wrong and no
    restart mends it, 69 where the broker may come back.
    """

    def __init__(self, text: str, *, status: int = os.EX_UNAVAILABLE) -> None:
        super().__init__(text)
        self.status = status

    @property
    def is_final(self) -> bool:
        """Whether the same settings can never do."""
        return self.status == os.EX_CONFIG


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """With what the brokers' certificates are checked; None without TLS."""
    return ssl.create_default_context(cafile=settings.broker_ca_file) if settings.broker_tls else None


def client_options(settings: Settings) -> dict[str, Any]:
    """What aiokafka's producers, consumers and admin clients need to reach the broker of `settings`."""
    return {"bootstrap_servers": settings.bootstrap, **connection_options(settings)}


def connection_options(settings: Settings) -> dict[str, Any]:
    """What one connection of aiokafka needs besides the address."""
    transport = "SSL" if settings.broker_tls else "PLAINTEXT"
    options: dict[str, Any] = {"security_protocol": transport, "ssl_context": tls_context(settings)}
    if not settings.broker_username:
        return options
    return {
        **options,
        "security_protocol": f"SASL_{transport}",
        "sasl_mechanism": settings.broker_sasl_mechanism,
        "sasl_plain_username": settings.broker_username,
        "sasl_plain_password": settings.broker_password,
    }


async def closed(*ends: Coroutine[Any, Any, None]) -> None:
    """Wait until aiokafka's clients have stopped, `CLOSE_MAX_S` at most, and take no notice of how.

    While a broker is away a fetcher lets out the cancellation of its own tasks, which would be taken for ours; and its
    routine can swallow the cancellation, and would be waited for without an end.
    """
    done, _ = await asyncio.wait([asyncio.ensure_future(end) for end in ends], timeout=CLOSE_MAX_S)
    for one in done:
        if not one.cancelled():
            one.exception()
