"""Every setting of the product: one frozen object, read from `LEADS_*` variables.

`Settings.from_env()` is the only place that reads the environment. A variable that starts with `LEADS_` and is not a
setting is refused, because a misspelt setting that is silently ignored is worse than a worker that does not start.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

__all__ = ["EMBEDDED_BROKER_URL", "BadSetting", "Settings"]

#: Where `leads up` and `leads broker` let the embedded broker listen.
EMBEDDED_BROKER_URL = "kafka://127.0.0.1:9092"

AGENTS = ("dedupe", "crm_sink")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class BadSetting(ValueError):
    """A setting has an unknown name or a value that cannot be used; the text says what to do."""


def duration_s(text: str) -> float:
    """Seconds of `30d`, `12h`, `90m` or `45s`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("give a number with s, m, h or d, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError("give a whole number, 1 or more")
    return int(text)


def _positive_s(text: str) -> float:
    seconds = duration_s(text)
    if seconds <= 0:
        raise ValueError("must be more than 0")
    return seconds


def _seconds(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) <= 0:
        raise ValueError("give a number of seconds, more than 0")
    return float(text)


def _agents(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in AGENTS]
    if unknown or not names:
        raise ValueError(f"choose from {', '.join(AGENTS)}, separated by commas")
    return names


def _app_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise ValueError("use 1 to 100 letters, digits, '.', '_' or '-'")
    return text


def _broker_url(text: str) -> str:
    hosts = text.removeprefix("kafka://")
    if not re.fullmatch(r"[\w.\-\[\]:]+(:\d+)?(,[\w.\-\[\]:]+(:\d+)?)*", hosts):
        raise ValueError("write it as kafka://host:9092 or kafka://host:9092,host2:9092")
    return f"kafka://{hosts}"


def _setting(default: Any, parse: Callable[[str], Any], unit: str, doc: str) -> Any:
    return field(default=default, metadata={"parse": parse, "unit": unit, "doc": doc})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, checked. The variable of a field is `LEADS_` and its name in capitals."""

    broker_url: str = _setting(
        EMBEDDED_BROKER_URL, _broker_url, "URL", "Kafka brokers; when unset, `leads up` starts the embedded broker."
    )
    sink_url: str = _setting(
        "", str, "URL", "The CRM; when unset, `sqlite:///` and `crm.sqlite3` in the data directory."
    )
    data_dir: Path = _setting(Path("var"), Path, "path", "Where workers keep state, relative to where they start.")
    web_port: int = _setting(6066, _port, "port", "HTTP port of the first worker; the next ones count up.")
    web_bind: str = _setting("127.0.0.1", str, "address", "Address that workers listen on.")
    web_url: str = _setting(
        "", str, "URL", "How other workers reach this one; when unset, made of its address and port."
    )
    app_id: str = _setting("leads", _app_id, "name", "Consumer group, and the prefix of the changelog topics.")
    agents: tuple[str, ...] = _setting(AGENTS, _agents, "names", "Agents that the workers of this app id run.")
    partitions: int = _setting(8, _count, "count", "Partitions of every topic; cannot change later.")
    replication: int = _setting(
        0, _count, "count", "Replicas of new topics; when unset, 1 with the embedded broker, else 3."
    )
    retention: float = _setting(
        30 * 86400.0, _positive_s, "duration", "How long the captured, accepted and dead-letter topics keep records."
    )
    dedupe_window: float = _setting(
        30 * 86400.0, _positive_s, "duration", "How long a repeat of a message id counts as a duplicate."
    )
    session_timeout_s: float = _setting(
        10.0, _seconds, "seconds", "After this long without a sign of life a worker loses its partitions."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default: the process environment).

        Raises:
            BadSetting: a name is unknown or a value cannot be used.
        """
        env = os.environ if environ is None else environ
        known = {variable(name): name for name in cls.parsers()}
        given = {name: value for name, value in env.items() if name.startswith("LEADS_") and value != ""}
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else f" The settings are: {', '.join(sorted(known))}."
                raise BadSetting(f"{name} is not a setting.{hint}")
        values = {known[name]: _parsed(name, value, cls.parsers()[known[name]]) for name, value in given.items()}
        return cls(**values)

    @classmethod
    def parsers(cls) -> dict[str, Callable[[str], Any]]:
        """The parser of each field, by name."""
        return {f.name: f.metadata["parse"] for f in fields(cls)}

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded one at its usual address."""
        return self.broker_url == EMBEDDED_BROKER_URL

    @property
    def bootstrap(self) -> list[str]:
        """The brokers as `host:port`."""
        hosts = self.broker_url.removeprefix("kafka://").split(",")
        return [host if re.search(r":\d+$", host) else f"{host}:9092" for host in hosts]

    @property
    def web_host(self) -> str:
        """Where a worker of this machine can be reached from here, as it is written in a URL."""
        if self.web_bind in ("", "0.0.0.0", "::"):
            return "127.0.0.1"
        return f"[{self.web_bind}]" if ":" in self.web_bind else self.web_bind

    @property
    def replication_factor(self) -> int:
        """Replicas of a new topic."""
        return self.replication or (1 if self.embedded else 3)

    @property
    def min_insync_replicas(self) -> int:
        """Replicas that must have a record before it is acknowledged."""
        return max(1, self.replication_factor - 1)

    @property
    def crm_url(self) -> str:
        """The URL of the CRM, with its default filled in."""
        return self.sink_url or f"sqlite:///{self.data_dir / 'crm.sqlite3'}"


def variable(name: str) -> str:
    """The environment variable of the field `name`."""
    return f"LEADS_{name.upper()}"


def _parsed(name: str, value: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise BadSetting(f"{name}={value!r} cannot be used: {error}.") from None
