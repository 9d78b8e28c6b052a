"""The dedupe by Kafka Streams: `Dedupe.java`, compiled for each run of the benchmark, and a JVM that runs it.

Its jars are fetched and checked as the broker's are, and are of the same version. As the other contenders it starts
cold in every run: until the JVM has compiled what is hot, it is slower than it will be.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.embedded.errors import BrokerError
from pipeline.embedded.jars import fetch_jars, read_lock
from pipeline.embedded.java import MAJOR_MIN, find_java
from pipeline.lab.program import LabError

__all__ = ["HEAP_MB", "LOCK_FILE", "SOURCE", "Unavailable", "command", "compile_dedupe", "versions"]

SOURCE = Path(__file__).with_name("Dedupe.java")
#: What it needs beside the jars of the broker.
LOCK_FILE = Path(__file__).with_name("jars.lock")
#: By default a JVM takes up to a quarter of the machine's memory. RocksDB's memory, 50 MB of cache and up to 48 MB of
#: writes for each of 8 partitions by default, comes on top.
HEAP_MB = 512

_COMPILE_MAX_S = 120.0


class Unavailable(Exception):
    """It cannot run here; the text says why."""


def compile_dedupe(directory: Path) -> list[Path]:
    """Compile it into `directory`; returns its class path.

    Raises:
        Unavailable: there is no compiler, or no jars.
        LabError: it does not compile.
    """
    javac = shutil.which("javac")
    if javac is None:
        raise Unavailable("it needs a JDK, and there is no javac on the PATH")
    try:
        jars = [*fetch_jars(), *fetch_jars(LOCK_FILE)]
    except BrokerError as error:
        raise Unavailable(str(error).removesuffix(".")) from None
    _compile(javac, jars, directory)
    return [directory, *jars]


def _compile(javac: str, jars: Sequence[Path], directory: Path) -> None:
    directory.mkdir(parents=True)
    # For the oldest Java that runs the broker: the compiler may be of another one than `find_java` finds.
    options = ["--release", str(MAJOR_MIN), "-cp", ":".join(map(str, jars)), "-d", str(directory)]
    done = subprocess.run(
        [javac, *options, str(SOURCE)], capture_output=True, text=True, timeout=_COMPILE_MAX_S, check=False
    )
    if done.returncode:
        raise LabError(f"{SOURCE.name} does not compile:\n{done.stderr}")


def command(class_path: Sequence[Path], directory: Path, arguments: Sequence[str]) -> list[str]:
    """What runs it.

    Args:
        class_path: as `compile_dedupe` returns it.
        directory: for its state and the libraries that its jars unpack; exists.
        arguments: broker, application id, topic in, topic out.
    """
    flags = [f"-Xmx{HEAP_MB}m", f"-Djava.io.tmpdir={directory}", "-cp", ":".join(map(str, class_path))]
    return [str(find_java().path), *flags, "Dedupe", *arguments, str(directory)]


def versions() -> dict[str, str]:
    """The versions of its jars, by their names."""
    return {jar.artifact: jar.version for jar in read_lock(LOCK_FILE)}
