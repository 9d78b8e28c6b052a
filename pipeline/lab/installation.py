"""What the lab breaks: brokers, a CRM database, worker processes, and proxies on the way between them.

The workers reach brokers and database through proxies only; the lab itself goes past them.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embedded import Broker, Cluster, Extra, Postgres, free_port
from pipeline.lab.proxy import Proxy
from pipeline.lab.worker import Worker
from pipeline.settings import Settings
from pipeline.slots import SLOT_VARIABLE

__all__ = ["POSTGRESQL", "SQLITE", "Installation"]

SQLITE = "sqlite"
POSTGRESQL = "postgresql"

#: What the workers run; the tests plant bugs in it.
APP = "pipeline.app"

#: Three brokers take their time on two processors that others use, too.
START_MAX_S = 240.0

_PROXIED = "PROXIED"


class Installation:
    """A context manager: brokers, database and proxies run inside. Enter it in the main thread.

    Args:
        directory: for everything; exists, and is the caller's to remove.
        nodes: brokers: 1, or 3 with three replicas of which two are in sync.
        database: `SQLITE` or `POSTGRESQL`.
        settings: variables of the workers that are to differ from ours.
    """

    def __init__(self, directory: Path, *, nodes: int = 1, database: str = SQLITE, **settings: str) -> None:
        self.directory = directory
        self.workers: dict[int, Worker] = {}
        self._stack = ExitStack()
        self._ports: dict[int, int] = {}
        inner = [free_port() for _ in range(nodes)]
        #: One for each broker, and one for the database where that is a server.
        self.broker_proxies = [Proxy(port) for port in inner]
        extras = [_listener(port, proxy.port) for port, proxy in zip(inner, self.broker_proxies, strict=True)]
        self.cluster: Broker | Cluster
        if nodes == 1:
            self.cluster = Broker(directory / "broker", port=free_port(taken=inner), extra=extras[0])
            self.nodes = [self.cluster]
        else:
            self.cluster = Cluster(directory / "brokers", size=nodes, extras=extras)
            self.nodes = self.cluster.nodes
        self.postgres: Postgres | None = None
        self.database_proxy: Proxy | None = None
        if database == POSTGRESQL:
            self.postgres = Postgres(directory / "postgres", port=free_port())
            self.database_proxy = Proxy(self.postgres.port)
        self._given = settings

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for proxy in filter(None, [*self.broker_proxies, self.database_proxy]):
                stack.enter_context(proxy)
            if self.postgres is not None:
                stack.callback(self.postgres.kill)
                self.postgres.start()
            stack.callback(self.cluster.kill)
            self.cluster.start(timeout_s=START_MAX_S)
            stack.callback(self._kill_workers)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def settings(self) -> Settings:
        """The settings of the workers, but for the proxies: for clients of the lab."""
        return Settings.from_env(
            {**self._environ(), "LEADS_BROKER_URL": self.cluster.url, "LEADS_SINK_URL": self.crm_url}
        )

    @property
    def data_dir(self) -> Path:
        """The data directory of the workers; the CRM is not in it, so that their disk can be full and the CRM's not."""
        return self.directory / "var"

    @property
    def crm_url(self) -> str:
        """The CRM, past the proxy."""
        return self.postgres.url if self.postgres else f"sqlite:///{self.sqlite}"

    @property
    def sqlite(self) -> Path | None:
        """The file of the CRM, if it is SQLite."""
        return None if self.postgres else self.directory / "crm.sqlite3"

    def port(self, number: int) -> int:
        """Where the worker of this slot serves, whenever it does."""
        if number not in self._ports:
            self._ports[number] = free_port(taken=self._ports.values())
        return self._ports[number]

    def worker(self, number: int) -> Worker:
        """Start the worker of this slot, from 1: where it was before, with the state that it had."""
        port = self.port(number)
        environ = {**self._environ(), SLOT_VARIABLE: str(number)}
        self.workers[number] = worker = Worker(APP, environ, self.directory / f"worker-{number}.log", port=port)
        return worker

    def wipe(self, number: int) -> None:
        """Remove what the worker of this slot, which does not run, keeps on its disk."""
        shutil.rmtree(self.data_dir / f"worker-{number}")

    def _environ(self) -> dict[str, str]:
        return {
            "LEADS_BROKER_URL": "kafka://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.broker_proxies),
            "LEADS_SINK_URL": self._worker_crm_url,
            "LEADS_REPLICATION": str(len(self.nodes)),
            "LEADS_DATA_DIR": str(self.data_dir),
            "LEADS_CAPTURE_PORT": "off",
            **self._given,
        }

    @property
    def _worker_crm_url(self) -> str:
        if self.postgres is None or self.database_proxy is None:
            return self.crm_url
        return self.postgres.url.replace(f":{self.postgres.port}/", f":{self.database_proxy.port}/")

    def _kill_workers(self) -> None:
        for worker in self.workers.values():
            if worker.status is None:
                worker.kill()


def _listener(port: int, advertised: int) -> Extra:
    """A listener whose clients are told to come back through a proxy."""
    return Extra(
        {
            "listeners": f"{_PROXIED}://127.0.0.1:{port}",
            "advertised.listeners": f"{_PROXIED}://127.0.0.1:{advertised}",
            "listener.security.protocol.map": f"{_PROXIED}:PLAINTEXT",
        }
    )
