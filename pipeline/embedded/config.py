"""What the broker is told: its properties, its logging and the flags of its JVM (pure).

Its files are named relative to its data directory, in which it runs: Java's properties, Kafka's lists and log4j's
patterns each have their own idea of what a space, a comma or a percent sign in a path means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LOG_FILE", "STORAGE", "TEMPORARY", "Extra", "jvm_flags", "log4j2_properties", "server_properties"]


#: Kafka's storage, its own log, and the folder of the JVM for temporary files.
STORAGE = "log"
LOG_FILE = "broker.log"
TEMPORARY = "tmp"

#: Properties that are lists: what is extra is added to them.
_LISTS = ("listeners", "advertised.listeners", "listener.security.protocol.map")


@dataclass(frozen=True)
class Extra:
    """What the tests give a broker besides, such as a listener that asks who is there.

    Attributes:
        properties: added to those of the broker.
        format_args: arguments for the formatting of its storage.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    format_args: Sequence[str] = ()

    def added_to(self, settings: Mapping[str, str]) -> dict[str, str]:
        """The settings of a broker with these."""
        joined = {name: f"{settings[name]},{self.properties[name]}" for name in _LISTS if name in self.properties}
        return {**settings, **self.properties, **joined}


def server_properties(*, node_id: int, port: int, voters: Mapping[int, int]) -> dict[str, str]:
    """The broker's settings. `voters` are the controller ports of all nodes, by node id."""
    replicas = min(3, len(voters))
    in_sync = max(1, replicas - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": str(node_id),
        "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, at in sorted(voters.items())),
        # This machine only: there is neither encryption nor a password.
        "listeners": f"BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{voters[node_id]}",
        "advertised.listeners": f"BROKER://127.0.0.1:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": STORAGE,
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "transaction.state.log.num.partitions": "8",
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
        "share.coordinator.state.topic.num.partitions": "8",
        # A pipeline that was switched off for more than Kafka's 7 days would find its offsets gone, and stop.
        "offsets.retention.minutes": str(365 * 24 * 60),
        # Workers join at once: nobody waits for more of them.
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        # After a SIGKILL the broker is let in again when its former session has ended: 3 s instead of 9.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # The default buffer of 128 MB is most of the memory that an idle broker takes.
        "log.cleaner.dedupe.buffer.size": "2097152",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
    }


def log4j2_properties(*, size_max_bytes: int = 10_000_000) -> dict[str, str]:
    """Logging into one file, with one older file beside it, each at most `size_max_bytes`; nothing to stdout."""
    return {
        "status": "error",
        "appender.file.type": "RollingFile",
        "appender.file.name": "file",
        "appender.file.fileName": LOG_FILE,
        "appender.file.filePattern": f"{LOG_FILE}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d{ISO8601} %p %m (%c{1})%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": str(size_max_bytes),
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": "1",
        "rootLogger.level": "INFO",
        "rootLogger.appenderRef.file.ref": "file",
        # One line per partition and change of its leader, and the whole configuration once per component.
        "logger.states.name": "state.change.logger",
        "logger.states.level": "WARN",
        "logger.config.name": "org.apache.kafka.common.config",
        "logger.config.level": "WARN",
    }


def jvm_flags(data_dir: Path, *, heap_mb: int, full_jit: bool, logging: str) -> list[str]:
    """The flags of the broker's JVM, without the class path."""
    tiers = [] if full_jit else ["-XX:TieredStopAtLevel=1"]
    return [
        "-XX:+UseSerialGC",
        *tiers,
        # By default a heap starts with a 64th of the machine's memory: 60 MiB more on a machine with 24 GiB.
        f"-Xms{min(64, heap_mb)}m",
        f"-Xmx{heap_mb}m",
        # A broker without memory neither serves nor ends; ended, it is seen and started again.
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:+PerfDisableSharedMem",
        # The one absolute path, so that `ps` shows whose broker it is.
        f"-XX:ErrorFile={data_dir / 'jvm-crash.log'}",
        # The native compression libraries unpack themselves there, and stay when the broker is killed.
        f"-Djava.io.tmpdir={TEMPORARY}",
        "-Djava.awt.headless=true",
        f"-Dlog4j2.configurationFile={logging}",
    ]
