"""Endpoints where a tor listens, or where we listen for a tor: a unix socket, or a port of this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from dataclasses import dataclass

from onionmpc.errors import UnsafeSetting, UsageError

LOCALHOST = "127.0.0.1"
UNIX_PREFIX = "unix:"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A unix socket (`path`), or a TCP port (`host`, `port`)."""

    path: str = ""
    host: str = LOCALHOST
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return UNIX_PREFIX + self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self) -> socket.socket:
        """Return a connected, non-blocking socket.

        Raises:
            OSError: nothing listens there, or we may not connect.
        """
        if self.path:
            family, address = socket.AF_UNIX, self.path
        else:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            address = (self.host, self.port)  # type: ignore[assignment]
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, address)
        except BaseException:
            connection.close()
            raise
        return connection


def parse_endpoint(text: str) -> Endpoint:
    """Parse "unix:PATH" or "HOST:PORT".

    Raises:
        UsageError: it is neither.
        UnsafeSetting: the host is another machine.
    """
    if text.startswith(UNIX_PREFIX):
        if not text.startswith(UNIX_PREFIX + "/"):
            raise UsageError(f"{text} is not a control port, expected unix:/PATH", hint="give the full path")
        return Endpoint(path=text.removeprefix(UNIX_PREFIX))
    address, port = _parse_port(text, "unix:/PATH or 127.0.0.1:PORT")
    if address.is_unspecified:  # tor lists a port on all interfaces as 0.0.0.0 or ::
        return Endpoint(host="::1" if address.version == 6 else LOCALHOST, port=port)
    if not address.is_loopback:
        # The control protocol and SOCKS are not encrypted: anyone on the path sees keys and addresses.
        raise UnsafeSetting(f"{address} is another machine, expected one of this machine's own addresses")
    return Endpoint(host=str(address), port=port)


def parse_listener(text: str) -> Endpoint:
    """Parse "ADDRESS:PORT" or ":PORT", where we should listen for a tor's streams.

    Raises:
        UsageError: it is neither.
        UnsafeSetting: anyone on the internet could connect.
    """
    address, port = _parse_port(text, "127.0.0.1:PORT, or this machine's address in the network of its tor")
    if address.is_unspecified or not address.is_private:
        raise UnsafeSetting(
            f"anyone could connect to {address}, expected an address of loopback or of a private network",
            hint="give the address by which the tor's machine reaches this one",
        )
    return Endpoint(host=str(address), port=port)


def _parse_port(text: str, expected: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise UsageError(f"{text} names no port (1 to 65535), expected {expected}")
    # Names are not resolved: the query would reveal to a DNS server that we are about to use tor.
    try:
        return ipaddress.ip_address(LOCALHOST if host in ("", "localhost") else host.strip("[]")), int(port)
    except ValueError:
        raise UsageError(f"{host} is a name, expected {expected}") from None
