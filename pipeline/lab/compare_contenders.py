"""Who is compared, and how a worker process of each is started. Nobody knows of the lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.lab.program import Program
from pipeline.lab.worker import Worker
from pipeline.settings import AT_LEAST_ONCE, EXACTLY_ONCE, variable
from pipeline.slots import SLOT_VARIABLE
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = [
    "AUTO_COMMIT",
    "CONTENDERS",
    "FULL",
    "OURS_AT_LEAST_ONCE",
    "OURS_EXACTLY_ONCE",
    "STOCK",
    "Contender",
    "Place",
]

_STANDBY = {variable("standby_replicas"): "1", variable("static_membership"): "on"}


@dataclass(frozen=True)
class Place:
    """Where a contender runs: the broker as `host:port`, its database, and a directory for its state and logs."""

    bootstrap: str
    crm_url: str
    directory: Path

    @property
    def broker_url(self) -> str:
        """The broker as our settings have it."""
        return f"kafka://{self.bootstrap}"


@dataclass(frozen=True)
class Contender:
    """One of those that are compared.

    Attributes:
        id: of its group, database and directories.
        title: as it is shown.
        settings: what is set for a worker of ours; None: it is none of ours.
        topics: what it reads, in the order of the flow. The first is the one that is filled.
        dead_letters: the topic of what it cannot write, if it has one.
    """

    id: str
    title: str
    settings: Mapping[str, str] | None
    topics: tuple[str, ...]
    dead_letters: str | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is this product."""
        return self.settings is not None

    def start(self, place: Place, slot: int, port: int) -> Program:
        """A worker process, in the place of the former one of this slot."""
        log = place.directory / f"worker-{slot}.log"
        if self.is_ours:
            return Worker("pipeline.app", {**self.environ(place), SLOT_VARIABLE: str(slot)}, log, port=port)
        environ = {
            "LAB_BOOTSTRAP": place.bootstrap,
            "LAB_CRM_URL": place.crm_url,
            "LAB_GROUP": self.id,
            "LAB_TOPIC": self.topics[0],
            "LAB_ACCEPTED": self.topics[-1],
            "LAB_DATA_DIR": str(place.directory / f"state-{slot}"),
            "LAB_CLIENT_ID": f"{self.id}-{slot}",
        }
        if self is STOCK:
            return Worker("pipeline.lab.stock_crm", environ, log, port=port)
        return Program(["pipeline.lab.autocommit"], environ, log)

    def environ(self, place: Place) -> dict[str, str]:
        """The variables of a worker of ours."""
        return {
            "LEADS_BROKER_URL": place.broker_url,
            "LEADS_SINK_URL": place.crm_url,
            "LEADS_REPLICATION": "1",
            "LEADS_DATA_DIR": str(place.directory / "var"),
            "LEADS_CAPTURE_PORT": "off",
            "LEADS_APP_ID": self.id,
            **(self.settings or {}),
        }

    def owner(self, slot: int, port: int) -> str:
        """How the worker of this slot is called by who asks the group's coordinator, see `inspection.members`."""
        return f"{self.id}-{slot}@127.0.0.1" if self is AUTO_COMMIT else f"http://127.0.0.1:{port}"


AUTO_COMMIT = Contender("auto-commit", "auto-commit", None, ("auto-commit-captured",))
STOCK = Contender("stock-faust", "stock Faust", None, ("stock-faust-captured", "stock-faust-accepted"))
OURS_AT_LEAST_ONCE = Contender(
    "at-least-once",
    "checkpoint, at least once",
    {variable("guarantee"): AT_LEAST_ONCE},
    (CAPTURED, ACCEPTED),
    DEAD_LETTER,
)
OURS_EXACTLY_ONCE = Contender(
    "exactly-once",
    "checkpoint, exactly once",
    {variable("guarantee"): EXACTLY_ONCE},
    (CAPTURED, ACCEPTED),
    DEAD_LETTER,
)
FULL = Contender(
    "standby",
    "exactly once, with a standby",
    {variable("guarantee"): EXACTLY_ONCE, **_STANDBY},
    (CAPTURED, ACCEPTED),
    DEAD_LETTER,
)
CONTENDERS = (AUTO_COMMIT, STOCK, OURS_AT_LEAST_ONCE, OURS_EXACTLY_ONCE)
