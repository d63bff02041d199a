"""A request to a host that somebody named: to an address that was checked, and to no other.

What a name leads to is asked once; each of its addresses is checked, and the connection goes to
one of those. No redirect is followed, no proxy of the environment used, and nothing of the answer
is read but its status.
"""

from __future__ import annotations

import fnmatch
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from jobkit.clock import stopwatch
from jobkit.notify.undelivered import Undelivered
from jobkit.watchdog import Watchdog

Resolve = Callable[..., Sequence[tuple[Any, ...]]]
SECONDS = 5.0
_ODD = tuple(
    map(
        ipaddress.ip_network,
        # What carries an IPv4 address to somewhere else, or is global to Python and to nobody else.
        ("64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "::/96", "fec0::/10"),
    )
)
_watchdog = Watchdog()


@dataclass(frozen=True)
class Hosts:
    """Who may be spoken to: names, or patterns like `*.example.com`."""

    allowed: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    """Of those in this machine or its own networks, which may be spoken to without TLS."""

    def allow(self, host: str) -> bool:
        return _is_among(host, (*self.allowed, *self.private))

    def are_private(self, host: str) -> bool:
        return _is_among(host, self.private)


def _is_among(host: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(host, pattern.lower()) for pattern in patterns)


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, and leads to no other."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # with a zone, say
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    is_odd = any(ip in network for network in _ODD if network.version == ip.version)
    return ip.is_global and not ip.is_multicast and not is_odd


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    hosts: Hosts,
    *,
    resolve: Resolve = socket.getaddrinfo,
    seconds: float = SECONDS,
) -> None:
    """Send a request; Undelivered says why it was not sent, or what the answer was if not 2xx."""
    parts, host = _checked(url, hosts)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _addresses(host, port, hosts, resolve)
    began = stopwatch()
    try:
        status = _send(parts, host, port, addresses, body, headers, seconds)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = str(error) or type(error).__name__
        raise Undelivered(f"{host}:{port} did not take it: {said}") from None
    if stopwatch() - began >= seconds:  # headers that were cut off count as whole to http.client
        raise Undelivered(f"{host}:{port} took longer than {seconds:g} s to answer")
    if 300 <= status < 400:
        raise Undelivered(f"{host} answered {status}, and redirects are not followed")
    if not 200 <= status < 300:
        raise Undelivered(f"{host} answered {status}")


def _checked(url: str, hosts: Hosts) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
        _ = parts.port
    except ValueError:
        raise Undelivered("the address of the webhook names no host or an odd port") from None
    if parts.username is not None or not host:
        raise Undelivered("the address of the webhook holds a user, or no host")
    if not hosts.allow(host):
        raise Undelivered(f"{host} is not among JOBKIT_WEBHOOK_HOSTS")
    if parts.scheme != "https" and not hosts.are_private(host):
        raise Undelivered(f"{host} is spoken to by https only")
    return parts, host


def _addresses(
    host: str, port: int, hosts: Hosts, resolve: Resolve
) -> Sequence[tuple[int, tuple[Any, ...]]]:
    try:
        found = resolve(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Undelivered(f"{host} is not found: {error}") from None
    addresses = [(family, address) for family, _, _, _, address in found]
    for _, address in addresses:
        if not (hosts.are_private(host) or is_public(str(address[0]))):
            raise Undelivered(
                f"{host} leads to {address[0]}, which is not on the internet; if it is meant, name "
                "it in JOBKIT_WEBHOOK_PRIVATE_HOSTS"
            )
    if not addresses:
        raise Undelivered(f"{host} has no address")
    return addresses


def _send(
    parts: SplitResult,
    host: str,
    port: int,
    addresses: Sequence[tuple[int, tuple[Any, ...]]],
    body: bytes,
    headers: Mapping[str, str],
    seconds: float,
) -> int:
    with ExitStack() as stack:
        connected = stack.enter_context(_connected(addresses, seconds))
        # A timeout of a socket is one of each byte: the whole is bounded by the watchdog.
        stack.enter_context(_watchdog.guard(connected.fileno(), seconds))
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connected = stack.enter_context(context.wrap_socket(connected, server_hostname=host))
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
        connection.sock = connected
        stack.callback(connection.close)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, dict(headers))
        return connection.getresponse().status


def _connected(addresses: Sequence[tuple[int, tuple[Any, ...]]], seconds: float) -> socket.socket:
    refused: OSError = OSError("no address answers")
    for family, address in addresses:
        opened = socket.socket(family, socket.SOCK_STREAM)
        opened.settimeout(seconds)
        try:
            opened.connect(address)
        except OSError as error:
            opened.close()
            refused = error
        else:
            return opened
    raise refused
