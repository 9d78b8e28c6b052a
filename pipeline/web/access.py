"""Who asks: the address of a client, and whether it may see what the workers know (status, tables, details).

Without `LEADS_OPS_TOKEN` only who is on this machine may; with it only who gives it, as a bearer or as the password of
basic authentication, which browsers ask for. The workers show each other that they know it.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import hdrs, web
from aiohttp.http import HttpVersion11
from aiohttp.typedefs import Handler

from pipeline.values import Network
from pipeline.web.problems import Problem

__all__ = ["FORWARDED", "FORWARDING", "Access", "Address", "parsed", "peer_headers"]

Address = IPv4Address | IPv6Address

#: On a question from worker to worker, the URL of the one that is asked: two that disagree on the owner must not send
#: it around for ever.
FORWARDED = "X-Leads-Forwarded"
#: That whoever asks knows the token: the time, and a signature of it and of that URL.
SIGNED = "X-Leads-Signed"
#: Clocks of two machines differ by less.
SIGNED_MAX_S = 60
FORWARDED_FOR = "X-Forwarded-For"
#: What a proxy adds. A proxy on this machine must not lend its address to everybody behind it.
FORWARDING = frozenset(("forwarded", "via", "x-forwarded-for", "x-real-ip"))
#: A name or an address, with or without a port. What is something else (aiohttp raises for it) is nobody's name.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:\d*)?\Z")
_HOSTS = frozenset(("localhost", "localhost.localdomain"))


def peer_headers(token: str, owner: str) -> dict[str, str]:
    """What shows the worker at `owner` that another one asks, which knows the token. Not the token itself: on the port
    of a worker that died may listen anybody by now. For a minute it opens that worker to whoever has seen it.
    """
    return {SIGNED: _signature(token.encode(), owner, str(int(time.time())))} if token else {}


def _signature(token: bytes, owner: str, time_s: str) -> str:
    digest = hmac.new(token, f"{owner}\n{time_s}".encode("utf-8", "replace"), "sha256").hexdigest()
    return f"{time_s}:{digest}"


class Access:
    """Tells clients apart.

    Arguments:
        token: `LEADS_OPS_TOKEN`, empty when it is unset.
        proxies: Those whose `X-Forwarded-For` is believed.
    """

    def __init__(self, token: str = "", proxies: Sequence[Network] = ()) -> None:
        self._token = token.encode()
        self._proxies = tuple(proxies)

    def client(self, request: web.Request) -> Address | None:
        """The address of the client; that of a proxy which is not trusted is the client's. None: it has none."""
        address = parsed(request.remote)
        if address is None or not self.is_proxy(address):
            return address
        given = ",".join(request.headers.getall(FORWARDED_FOR, [])).split(",")
        for text in reversed(given):
            found = parsed(text.strip())
            if found is None:
                break  # what stands before it may be anybody's invention
            address = found
            if not self.is_proxy(address):
                break
        return address

    def is_proxy(self, address: Address) -> bool:
        """Whether it is a trusted proxy's."""
        return any(address in network for network in self._proxies)

    def may_operate(self, request: web.Request) -> bool:
        """Whether the client may see what only operators see."""
        if self._token:
            given = _given(request.headers.get(hdrs.AUTHORIZATION, ""))
            return hmac.compare_digest(given, self._token) or self._is_peer(request)
        address = parsed(request.remote)
        # A proxy on this machine that says nothing of its clients mostly speaks HTTP/1.0 to the workers.
        is_proxied = request.version < HttpVersion11 or (address is not None and self.is_proxy(address))
        return not is_proxied and _is_local(request)

    def _is_peer(self, request: web.Request) -> bool:
        owner, signed = request.headers.get(FORWARDED), request.headers.get(SIGNED, "")
        time_s = signed.partition(":")[0]
        if owner is None or not time_s.isdecimal() or abs(time.time() - int(time_s[:12])) > SIGNED_MAX_S:
            return False
        wanted = _signature(self._token, owner, time_s)
        return hmac.compare_digest(signed.encode("utf-8", "replace"), wanted.encode())

    def require_operator(self, request: web.Request) -> None:
        """See that the client may.

        Raises:
            Problem: 401 without the token where there is one, 403 from elsewhere where there is none.
        """
        if self.may_operate(request):
            return
        if self._token:
            challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Basic realm="leads", charset="UTF-8"'}
            raise Problem(401, "Not authorised", "Give the token of LEADS_OPS_TOKEN.", headers=challenge)
        raise Problem(403, "Only on this machine", "To see this from elsewhere, set LEADS_OPS_TOKEN and give it.")

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let only operators to what tells of leads and tables."""
        if _is_operational(request):
            self.require_operator(request)
        return await handler(request)


def parsed(text: str | None) -> Address | None:
    """The address in `text`, that of IPv4 where it is mapped into IPv6."""
    try:
        address = ip_address((text or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_operational(request: web.Request) -> bool:
    path = request.path
    return path == "/tables" or path.startswith(("/tables/", "/leads/"))


def _is_local(request: web.Request) -> bool:
    """On this machine, through no proxy, and by a name that no other site can give to this machine (DNS rebinding)."""
    address, own = parsed(request.remote), _own(request)
    if address is None or _is_forwarded(request.headers) or not (address.is_loopback or address == own):
        return False
    name = _host_name(request)
    host = parsed(name)
    if host is None:
        return name in _HOSTS or name.endswith(".localhost")
    return host.is_loopback or host == own


def _host_name(request: web.Request) -> str:
    found = _HOST.match(request.headers.get(hdrs.HOST, ""))
    return found[1].strip("[]").rstrip(".").lower() if found else ""


def _own(request: web.Request) -> Address | None:
    """The address of this machine that the client has called: whoever calls from the same one is here, too."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    return parsed(name[0]) if isinstance(name, tuple) else None


def _is_forwarded(headers: Mapping[str, str]) -> bool:
    return any(name.lower() in FORWARDING or name.lower().startswith("x-forwarded-") for name in headers)


def _given(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "basic":
        return b""
    try:
        return b64decode(value.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""
