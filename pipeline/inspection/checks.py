"""All checks of `leads doctor`, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from pipeline.inspection import machine
from pipeline.inspection.findings import Finding, problem, skipped
from pipeline.settings import Settings

__all__ = ["findings"]


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """What each check finds, as soon as it is found. No check keeps the next from being made."""
    settings, told = machine.read_settings(environ)
    yield from told
    yield machine.python()
    for name, check in _CHECKS.items():
        if settings is None:
            yield skipped(name, "the settings cannot be used")
            continue
        try:
            yield from check(settings)
        except Exception as error:
            # Handed on as what it is; a doctor that dies of what it finds is of no use.
            text = f"the check failed: {type(error).__name__}: {error}"
            yield problem(
                name, text, "This is a fault of leads doctor, or something it does not know; please report it."
            )


def _broker(settings: Settings) -> list[Finding]:
    # Here and not above: it imports Faust, and the lines before it need not wait for that.
    from pipeline.inspection.broker import broker

    return asyncio.run(broker(settings))


def _sink(settings: Settings) -> list[Finding]:
    from pipeline.inspection.sink import sink

    return [asyncio.run(sink(settings))]


_CHECKS: dict[str, Callable[[Settings], list[Finding]]] = {
    "java": lambda settings: [machine.java(settings)],
    "data directory": lambda settings: [machine.data_directory(settings)],
    "disk": lambda settings: [machine.disk(settings)],
    "spool": lambda settings: [machine.spool(settings)],
    "open files": lambda settings: [machine.open_files(settings)],
    "broker": _broker,
    "sink": _sink,
}
