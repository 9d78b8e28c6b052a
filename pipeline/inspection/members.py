"""Who owns which partition, read from what a consumer group's coordinator knows of its members (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from aiokafka.structs import TopicPartition

__all__ = ["Member", "owners"]


class Member(NamedTuple):
    """A member of a group as DescribeGroups gives it; both byte strings are empty during a rebalance."""

    member_id: str
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes

    @property
    def name(self) -> str:
        """The URL of a worker of ours; of any other consumer its client id and host."""
        return self._url() or f"{self.client_id}@{self.client_host.removeprefix('/')}"

    def partitions(self) -> list[TopicPartition]:
        """What it is to read; nothing when it says so in a way that we do not know."""
        try:
            decoded = ConsumerProtocolMemberAssignment.decode(self.assignment)
        except ValueError:
            return []
        topics = decoded.assignment or ()
        return [TopicPartition(topic, number) for topic, numbers in topics for number in numbers or ()]

    def _url(self) -> str | None:
        # Faust's ClientMetadata. Other consumers put there what they like, or nothing.
        try:
            told = json.loads(ConsumerProtocolMemberMetadata.decode(self.metadata).user_data)
        except (ValueError, TypeError):
            return None
        url = told.get("url") if isinstance(told, dict) else None
        return url if isinstance(url, str) and url else None


def owners(members: Iterable[Member]) -> dict[TopicPartition, str]:
    """The name of the owner of each partition that has one."""
    return {tp: member.name for member in members for tp in member.partitions()}
