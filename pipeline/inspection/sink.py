"""Whether the CRM can be reached and written. Nothing in it is changed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from pipeline.inspection import postgresql_sink, sqlite_sink
from pipeline.inspection.errors import SinkUnusable
from pipeline.inspection.findings import Finding, ok, problem, warning
from pipeline.settings import Settings
from pipeline.sinks import sink_for
from pipeline.sinks.postgresql import PostgreSQLSink

__all__ = ["require_sink", "sink"]


async def sink(settings: Settings) -> Finding:
    """What is to be said of the CRM of `settings`."""
    try:
        found = await require_sink(settings)
    except SinkUnusable as error:
        return problem("sink", error.found, error.advice)
    if settings.crm_url.startswith("memory"):
        return warning("sink", found, "Set LEADS_SINK_URL, or unset it.")
    return ok("sink", found)


async def require_sink(settings: Settings) -> str:
    """What is well with the CRM of `settings`, in words.

    Raises:
        SinkUnusable: workers cannot write it.
    """
    try:
        found = sink_for(settings.crm_url, password=settings.sink_password)
    except ValueError as error:
        raise SinkUnusable(
            f"LEADS_SINK_URL cannot be used: {error}", "Correct it, or unset it.", status=os.EX_CONFIG
        ) from None
    scheme, _, rest = settings.crm_url.partition(":")
    if scheme == "sqlite":
        return await asyncio.to_thread(sqlite_sink.check, Path(rest.removeprefix("///")).absolute())
    if isinstance(found, PostgreSQLSink):
        return await postgresql_sink.check(settings.crm_url, settings.sink_password)
    return f"{scheme}: what is written is gone with the worker"
