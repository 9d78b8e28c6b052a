"""Every setting of the product: one frozen object, read from `LEADS_*` variables.

`Settings.from_env()` is the only place that reads the environment. A variable that starts with `LEADS_` and is not a
setting is refused, because a misspelt setting that is silently ignored is worse than a worker that does not start.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from pipeline import values
from pipeline.values import duration_s

__all__ = ["AT_LEAST_ONCE", "EMBEDDED_BROKER_PORT", "EXACTLY_ONCE", "BadSetting", "Settings", "duration_s", "variable"]

#: Where `leads up` and `leads broker` let the embedded broker listen, unless LEADS_BROKER_PORT says otherwise.
EMBEDDED_BROKER_PORT = 9092

EXACTLY_ONCE = "exactly-once"
AT_LEAST_ONCE = "at-least-once"
AGENTS = ("dedupe", "crm_sink")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class BadSetting(ValueError):
    """A setting has an unknown name or a value that cannot be used; the text says what to do, and holds no secret."""

    #: The exit status (sysexits.h): a restart does not mend it.
    status = os.EX_CONFIG


def _setting(default: Any, parse: Callable[[str], Any], unit: str, doc: str, *, secret: bool = False) -> Any:
    metadata = {"parse": parse, "unit": unit, "doc": doc, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings, checked. The variable of a field is `LEADS_` and its name in capitals."""

    broker_url: str = _setting(
        "", values.broker_url, "URL", "Kafka brokers; when unset, the embedded one, which `leads up` starts."
    )
    broker_port: int = _setting(
        EMBEDDED_BROKER_PORT, values.port, "port", "Where the embedded broker listens on 127.0.0.1."
    )
    broker_wait_s: float = _setting(
        60.0,
        values.seconds,
        "seconds",
        "How long a worker that starts waits for the broker before it ends; as long as it takes while it has a spool.",
    )
    broker_tls: bool = _setting(False, values.on_off, "on, off", "Whether to reach the brokers with TLS.")
    broker_ca_file: Path | None = _setting(
        None, values.ca_file, "path", "Certificates (PEM) that the brokers' must come from; when unset, the system's."
    )
    broker_username: str = _setting("", str, "name", "The user at the brokers (SASL); when unset, none is given.")
    broker_password: str = _setting("", str, "secret", "Its password, or give the next one.", secret=True)
    broker_password_file: Path | None = _setting(None, Path, "path", "A file that holds the password.")
    broker_sasl_mechanism: str = _setting(
        # The one whose messages do not hold the password, and the strongest of those that Kafka has.
        "SCRAM-SHA-512",
        values.one_of(SASL_MECHANISMS),
        "name",
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. PLAIN without TLS shows the password to everybody on the way.",
    )
    sink_url: str = _setting(
        "", str, "URL", "The CRM; when unset, `sqlite:///` and `crm.sqlite3` in the data directory.", secret=True
    )
    sink_password: str = _setting("", str, "secret", "The password in it, or give the next one.", secret=True)
    sink_password_file: Path | None = _setting(None, Path, "path", "A file that holds the password of the CRM.")
    guarantee: str = _setting(
        EXACTLY_ONCE,
        values.one_of((EXACTLY_ONCE, AT_LEAST_ONCE)),
        "name",
        "Or at-least-once. Whether the offsets are kept in the CRM's database, in one transaction with the rows.",
    )
    data_dir: Path = _setting(Path("var"), Path, "path", "Where workers keep state, relative to where they start.")
    spool_max_bytes: int = _setting(
        1024**3,
        values.whole,
        "bytes",
        "How large the spool in the data directory may become, which keeps leads while the brokers are away; 0: none.",
    )
    web_port: int = _setting(6066, values.port, "port", "HTTP port of the first worker; the next ones count up.")
    web_bind: str = _setting("127.0.0.1", str, "address", "Address that workers listen on.")
    web_url: str = _setting(
        "", values.web_url, "URL", "How other workers reach this one; when unset, made of its address and port."
    )
    capture_port: int = _setting(
        6065, values.port_or_off, "port", "HTTP port that all workers of a machine share for capture; `off` is none."
    )
    capture_max_requests: int = _setting(
        512, values.count, "count", "Requests with leads that a worker has in work; more are answered 503 at once."
    )
    capture_max_bytes: int = _setting(
        64 * 1024 * 1024, values.count, "bytes", "What those may hold in memory; more is answered 503 at once."
    )
    rate_limit_per_s: int = _setting(
        100,
        values.whole,
        "leads/s",
        "Leads of one address, ten times as many at once; more are answered 429. 0 is no limit, and so is loopback.",
    )
    trusted_proxies: tuple[values.Network, ...] = _setting(
        (), values.networks, "addresses", "Proxies before the workers, whose X-Forwarded-For says who the client is."
    )
    ops_token: str = _setting(
        "",
        values.token,
        "secret",
        "Opens status, tables and details to whoever gives it; when unset, they answer on this machine only.",
        secret=True,
    )
    ops_token_file: Path | None = _setting(None, Path, "path", "A file that holds this token.")
    forms: Path | None = _setting(
        None, Path, "path", "The forms of the page; when unset, `forms.toml` where workers start, else a built-in one."
    )
    app_id: str = _setting("leads", values.app_id, "name", "Consumer group, and the prefix of the changelog topics.")
    agents: tuple[str, ...] = _setting(
        AGENTS,
        values.choices(AGENTS),
        "names",
        "Agents that the workers of this app id run; with `none` they only capture.",
    )
    partitions: int = _setting(8, values.count, "count", "Partitions of every topic; cannot change later.")
    replication: int = _setting(
        0, values.count, "count", "Replicas of new topics; when unset, 1 with the embedded broker, else 3."
    )
    retention: float = _setting(
        30 * 86400.0,
        values.positive_duration_s,
        "duration",
        "How long the captured, accepted and dead-letter topics keep records.",
    )
    dedupe_window: float = _setting(
        30 * 86400.0, values.positive_duration_s, "duration", "How long a repeat of a message id counts as a duplicate."
    )
    session_timeout_s: float = _setting(
        10.0, values.seconds, "seconds", "After this long without a sign of life a worker loses its partitions."
    )
    standby_replicas: int = _setting(
        0, values.whole, "count", "Other workers that keep a copy of each table on their disks, to take over at once."
    )
    static_membership: bool = _setting(
        False, values.on_off, "on, off", "Whether a worker that stops keeps its partitions until its session times out."
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ` (default: the process environment).

        Raises:
            BadSetting: a name is unknown or a value cannot be used.
        """
        env = os.environ if environ is None else environ
        known = {variable(setting.name): setting for setting in fields(cls)}
        given = {name: value for name, value in env.items() if name.startswith("LEADS_") and value != ""}
        for name in given:
            if name not in known:
                # Without the prefix, by which they are all alike.
                near = difflib.get_close_matches(name[len("LEADS_") :], [one[len("LEADS_") :] for one in known], n=1)
                hint = f" Did you mean LEADS_{near[0]}?" if near else f" The settings are: {', '.join(sorted(known))}."
                raise BadSetting(f"{name} is not a setting.{hint}")
        found = {known[name].name: _parsed(known[name], text) for name, text in given.items()}
        return cls(**_with_password(found))

    def __post_init__(self) -> None:
        if not self.broker_url:
            object.__setattr__(self, "broker_url", self.embedded_url)

    @property
    def embedded(self) -> bool:
        """Whether the broker is the embedded one."""
        return self.broker_url == self.embedded_url

    @property
    def embedded_url(self) -> str:
        """Where the embedded broker of this machine listens."""
        return f"kafka://127.0.0.1:{self.broker_port}"

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
    def workers_url(self) -> str:
        """Where the workers of this machine can be asked: at the port that they share, else at the first one's."""
        return f"http://{self.web_host}:{self.capture_port or self.web_port}"

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


def _parsed(setting: Field[Any], text: str) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        # What has an @ may be a URL with a password in it.
        shown = "" if setting.metadata["secret"] or "@" in text else f"={text!r}"
        raise BadSetting(f"{variable(setting.name)}{shown} cannot be used: {error}.") from None


def _with_password(found: dict[str, Any]) -> dict[str, Any]:
    """`found` with the passwords that files hold; refuses half of a user, and what is for one or for TLS only."""
    given = [name for name in ("broker_password", "broker_password_file") if name in found]
    username = variable("broker_username")
    if "broker_username" in found and len(given) != 1:
        wanted = f"{variable('broker_password')} or {variable('broker_password_file')}"
        raise BadSetting(f"With {username} give {wanted}{', not both' if given else ''}.")
    needless = [name for name in (*given, "broker_sasl_mechanism") if name in found]
    if "broker_username" not in found and needless:
        raise BadSetting(f"{variable(needless[0])} is for a user: give {username} too.")
    if "broker_ca_file" in found and not found.get("broker_tls"):
        raise BadSetting(f"{variable('broker_ca_file')} is for TLS: set {variable('broker_tls')}=on too.")
    for name in ("sink_password", "ops_token"):
        if name in found and f"{name}_file" in found:
            raise BadSetting(f"Give {variable(name)} or {variable(f'{name}_file')}, not both.")
    if any(network.network_address.is_loopback for network in found.get("trusted_proxies", ())) and not (
        "ops_token" in found or "ops_token_file" in found
    ):
        raise BadSetting(
            f"{variable('trusted_proxies')} names this machine, whose requests are its clients' then: "
            f"set {variable('ops_token')} for the operators and for the workers among themselves."
        )
    read = {**_read(found, "broker_password"), **_read(found, "sink_password"), **_read(found, "ops_token")}
    return {**found, **read}


def _read(found: dict[str, Any], name: str) -> dict[str, str]:
    """The password `name` from the file that is given for it, if any."""
    file = found.get(f"{name}_file")
    parse = next(setting.metadata["parse"] for setting in fields(Settings) if setting.name == name)
    try:
        return {} if file is None else {name: parse(values.secret_of(file))}
    except ValueError as error:
        raise BadSetting(f"{variable(f'{name}_file')} cannot be used: {error}.") from None
