"""Where a benchmark runs: a broker, a directory, and the workers of each contender."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import topics
from pipeline.lab.bench.result import OURS, Run
from pipeline.lab.bench.sizes import Sizes
from pipeline.lab.kafka import Kafka
from pipeline.lab.worker import Worker
from pipeline.lab.workload import Workload
from pipeline.settings import Settings

__all__ = ["Installation"]


@dataclass(frozen=True)
class Installation:
    """Where a benchmark runs.

    Attributes:
        kafka: clients of the broker.
        broker_url: `kafka://host:port`.
        directory: for data directories and logs; removed at the end.
        sizes: how much each contender gets to do.
        leads: which leads; how many is up to each benchmark.
        say: takes a line about the progress.
        groups: those whose tables know leads from the start, see `known`.
        disks: data directories, as the names of `ours`, that have the table of such a group.
        loaded: topics of captured leads, and how many they hold.
    """

    kafka: Kafka
    broker_url: str
    directory: Path
    sizes: Sizes
    leads: Workload
    say: Callable[[str], None]
    groups: set[str] = field(default_factory=set)
    disks: dict[str, str] = field(default_factory=dict)
    loaded: dict[str, int] = field(default_factory=dict)

    def ours(
        self,
        name: str,
        agents: str,
        app_id: str,
        *,
        sink_url: str = "",
        guarantee: str = "",
        app: str = "pipeline.app",
        port: int | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Worker:
        """A worker of this product, or of a variant of its `app`, with a data directory of its own: that of the last
        one with its name. `more` are other settings.
        """
        environ = {
            **self._environ(name, agents, app_id),
            "LEADS_SINK_URL": sink_url,
            "LEADS_GUARANTEE": guarantee,
            **(more or {}),
        }
        return Worker(app, environ, self.directory / f"{name}.log", port=port)

    def settings(self, agents: str, app_id: str) -> Settings:
        """The settings of such a worker."""
        return Settings.from_env(self._environ("", agents, app_id))

    def stock(self, name: str, app_id: str, captured: str, *, takes: bool = False, crm: Path | None = None) -> Worker:
        """A worker of stock Faust, with a data directory of its own."""
        state = self.directory / name / "state"
        state.mkdir(parents=True)
        environ = {
            "BENCH_BROKER_URL": self.broker_url,
            "BENCH_DATA_DIR": str(state),
            "BENCH_APP_ID": app_id,
            "BENCH_CAPTURED": captured,
            "BENCH_TAKE": "1" if takes else "0",
            "BENCH_CRM": str(crm or ""),
        }
        return Worker("pipeline.lab.peers.stock", environ, self.directory / f"{name}.log")

    async def captured(self, contender: str, leads: Workload) -> str:
        """A topic with the leads: the same ones for everybody, only fewer for those who take longer.

        Who gets as many as we had last reads the very topic that we read.
        """
        is_ours = contender == OURS or self.loaded.get(topics.CAPTURED) == leads.count
        topic = topics.CAPTURED if is_ours else f"{topics.CAPTURED}-{leads.count}"
        if self.loaded.get(topic) != leads.count:
            self.say(f"loading {leads.count:,} leads into {topic}")
            if contender == OURS:
                await self.nothing_captured()
            else:
                await self.kafka.remove(topic)
                await self.kafka.create(topic)
            await self.kafka.append(topic, leads.records())
            self.loaded[topic] = leads.count
        return topic

    async def nothing_captured(self) -> None:
        """Make `lead-captured` anew; nobody may be using it."""
        await self.emptied("dedupe", topics.CAPTURED)

    async def accepted(self) -> int:
        """How many records there are in `lead-accepted`."""
        return await self.kafka.end(topics.ACCEPTED)

    async def emptied(self, agents: str, *names: str, group: str = "leads") -> None:
        """Make topics of the workers of `group`, which run these agents, anew, without records. Nobody may be using
        them.
        """
        for name in names:
            self.loaded.pop(name, None)
        await self.kafka.remove(*names)
        await topics.ensure(self.settings(agents, group))
        await self.kafka.appear(*names)

    def told(self, benchmark: str, run: Run) -> Run:
        """Say what a run has found, and return it."""
        until = "" if run.complete else ", stopped there"
        self.say(
            f"{benchmark}, {run.contender}: {run.rate:,.0f}/s for {run.seconds:.1f} s{until}, "
            f"{run.peak_rss_mib:.0f} MiB, {run.results:,} of {run.expected:,} results"
        )
        return run

    def _environ(self, name: str, agents: str, app_id: str) -> dict[str, str]:
        return {
            "LEADS_BROKER_URL": self.broker_url,
            "LEADS_REPLICATION": "1",
            "LEADS_DATA_DIR": str(self.directory / name),
            "LEADS_CAPTURE_PORT": "off",
            "LEADS_AGENTS": agents,
            "LEADS_APP_ID": app_id,
        }
