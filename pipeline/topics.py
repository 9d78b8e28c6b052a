"""The topics: what they are called, how they are kept, and that they are there before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from pipeline.batches import Refused, is_passing
from pipeline.kafka import client_options
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = ["ACCEPTED", "CAPTURED", "DEAD_LETTER", "TopicSpec", "changelog", "configs", "ensure", "specs"]


_FORBIDDEN = (ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    retention_s: float
    compacted: bool = False


def changelog(app_id: str, table: str) -> str:
    """The changelog topic of a table, as Faust names it."""
    return f"{app_id}-{table}-changelog"


def specs(settings: Settings) -> list[TopicSpec]:
    """The topics that the workers of this app id read and write."""
    if not settings.agents:
        return [TopicSpec(CAPTURED, settings.retention)]
    topics = [TopicSpec(name, settings.retention) for name in (CAPTURED, ACCEPTED, DEAD_LETTER)]
    if "dedupe" in settings.agents:
        topics.append(TopicSpec(changelog(settings.app_id, "seen"), settings.dedupe_window, compacted=True))
    if "crm_sink" in settings.agents:
        topics.append(TopicSpec(changelog(settings.app_id, "dead-letters"), settings.retention, compacted=True))
    return topics


async def ensure(settings: Settings) -> None:
    """Create the topics that are missing, and refuse those with another number of partitions.

    Raises:
        Refused: a topic has another number of partitions, or the broker does not let us create or use one.
        KafkaError: the broker cannot be reached.
    """
    admin = AIOKafkaAdminClient(**client_options(settings), request_timeout_ms=10_000)
    await admin.start()
    try:
        wanted = specs(settings)
        existing = set(await admin.list_topics())
        await _create(admin, settings, [spec for spec in wanted if spec.name not in existing])
        for described in await admin.describe_topics([spec.name for spec in wanted]):
            _require_allowed(settings, for_code(described["error_code"]), f"use the topic {described['topic']}")
            _check(settings, described["topic"], len(described["partitions"]))
        if settings.agents:
            await _require_group(admin, settings)
    finally:
        await admin.close()


async def _create(admin: AIOKafkaAdminClient, settings: Settings, missing: Sequence[TopicSpec]) -> None:
    if not missing:
        return
    new = [NewTopic(s.name, settings.partitions, settings.replication_factor, topic_configs=configs(settings, s))
           for s in missing]  # fmt: skip
    response = await admin.create_topics(new)
    for name, code, *rest in response.topic_errors:
        error: type[KafkaError] = for_code(code)
        _require_allowed(settings, error, f"create the topic {name}")
        if code and error is not TopicAlreadyExistsError:  # another worker was faster
            why = rest[0] or error.__name__
            raise Refused(
                f"The broker does not create the topic {name}: {why}. "
                f"Its replicas are set by LEADS_REPLICATION ({settings.replication_factor} here)."
            )


async def _require_group(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    try:
        await admin.find_coordinator(settings.app_id)
    except KafkaError as error:
        _require_allowed(settings, type(error), f"use the consumer group {settings.app_id}")
        # The first question of all makes a new broker create its topic for offsets; the consumer waits for that.
        if not is_passing(error):
            raise


def _require_allowed(settings: Settings, error: type[KafkaError], to_do: str) -> None:
    if issubclass(error, _FORBIDDEN):
        who = f"the user {settings.broker_username}" if settings.broker_username else "a client without a user name"
        raise Refused(
            f"The broker does not allow {who} to {to_do}; grant that, or set LEADS_BROKER_USERNAME to another."
        )


def configs(settings: Settings, spec: TopicSpec) -> dict[str, Any]:
    """The settings of Kafka's with which the topic is created."""
    return {
        "cleanup.policy": "compact,delete" if spec.compacted else "delete",
        "retention.ms": str(int(spec.retention_s * 1000)),
        "min.insync.replicas": str(settings.min_insync_replicas),
        # The broker's time: one client an hour ahead would have whole batches rejected, and expire leads early.
        "message.timestamp.type": "LogAppendTime",
    }


def _check(settings: Settings, name: str, partitions: int) -> None:
    if partitions and partitions != settings.partitions:
        raise Refused(
            f"The topic {name} has {partitions} partitions and LEADS_PARTITIONS is {settings.partitions}. With another "
            f"number, keys would move to other partitions and repeats would not be found. Set LEADS_PARTITIONS to "
            f"{partitions}."
        )
