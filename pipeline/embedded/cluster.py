"""Three Kafka brokers of our own, for tests with faults: one may die and nothing that was acknowledged is lost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded.broker import Broker
from pipeline.embedded.config import Extra
from pipeline.embedded.errors import BrokerError
from pipeline.embedded.process import free_port
from pipeline.embedded.storage import cluster_id

__all__ = ["Cluster"]


class Cluster:
    """Several brokers with a common quorum. Each of `nodes` can be killed, stopped, paused and started by itself.

    Internal topics have three replicas, two of which must have a record before it is acknowledged.

    Args:
        data_dir: its directory; each node has one of its own in it.
        size: how many nodes: an odd number.
        ports: TCP ports of the nodes; None: free ones are looked for now.
        heap_mb: upper limit of each JVM's heap in MiB.
        full_jit: as for `Broker`.
        extras: what each node needs besides.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        size: int = 3,
        ports: Sequence[int] | None = None,
        heap_mb: int = 256,
        full_jit: bool = False,
        extras: Sequence[Extra] | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        ports = _free_ports(size) if ports is None else ports
        voters = dict(enumerate(_free_ports(size, taken=ports), start=1))
        if len({*ports, *voters.values()}) != 2 * size:
            raise BrokerError(f"A cluster of {size} nodes needs {size} different ports.")
        self.nodes = [
            Broker(
                self.data_dir / f"node-{node}",
                port=port,
                heap_mb=heap_mb,
                full_jit=full_jit,
                node_id=node,
                voters=voters,
                extra=extra,
            )
            for node, port, extra in zip(voters, ports, extras or [Extra()] * size, strict=True)
        ]

    @property
    def url(self) -> str:
        """The addresses of all nodes, such as `kafka://127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094`."""
        return "kafka://" + ",".join(node.url.removeprefix("kafka://") for node in self.nodes)

    @property
    def running(self) -> bool:
        """Whether all nodes live."""
        return all(node.running for node in self.nodes)

    def start(self, *, timeout_s: float = 60.0) -> None:
        """Start all nodes; returns when each of them serves and knows all others.

        Raises:
            BrokerError: as `Broker.start`; then none of them runs.
        """
        if any(node.running for node in self.nodes):
            raise BrokerError("Nodes of this cluster already run; stop it, or start the other nodes by themselves.")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        deadline_s = time.monotonic() + timeout_s
        try:
            for node in self.nodes:
                node.data_dir.mkdir(exist_ok=True)
                (node.data_dir / "cluster-id").write_text(f"{cluster_id(self.data_dir)}\n")
                node.launch()
            for node in self.nodes:
                node.wait_ready(nodes=len(self.nodes), timeout_s=deadline_s - time.monotonic())
        except BaseException:
            self.kill()
            raise

    def stop(self, *, timeout_s: float = 8.0) -> None:
        """Stop all nodes together, by force after `timeout_s`; may be called again."""
        deadline_s = time.monotonic() + timeout_s
        for node in self.nodes:
            node.request_stop()
        for node in self.nodes:
            node.stop(timeout_s=max(0.0, deadline_s - time.monotonic()))

    def kill(self) -> None:
        """End all nodes with SIGKILL; returns when they are gone."""
        for node in self.nodes:
            node.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _free_ports(count: int, taken: Sequence[int] = ()) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found.append(free_port(taken=[*taken, *found]))
    return found
