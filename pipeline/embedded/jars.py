"""The jars of Apache Kafka: fetched once from Maven Central into the machine's Maven repository, checked every time.

The lock file names every jar with its SHA-256. Nothing else is ever put on the class path, and nothing that does not
match: a broker that runs somebody else's code would have every lead in its hands.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded.errors import BrokerError

__all__ = ["LOCK_FILE", "Jar", "fetch_jars", "read_lock", "repository"]

log = logging.getLogger(__name__)

LOCK_FILE = Path(__file__).with_name("kafka-jars.lock")

# Per connection and per read, in seconds.
_NETWORK_TIMEOUT_S = 30


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    sha256: str
    group: str
    artifact: str
    version: str

    @property
    def name(self) -> str:
        """`group:artifact:version`."""
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def path(self) -> Path:
        """Where it is inside a Maven repository."""
        folder = Path(*self.group.split("."), self.artifact, self.version)
        return folder / f"{self.artifact}-{self.version}.jar"


def read_lock(lock_file: Path = LOCK_FILE) -> list[Jar]:
    """The jars that the lock file names, in its order."""
    lines = [line.split() for line in lock_file.read_text().splitlines() if line.strip()]
    return [Jar(sha256, *coordinate.split(":")) for sha256, coordinate in lines]


def repository() -> Path:
    """The machine's Maven repository: M2_REPO, else ~/.m2/repository."""
    return Path(os.environ.get("M2_REPO") or Path.home() / ".m2" / "repository")


def fetch_jars(lock_file: Path = LOCK_FILE, repo: Path | None = None) -> list[Path]:
    """The jars of a lock file, by default the class path of the broker: each is present and checked (0.2 s then).

    Processes that start at the same time with nothing fetched yet wait for one another.

    Raises:
        BrokerError: a jar cannot be fetched, or is not the one that the lock file names.
    """
    jars = read_lock(lock_file)
    repo = (repository() if repo is None else repo).absolute()  # the broker runs in its data directory
    if any(not (repo / jar.path).exists() for jar in jars):
        _fetch_missing(jars, repo, lock_file)
    for jar in jars:
        _verify(jar, repo / jar.path, lock_file)
    return [repo / jar.path for jar in jars]


def _fetch_missing(jars: Sequence[Jar], repo: Path, lock_file: Path) -> None:
    with _exclusive(repo):
        missing = [jar for jar in jars if not (repo / jar.path).exists()]
        if missing:
            log.info("Fetching %d jars of Apache Kafka into %s, once for this machine", len(missing), repo)
        # jgo writes a jar in place, so that a process killed half-way would leave half a jar behind for ever.
        # It is let loose on a folder of its own; only what matches the lock file is moved, in one step.
        staging = repo / ".leads-fetching"
        shutil.rmtree(staging, ignore_errors=True)
        try:
            for jar in missing:
                _verify(jar, _download(jar, staging), lock_file)
                (repo / jar.path).parent.mkdir(parents=True, exist_ok=True)
                (staging / jar.path).replace(repo / jar.path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _download(jar: Jar, staging: Path) -> Path:
    # Here and not above: it takes 0.3 s, and is needed once per machine.
    import requests
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=staging, timeout=_NETWORK_TIMEOUT_S)
    try:
        context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (requests.RequestException, RuntimeError, OSError) as error:
        raise BrokerError(
            f"Cannot fetch {jar.name} from Maven Central: {error}. The first start on a machine needs the network; "
            "start again, what has been fetched is kept."
        ) from error
    return staging / jar.path


def _verify(jar: Jar, path: Path, lock_file: Path) -> None:
    found = _sha256(path)
    if found != jar.sha256:
        raise BrokerError(
            f"{jar.name} is not the jar that {lock_file.name} names: {path} has SHA-256 {found}, expected "
            f"{jar.sha256}. Nothing was started. Find out where that file comes from, delete it and start again."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _exclusive(repo: Path) -> Iterator[None]:
    try:
        repo.mkdir(parents=True, exist_ok=True)
        file = (repo / ".leads-fetching.lock").open("a")
    except OSError as error:
        raise BrokerError(
            f"Cannot write to the Maven repository: {error}; set M2_REPO to a writable folder."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
