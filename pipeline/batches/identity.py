"""Which log is this? A topic's id, which a topic that was deleted and created again, or of another cluster, has not.

Kafka has it since 2.8 (KIP-516), in its Metadata answer from version 10 on. aiokafka speaks it up to version 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from aiokafka.errors import IncompatibleBrokerVersion, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

__all__ = ["log_ids", "topic_ids"]

_NO_ID = bytes(16)


class _Uuid(AbstractType[bytes]):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(16)


_TAGS = ("tags", TaggedFields)
_NAME = CompactString("utf-8")


class _MetadataResponse(Response):
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", CompactArray(("node_id", Int32), ("host", _NAME), ("port", Int32), ("rack", _NAME), _TAGS)),
        ("cluster_id", _NAME),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _NAME),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        _TAGS,
                    ),
                ),
                ("operations", Int32),
                _TAGS,
            ),
        ),
        ("cluster_operations", Int32),
        _TAGS,
    )


class _MetadataRequestV10(RequestStruct):
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _NAME), _TAGS)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        _TAGS,
    )


class _MetadataRequest(Request[_MetadataRequestV10]):
    API_KEY = 3

    def __init__(self, topics: Iterable[str]) -> None:
        self._topics: list[tuple[bytes, str, dict[int, bytes]]] = [(_NO_ID, topic, {}) for topic in topics]

    def build(self, request_struct_class: type[_MetadataRequestV10]) -> _MetadataRequestV10:
        return request_struct_class(self._topics, False, False, False, {})


async def topic_ids(client: Any, topics: Iterable[str]) -> dict[str, bytes]:
    """The id (16 bytes) of each topic, asked of any broker of `client` (aiokafka's `AIOKafkaClient`).

    Raises:
        KafkaError: there is no such topic, or the broker does not answer.
        NotImplementedError: the broker is older than Kafka 2.8.
    """
    response = await client.send(client.get_random_node(), _MetadataRequest(topics))
    ids = {}
    for code, name, topic_id, *_ in response.topics:
        if code:
            raise for_code(code)(name)
        ids[name] = topic_id
    return ids


async def log_ids(client: Any, topics: Iterable[str]) -> dict[str, bytes]:
    """The id of each topic; for a broker older than 2.8 the id of its cluster.

    Raises:
        KafkaError: there is no such topic, or the broker does not answer.
    """
    asked = list(topics)
    try:
        return await topic_ids(client, asked)
    except (NotImplementedError, IncompatibleBrokerVersion):
        return dict.fromkeys(asked, str(client.cluster.cluster_id).encode())
