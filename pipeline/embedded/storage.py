"""What is on the disk before the broker starts: its identity, its settings and its formatted storage."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.embedded.config import STORAGE, TEMPORARY
from pipeline.embedded.errors import NO_SPACE, BrokerError, disk_error

__all__ = ["cluster_id", "format_storage", "write_properties"]

_FORMAT_TIMEOUT_S = 60.0


def cluster_id(data_dir: Path) -> str:
    """The id of the cluster whose data is in `data_dir`: made once, at random, and kept there.

    Raises:
        BrokerError: Kafka's storage there belongs to another cluster than the file says.
    """
    file = data_dir / "cluster-id"
    stored = _stored_id(data_dir)
    if not file.exists():
        fresh = stored or "-"
        while fresh.startswith("-"):  # Kafka's tools would take it for an option
            fresh = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(f"{fresh}\n")
        unfinished.replace(file)
    noted = file.read_text().strip()
    if stored not in (None, noted):
        raise BrokerError(
            f"{data_dir / STORAGE} holds records of the cluster {stored}, but {file} says {noted}: one of them was "
            "replaced. Put back the one that is missing, or delete that file to go on with these records.",
            status=os.EX_CONFIG,
        )
    return noted


def _stored_id(data_dir: Path) -> str | None:
    """The id that Kafka's storage was formatted with, if it is there."""
    file = data_dir / STORAGE / "meta.properties"
    found = re.search(r"^cluster\.id=(\S+)", file.read_text(), re.MULTILINE) if file.exists() else None
    return found[1] if found else None


def write_properties(file: Path, settings: Mapping[str, str]) -> None:
    """Write a file of Java properties; the values are plain ASCII."""
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="ascii")


def format_storage(
    java: Sequence[str | Path], data_dir: Path, settings_file: str, extra_args: Sequence[str] = ()
) -> None:
    """Give the broker an empty storage, unless it has one. `java` is the command line up to the class.

    Raises:
        BrokerError: Kafka's tool refuses, or takes more than 60 s; or as `cluster_id`.
    """
    cluster = cluster_id(data_dir)
    # What a killed JVM left in its directory for temporary files, which it wants to find.
    shutil.rmtree(data_dir / TEMPORARY, ignore_errors=True)
    (data_dir / TEMPORARY).mkdir()
    # Kafka writes this file last: a directory that has it was formatted to the end.
    if (data_dir / STORAGE / "meta.properties").exists():
        return
    tool = [*java, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
    command = [*tool, "--cluster-id", cluster, "--config", settings_file, *extra_args]
    try:
        done = subprocess.run(
            command,
            cwd=data_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_FORMAT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BrokerError(
            f"Kafka did not format {data_dir / STORAGE} within {_FORMAT_TIMEOUT_S:g} s; is the disk slow?"
        ) from None
    if NO_SPACE in done.stdout:
        raise disk_error(data_dir, NO_SPACE)
    if done.returncode != 0:
        raise BrokerError(f"Kafka cannot format {data_dir / STORAGE}: {done.stdout.strip()}")
