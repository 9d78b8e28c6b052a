"""Whether the CRM can be written: an empty batch takes what a write needs, and writes nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pipeline.inspection.findings import Finding, ok, problem, warning
from pipeline.inspection.machine import exists, writable
from pipeline.settings import Settings
from pipeline.sinks import Sink, SinkUnavailable, sink_for

__all__ = ["sink"]

#: Workers hold the lock for a moment with every batch.
PATIENCE_S = 5.0
RETRY_S = 0.1

_ADVICE = {
    "SQLITE_BUSY": "Another program holds its lock: end the transaction, or the program.",
    "SQLITE_FULL": "Make room on the disk.",
    "ENOSPC": "Make room on the disk.",
}


async def sink(settings: Settings) -> Finding:
    """Whether the CRM of `settings` takes a batch. A database file that does not exist is not made."""
    try:
        found = sink_for(settings.crm_url)
    except ValueError as error:
        return problem("sink", f"LEADS_SINK_URL cannot be used: {error}", "Correct it.")
    scheme, _, rest = settings.crm_url.partition(":")
    if scheme == "memory":
        return warning("sink", "memory: what is written is gone with the worker", "Set LEADS_SINK_URL, or unset it.")
    path = Path(rest.removeprefix("///")).absolute() if scheme == "sqlite" else None
    if path is not None and not exists(path):
        return _not_made(path)
    name = f"the database {path}" if path else f"the CRM ({scheme})"
    return await _written(found, name, _usual_advice(path))


def _not_made(path: Path) -> Finding:
    if (why := writable(path.parent)) is not None:
        return problem("sink", f"{path} cannot be made: {why}", _usual_advice(path))
    return ok("sink", f"{path} is not there yet; the first worker makes it")


def _usual_advice(path: Path | None) -> str:
    if path is None:
        return "See that it runs and that LEADS_SINK_URL names it."
    return "See that it is a file that the workers' user may write, its directory too, or set LEADS_SINK_URL."


async def _written(found: Sink, name: str, advice: str) -> Finding:
    try:
        await _write_nothing(found)
    except SinkUnavailable as error:
        return problem("sink", f"{name} cannot be written: {error}", _ADVICE.get(str(error), advice))
    except Exception as error:
        # No record is to blame, as there is none; the text of a driver's error may hold a password.
        kind = getattr(error, "sqlite_errorname", type(error).__name__)
        return problem("sink", f"{name} cannot be used: {kind}", advice)
    return ok("sink", f"{name} can be written")


async def _write_nothing(found: Sink) -> None:
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    try:
        while True:
            try:
                await found.open()
                await found.write([])
                return
            except SinkUnavailable as error:
                if str(error) != "SQLITE_BUSY" or asyncio.get_running_loop().time() > deadline_s:
                    raise
            await asyncio.sleep(RETRY_S)
    finally:
        await found.close()
