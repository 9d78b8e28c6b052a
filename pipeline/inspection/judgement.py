"""Whether topics are as they should be, and safe (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.inspection.findings import Finding, ok, problem, warning

__all__ = ["TopicState", "as_they_should_be", "clock", "one_dedupes", "safe", "topic_state"]

REPLICAS_WANTED = 3
IN_SYNC_WANTED = 2
AHEAD_MAX_S = 5.0


@dataclass(frozen=True)
class TopicState:
    """A topic as it is: `replicas` and `in_sync` are those of the partition with the fewest."""

    name: str
    partitions: int
    leaderless: int
    replicas: int
    in_sync: int
    configs: Mapping[str, str]

    @property
    def min_insync(self) -> int:
        """How many replicas must have a record before it is acknowledged."""
        return int(self.configs.get("min.insync.replicas", "1"))


def topic_state(name: str, partitions: Sequence[Mapping[str, Any]], configs: Mapping[str, str]) -> TopicState:
    """The topic, from what the cluster says of its partitions (`leader`, `replicas`, `isr`)."""
    return TopicState(
        name,
        len(partitions),
        sum(one["leader"] < 0 for one in partitions),
        min((len(one["replicas"]) for one in partitions), default=0),
        min((len(one["isr"]) for one in partitions), default=0),
        configs,
    )


def safe(topics: Sequence[TopicState], brokers: int) -> list[Finding]:
    """Whether what was acknowledged survives; one finding when all is well, else one for each topic that is not."""
    findings = [finding for topic in topics for finding in _unsafe(topic, brokers)]
    if findings:
        return findings
    if brokers == 1:
        found = "one broker: what it acknowledged survives killed processes, not a loss of power or of its disk"
    else:
        fewest = min((topic.replicas for topic in topics), default=0)
        in_sync = min((topic.min_insync for topic in topics), default=0)
        found = f"{fewest} replicas or more of each topic, {in_sync} or more must have a record, no unclean election"
    return [ok("safety", found)]


def _unsafe(topic: TopicState, brokers: int) -> list[Finding]:
    found = []
    if topic.leaderless:
        found.append(
            problem("safety", f"{topic.name}: {topic.leaderless} partitions have no leader", "Start the brokers again.")
        )
    elif topic.in_sync < topic.min_insync:
        found.append(
            problem(
                "safety",
                f"{topic.name}: {topic.in_sync} replicas are in sync, {topic.min_insync} must be: nothing is accepted",
                "Start the missing brokers; with fewer replicas than that, lower min.insync.replicas.",
            )
        )
    if topic.configs.get("unclean.leader.election.enable") == "true":
        found.append(
            problem(
                "safety",
                f"{topic.name}: a replica that lacks records may become leader, and acknowledged leads are gone",
                _set(topic.name, "unclean.leader.election.enable", "false"),
            )
        )
    return found if brokers == 1 else found + _too_few(topic)


def _too_few(topic: TopicState) -> list[Finding]:
    more = "Add replicas with kafka-reassign-partitions.sh; new topics get as many as LEADS_REPLICATION says."
    if topic.replicas < 2:
        return [problem("safety", f"{topic.name}: one replica, which is lost together with its broker", more)]
    found = []
    if topic.replicas < REPLICAS_WANTED:
        found.append(warning("safety", f"{topic.name}: {topic.replicas} replicas, {REPLICAS_WANTED} are usual", more))
    if topic.min_insync < IN_SYNC_WANTED:
        found.append(
            warning(
                "safety",
                f"{topic.name}: one replica alone acknowledges (min.insync.replicas is {topic.min_insync})",
                _set(topic.name, "min.insync.replicas", str(IN_SYNC_WANTED)),
            )
        )
    return found


def as_they_should_be(topic: TopicState, wanted: Mapping[str, str], partitions: int) -> list[Finding]:
    """What differs from how a worker makes the topic; empty when nothing that matters does.

    Args:
        wanted: the settings with which a worker creates it.
        partitions: LEADS_PARTITIONS.
    """
    found = []
    if topic.partitions != partitions:
        found.append(
            problem(
                "topics",
                f"{topic.name}: {topic.partitions} partitions, LEADS_PARTITIONS is {partitions}: workers do not start",
                f"Set LEADS_PARTITIONS to {topic.partitions}, unless somebody added partitions: keys have moved then.",
            )
        )
    for name, value in wanted.items():
        judge = _JUDGES.get(name)
        if judge is not None and (finding := judge(topic, topic.configs.get(name, ""), value)) is not None:
            found.append(finding)
    return found


def _cleanup(topic: TopicState, found: str, wanted: str) -> Finding | None:
    if _policies(found) == _policies(wanted):
        return None
    name = "cleanup.policy"
    if "compact" in _policies(found) and "compact" not in _policies(wanted):
        what = "compaction removes leads that were not read yet when their id comes again"
        return problem("topics", f"{topic.name}: {name} is {found}: {what}", _set(topic.name, name, wanted))
    return warning("topics", f"{topic.name}: {name} is {found}, not {wanted}", _set(topic.name, name, wanted))


def _time(topic: TopicState, found: str, wanted: str) -> Finding | None:
    if found == wanted:
        return None
    name = "message.timestamp.type"
    what = "the clock of whoever sends decides what is a repeat"
    return problem("topics", f"{topic.name}: {name} is {found}: {what}", _set(topic.name, name, wanted))


def _retention(topic: TopicState, found: str, wanted: str) -> Finding | None:
    # Longer does no harm; -1 is for ever.
    if int(found or -1) < 0 or int(found) >= int(wanted):
        return None
    kept, due = int(found) / 86_400_000, int(wanted) / 86_400_000
    return warning(
        "topics",
        f"{topic.name}: records are kept {kept:g} days, and the settings say {due:g}: what is older is lost",
        f"{_set(topic.name, 'retention.ms', wanted)} The settings count only when a topic is made.",
    )


#: min.insync.replicas is a matter of `safe`.
_JUDGES = {"cleanup.policy": _cleanup, "message.timestamp.type": _time, "retention.ms": _retention}


def one_dedupes(groups: Sequence[str]) -> list[Finding]:
    """Whether only one app forwards the leads; empty when so.

    Args:
        groups: those that have committed offsets of lead-captured.
    """
    if len(groups) < 2:
        return []
    found = f"{', '.join(groups)} all read lead-captured: each of them forwards every lead, to every CRM"
    advice = "Run one app that dedupes; a second CRM is an app with LEADS_AGENTS=crm_sink."
    return [warning("apps", found, advice)]


def clock(newest_ms: float | None, now_ms: float) -> Finding:
    """Whether the newest record is not of the future.

    Args:
        newest_ms: the broker's time of the newest record; None when there are no records.
        now_ms: the time here.
    """
    if newest_ms is None:
        return ok("clock", "not compared: there are no records with the broker's time yet")
    ahead_s = (newest_ms - now_ms) / 1000
    if ahead_s > AHEAD_MAX_S:
        return problem(
            "clock",
            f"the newest record is {ahead_s:,.0f} s ahead of this machine's clock",
            "Set both clocks by NTP. The broker's decides when a message id may come again; this one when workers "
            "forget old ids on their disk, and how old what is pending looks.",
        )
    return ok("clock", "the newest record is not ahead of this machine's clock")


def _policies(text: str) -> set[str]:
    return {part.strip() for part in text.split(",")}


def _set(topic: str, name: str, value: str) -> str:
    quoted = f"[{value}]" if "," in value else value
    return f"Run kafka-configs.sh --alter --topic {topic} --add-config {name}={quoted} (with --bootstrap-server)."
