"""Whether the broker can be used, and if not, why: aiokafka only says that it could not bootstrap, and logs the reason.

A broker that is spoken to in the wrong way closes the connection without a word, as one that stops does. So what it
would have liked is found out by trying: whether the port speaks TLS, and whether it asks who is there.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.admin import SaslHandShakeRequest
from aiokafka.protocol.metadata import MetadataRequest

from pipeline.kafka import CannotConnect, connection_options
from pipeline.settings import Settings

__all__ = ["connect"]

#: For each answer of a broker.
TIMEOUT_S = 10.0

_Errors = (KafkaError, OSError)


async def connect(settings: Settings) -> str | None:
    """See that a broker of `settings` answers and lets us in; returns the id of its cluster (None: older than 0.10.1).

    Raises:
        CannotConnect: no broker does.
    """
    failures = []
    for address in settings.bootstrap:
        try:
            return await _cluster_id(address, connection_options(settings))
        except _Errors as error:
            failures.append(await _explained(settings, address, error))
    raise next((failure for failure in failures if failure.is_final), failures[0])


async def _cluster_id(address: str, options: dict[str, Any]) -> str | None:
    async with _connection(address, options) as connection:
        return getattr(await connection.send(MetadataRequest([])), "cluster_id", None)


@asynccontextmanager
async def _connection(address: str, options: dict[str, Any]) -> AsyncIterator[AIOKafkaConnection]:
    host, _, port = address.rpartition(":")
    timeout_ms = int(TIMEOUT_S * 1000)
    connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=timeout_ms, **options)
    try:
        yield connection
    finally:
        connection.close()


async def _explained(settings: Settings, address: str, error: Exception) -> CannotConnect:
    password = "LEADS_BROKER_PASSWORD_FILE" if settings.broker_password_file else "LEADS_BROKER_PASSWORD"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _final(
            f"The certificate of the broker at {address} cannot be trusted: {error.verify_message}. Set "
            "LEADS_BROKER_CA_FILE to those that it comes from, or LEADS_BROKER_URL to the name that is in it."
        )
    if isinstance(error, SaslAuthenticationFailed):
        return _final(
            f"The broker at {address} does not accept the user and the password with {settings.broker_sasl_mechanism}; "
            f"check LEADS_BROKER_USERNAME, {password} and LEADS_BROKER_SASL_MECHANISM."
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        offered = ", ".join(await _mechanisms(settings, address)) or "others"
        return _final(
            f"The broker at {address} does not offer {settings.broker_sasl_mechanism} but {offered}; "
            "set LEADS_BROKER_SASL_MECHANISM to one that it offers."
        )
    if isinstance(error, IllegalSaslStateError):
        return _final(
            f"The broker at {address} asks for no user at this port; unset LEADS_BROKER_USERNAME, "
            "or give the port where it does."
        )
    return await _mismatch(settings, address, error) or _unreachable(settings, error)


async def _mismatch(settings: Settings, address: str, error: Exception) -> CannotConnect | None:
    """What the broker expects instead, if it closed the connection because of how we speak."""
    if not isinstance(error, KafkaConnectionError | ConnectionResetError | ssl.SSLError):
        return None
    if await _speaks(address, tls=not settings.broker_tls):
        if settings.broker_tls:
            text = "speaks no TLS at this port; unset LEADS_BROKER_TLS, or give the port where it does"
        else:
            text = "speaks TLS at this port; set LEADS_BROKER_TLS=on"
    elif not settings.broker_username and await _mechanisms(settings, address):
        text = "asks for a user; set LEADS_BROKER_USERNAME, and LEADS_BROKER_PASSWORD or LEADS_BROKER_PASSWORD_FILE"
    else:
        return None
    return _final(f"The broker at {address} {text}.")


async def _speaks(address: str, *, tls: bool) -> bool:
    context = ssl.create_default_context()
    # Nothing is sent but the question for versions, so it does not matter whose certificate it is.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with _connection(address, {"security_protocol": "SSL" if tls else "PLAINTEXT", "ssl_context": context}):
            return True
    except _Errors:
        return False


async def _mechanisms(settings: Settings, address: str) -> list[str]:
    """The ways to prove who we are that the broker offers at this port; empty when it does not ask."""
    try:
        async with _connection(address, connection_options(replace(settings, broker_username=""))) as connection:
            # One that no broker has: it answers with those that it has.
            answer = await connection.send(SaslHandShakeRequest("NONE"))
    except _Errors:
        return []
    return sorted(answer.enabled_mechanisms)


def _unreachable(settings: Settings, error: Exception) -> CannotConnect:
    start = "start it with `leads up` or `leads broker`" if settings.embedded else "start it"
    if isinstance(error, TimeoutError | KafkaConnectionError):
        # Something is there: to start another one would not help.
        start = f"it hangs, or another program has its port: end that, and {start}"
    return CannotConnect(
        f"The broker at {settings.broker_url} cannot be reached ({_reason(error)}); {start}, "
        "or set LEADS_BROKER_URL to where it is."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, KafkaConnectionError):
        return "it closed the connection"
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)  # asyncio puts the address into its own text
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _final(text: str) -> CannotConnect:
    return CannotConnect(text, status=os.EX_CONFIG)
