"""The contenders that are not ours: which of them this machine can run, and how each is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.lab.bench.installation import Installation
from pipeline.lab.peers import streams
from pipeline.lab.program import Process, Program

__all__ = ["PLAIN_COPY", "PLAIN_ROWS", "QUIX", "QUIX_BYTES", "QUIX_ROWS", "STREAMS", "Peers", "versions"]

QUIX = "Quix Streams"
QUIX_BYTES = "Quix Streams, leads undecoded"
STREAMS = "Kafka Streams (JVM)"
PLAIN_COPY = "plain aiokafka, no dedupe"
QUIX_ROWS = "Quix Streams and its sink"
PLAIN_ROWS = "plain aiokafka and asyncpg, no dedupe"

_MODULES: Mapping[str, Sequence[str]] = {
    QUIX: ("pipeline.lab.peers.quix_dedupe",),
    QUIX_BYTES: ("pipeline.lab.peers.quix_dedupe",),
    QUIX_ROWS: ("pipeline.lab.peers.quix_rows",),
    PLAIN_COPY: ("pipeline.lab.peers.plain", "copy"),
    PLAIN_ROWS: ("pipeline.lab.peers.plain", "rows"),
}
_NEEDS: Mapping[str, Sequence[str]] = {
    QUIX: ("quixstreams",),
    QUIX_BYTES: ("quixstreams",),
    QUIX_ROWS: ("quixstreams", "psycopg2"),
}
_PACKAGES = ("quixstreams", "confluent-kafka", "psycopg2-binary")


class Peers:
    """Those of `wanted` that can run here.

    Args:
        at: where.
        wanted: their names.

    Attributes:
        names: the ones that can.
        left_out: a sentence for each that cannot.

    Raises:
        LabError: one cannot be built, though what it needs is there.
    """

    def __init__(self, at: Installation, wanted: Sequence[str]) -> None:
        self._at = at
        self._class_path: list[Path] = []
        self.names: list[str] = []
        self.left_out: list[str] = []
        for name in wanted:
            if reason := self._missing(name):
                self.left_out.append(f"{name} is left out: {reason}.")
            else:
                self.names.append(name)

    def _missing(self, name: str) -> str:
        """Why it cannot run here; empty when it can."""
        if name == STREAMS:
            try:
                self._class_path = streams.compile_dedupe(self._at.directory / "kafka-streams")
            except streams.Unavailable as reason:
                return str(reason)
        missing = [package for package in _NEEDS.get(name, ()) if find_spec(package) is None]
        return f"{' and '.join(missing)} cannot be imported, `make setup` installs it" if missing else ""

    def start(
        self, contender: str, name: str, captured: str, *, accepted: str = "", database: str = "", leads: int = 0
    ) -> Process:
        """Start a contender.

        Args:
            contender: one of `names`.
            name: its consumer group, and its directory, which it may find empty or not at all.
            captured, accepted: the topic to read, and the one to write, if it writes one.
            database: the URL of the database to write, if it writes one.
            leads: how many records there are to read, if it is to stop with the last.
        """
        data, log = self._at.directory / name / "state", self._at.directory / f"{name}.log"
        data.mkdir(parents=True)
        broker = self._at.broker_url.removeprefix("kafka://")
        if contender == STREAMS:
            return Process(streams.command(self._class_path, data, [broker, name, captured, accepted]), {}, log)
        environ = {
            "BENCH_BROKER": broker,
            "BENCH_APP_ID": name,
            "BENCH_CAPTURED": captured,
            "BENCH_ACCEPTED": accepted,
            "BENCH_DATA_DIR": str(data),
            "BENCH_DATABASE": database,
            "BENCH_TALLY": str(self.tally(name)),
            "BENCH_LEADS": str(leads),
            "BENCH_BYTES": "1" if contender == QUIX_BYTES else "0",
        }
        return Program(_MODULES[contender], environ, log)

    def tally(self, name: str) -> Path:
        """The file in which the contender that was started as `name` says how many rows it has written."""
        return self._at.directory / name / "tally"


def versions() -> dict[str, str]:
    """The versions of what the contenders are made of, by package; of those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, **streams.versions()}
