"""A real Apache Kafka with no installation step: one JVM, broker and controller in one, on this machine only.

What a single broker acknowledges is in the operating system's page cache. It survives every killed process, also
`kill -9` of the broker itself. It does not survive a loss of power.

Beside it a real PostgreSQL, for tests and the benchmark only.
"""

from __future__ import annotations

from pipeline.embedded.broker import Broker
from pipeline.embedded.cluster import Cluster
from pipeline.embedded.config import Extra
from pipeline.embedded.errors import BrokerError, PostgresError
from pipeline.embedded.postgres import Postgres
from pipeline.embedded.process import free_port

__all__ = ["Broker", "BrokerError", "Cluster", "Extra", "Postgres", "PostgresError", "free_port"]
