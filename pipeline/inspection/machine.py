"""Checks of this machine: Python, Java, the data directory, disk, open files; and of the settings."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.embedded import BrokerError
from pipeline.embedded.java import find_java
from pipeline.inspection.findings import Finding, ok, problem, warning
from pipeline.inspection.tables import age
from pipeline.settings import BadSetting, Settings
from pipeline.spool import SpoolError, look, spool_path

__all__ = [
    "data_directory",
    "disk",
    "exists",
    "files_needed",
    "java",
    "open_files",
    "python",
    "read_settings",
    "spool",
    "writable",
]

PYTHON_MIN = (3, 11)
FREE_MIN_BYTES = 100 * 1024**2
FREE_LOW_BYTES = 1024**3
#: As `pipeline.batches.table` sets it.
FILES_PER_DATABASE = 64
TABLES = 2
#: Connections to brokers and clients, logs, libraries.
FILES_BESIDES = 256


def read_settings(environ: Mapping[str, str]) -> tuple[Settings | None, list[Finding]]:
    """The settings, and what is wrong with them.

    Those that cannot be used are left out, so that the rest can be looked at; None when that does not help.
    """
    left = dict(environ)
    findings: list[Finding] = []
    while True:
        try:
            settings = Settings.from_env(left)
        except BadSetting as error:
            findings.append(problem("settings", str(error), "Correct or unset it; workers do not start with it."))
            named = re.match(r"LEADS_\w+", str(error))
            if named is None or left.pop(named[0], None) is None:
                return None, findings
        else:
            given = sum(name.startswith("LEADS_") for name in left)
            return settings, findings or [ok("settings", f"{given} given, the others are the defaults")]


def python() -> Finding:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < PYTHON_MIN:
        return problem("python", found, "Install Python 3.11 or newer, and run make setup again.")
    return ok("python", found)


def java(settings: Settings) -> Finding:
    """Whether there is a Java for the embedded broker."""
    if not settings.embedded:
        return ok("java", "not needed: LEADS_BROKER_URL names another broker")
    try:
        found = find_java()
    except BrokerError as error:
        return problem("java", "the embedded broker has no Java to run with", str(error))
    return ok("java", f"{found.major} ({found.path})")


def data_directory(settings: Settings) -> Finding:
    """Whether workers can keep their state."""
    path = settings.data_dir.absolute()
    if (why := writable(path)) is not None:
        return problem(
            "data directory", f"{path}: {why}", "Give it to the user that runs the workers, or set LEADS_DATA_DIR."
        )
    return ok("data directory", f"{path} can be written" if exists(path) else f"{path} will be made")


def writable(directory: Path) -> str | None:
    """Why files cannot be made in `directory` (or where it is to be made), or None. Leaves nothing behind."""
    existing = _existing(directory)
    if not existing.is_dir():
        return f"{existing} is not a directory"
    try:
        # Not os.access: that knows nothing of disks that are mounted read-only or are full.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"nothing can be written in {existing} ({error.strerror})"


def disk(settings: Settings) -> Finding:
    """Whether there is room in the data directory."""
    existing = _existing(settings.data_dir.absolute())
    free = shutil.disk_usage(existing).free
    found = f"{_size(free)} free in {existing}"
    advice = "Make room, or set LEADS_DATA_DIR to a larger disk."
    if free < FREE_MIN_BYTES:
        return problem("disk", found, advice)
    return warning("disk", found, advice) if free < FREE_LOW_BYTES else ok("disk", found)


def spool(settings: Settings) -> Finding:
    """Whether leads wait in the spool."""
    path = spool_path(settings.data_dir)
    try:
        found = look(path)
    except SpoolError as error:
        advice = f"Leads may be in it that no topic has: repair it, or stop the workers and move {path}* away together."
        return problem("spool", f"{path} cannot be read: {error}", advice)
    if not found.depth:
        return ok("spool", "empty: no lead waits for the broker")
    text = f"{found.depth:,} {'lead waits' if found.depth == 1 else 'leads wait'} in {path}"
    advice = "They are sent when the broker acknowledges, by any worker with this data directory: let one run."
    return warning("spool", f"{text}, the oldest for {age(found.age_s)}", advice)


def files_needed(settings: Settings) -> int:
    """Files that one worker may have open when it owns every partition."""
    return FILES_PER_DATABASE * TABLES * settings.partitions + FILES_BESIDES


def open_files(settings: Settings) -> Finding:
    """Whether a worker may open as many files as it can need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = files_needed(settings)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        limit = "no limit" if soft == resource.RLIM_INFINITY else f"limit {soft:,}"
        return ok("open files", f"{limit}; a worker needs up to {needed:,}")
    raised = f"Run `ulimit -n {needed}` in the shell that starts the workers"
    if hard != resource.RLIM_INFINITY and hard < needed:
        raised = f"Let root raise the hard limit of {hard:,} to {needed:,} (LimitNOFILE in systemd)"
    return warning("open files", f"limit {soft:,}; a worker with all partitions may need {needed:,}", f"{raised}.")


def _existing(path: Path) -> Path:
    """The path, or the nearest above it that exists."""
    # Also a link that leads nowhere: nothing can be made in its place.
    return next(candidate for candidate in (path, *path.parents) if os.path.lexists(candidate))


def exists(path: Path) -> bool:
    """Whether there is something at `path`, as far as this user may know."""
    return os.path.exists(path)  # noqa: PTH110 - it knows no error but False


def _size(size_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit in ("B", "KiB") else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"
