"""What the value of a setting may be: each function parses one kind, or raises ValueError with what to write instead.

The text of an error follows on the variable and its value, and does not repeat the value, which may be a secret.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

__all__ = [
    "SECRET_MAX_BYTES",
    "Network",
    "app_id",
    "broker_url",
    "ca_file",
    "choices",
    "count",
    "duration_s",
    "networks",
    "on_off",
    "one_of",
    "port",
    "port_or_off",
    "positive_duration_s",
    "seconds",
    "secret_of",
    "token",
    "web_url",
    "whole",
]

#: More in a file is no password.
SECRET_MAX_BYTES = 4096

Network = IPv4Network | IPv6Network

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_s(text: str) -> float:
    """Seconds of `30d`, `12h`, `90m` or `45s`."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("give a number with s, m, h or d, such as 30d")
    return float(match[1]) * _SECONDS[match[2]]


def positive_duration_s(text: str) -> float:
    """Seconds of a duration of more than 0."""
    found_s = duration_s(text)
    if found_s <= 0:
        raise ValueError("must be more than 0")
    return found_s


def seconds(text: str) -> float:
    """A number of seconds, more than 0."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) <= 0:
        raise ValueError("give a number of seconds, more than 0")
    return float(text)


def port(text: str) -> int:
    """A TCP port."""
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def port_or_off(text: str) -> int:
    """A TCP port; 0 is none."""
    return 0 if text.lower() in ("off", "0") else port(text)


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks, separated by commas."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError("give addresses or networks such as 10.0.0.7 or 10.0.0.0/8, separated by commas") from None


def token(text: str) -> str:
    """A secret that stands in an HTTP header."""
    if not re.fullmatch(r"[!-~]{16,256}", text):
        raise ValueError("give 16 to 256 characters of ASCII, without blanks, such as `openssl rand -hex 32` prints")
    return text


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError("give a whole number, 1 or more")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise ValueError("give a whole number, 0 or more")
    return int(text)


def on_off(text: str) -> bool:
    """`on` or `off`."""
    if text.lower() not in ("on", "off"):
        raise ValueError("write on or off")
    return text.lower() == "on"


def one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    """A parser of one of the words `allowed`, in any case."""

    def parse(text: str) -> str:
        for word in allowed:
            if text.upper() == word.upper():
                return word
        raise ValueError(f"choose from {', '.join(allowed)}")

    return parse


def choices(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """A parser of some of the words `allowed`, separated by commas; `none` is none of them."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if names == ("none",):
            return ()
        if not names or not set(names) <= set(allowed):
            raise ValueError(f"choose from {', '.join(allowed)}, separated by commas, or write none")
        return names

    return parse


def app_id(text: str) -> str:
    """The name of a consumer group."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise ValueError("use 1 to 100 letters, digits, '.', '_' or '-'")
    return text


def broker_url(text: str) -> str:
    """`kafka://host:9092,host2:9092`; the scheme may be missing."""
    if "@" in text:
        raise ValueError(
            "it may hold no user and password; give them as LEADS_BROKER_USERNAME and LEADS_BROKER_PASSWORD, "
            "or LEADS_BROKER_PASSWORD_FILE"
        )
    hosts = text.removeprefix("kafka://")
    if not all(re.fullmatch(r"[\w.\-\[\]:]+", host) for host in hosts.split(",")):
        raise ValueError("write it as kafka://host:9092 or kafka://host:9092,host2:9092")
    return f"kafka://{hosts}"


def web_url(text: str) -> str:
    """`http://host:6066`, at which a worker can be asked."""
    try:
        parts = urlsplit(text)
        is_complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in text
    except ValueError:
        is_complete = False
    if not is_complete or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("write it as http://host:6066")
    return text.rstrip("/")


def ca_file(text: str) -> Path:
    """A file with certificates in PEM, which can be read now."""
    try:
        ssl.create_default_context(cafile=text)
    except ssl.SSLError:
        raise ValueError("it holds no certificate in PEM") from None
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    return Path(text)


def secret_of(file: Path) -> str:
    """The secret in `file`, without the line end behind it."""
    try:
        with file.open("rb") as opened:
            content = opened.read(SECRET_MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if len(content) > SECRET_MAX_BYTES:
        raise ValueError(f"it holds more than {SECRET_MAX_BYTES} bytes, which is no password")
    try:
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not secret:
        raise ValueError("it is empty")
    return secret
