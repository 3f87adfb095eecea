"""Finds the programs for pluggable transports, and writes the torrc lines for bridges.

tor starts these programs, and ends them.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from onionmpc.errors import TransportNotFound, UsageError
from onionmpc.tor.process.bridges import Bridge

# The programs for each transport, preferred ones first. lyrebird is the new name of obfs4proxy.
TRANSPORT_PROGRAMS = {
    "obfs4": ("lyrebird", "obfs4proxy"),
    "meek_lite": ("lyrebird", "obfs4proxy"),
    "webtunnel": ("lyrebird", "webtunnel-client"),
    "snowflake": ("snowflake-client", "lyrebird"),
}
# Debian's packages.
DEBIAN_PACKAGES = {"obfs4": "obfs4proxy", "meek_lite": "obfs4proxy", "snowflake": "snowflake-client"}
# tor splits the line that names a program at spaces, and does not support quotes there.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~,:-]+")


def find_transport(transport: str) -> Path:
    """Find the program for a transport.

    Raises:
        UsageError: the transport is unknown, or tor could not start the program that was found.
        TransportNotFound: there is no program for it on the PATH.
    """
    if transport not in TRANSPORT_PROGRAMS:
        raise UsageError(
            f"onionmpc does not know the transport {transport}",
            hint=f"expected one of: {', '.join(TRANSPORT_PROGRAMS)}",
        )
    for name in TRANSPORT_PROGRAMS[transport]:
        if found := shutil.which(name):
            path = Path(found).absolute()
            if not PLAIN_PATH.fullmatch(str(path)):
                raise UsageError(f"tor cannot start {path}: its path contains a space or another special character")
            return path
    raise TransportNotFound(
        f"no program here for the transport {transport},"
        f" expected {' or '.join(TRANSPORT_PROGRAMS[transport])} on the PATH",
        hint=transport_hint(transport),
    )


def transport_hint(transport: str) -> str:
    """Return how to install the program for a transport."""
    package = DEBIAN_PACKAGES.get(transport)
    if package is None:
        return f"{TRANSPORT_PROGRAMS[transport][0]} comes with Tor Browser: put it, or a link to it, on the PATH"
    return f"sudo apt-get install {package}" if shutil.which("apt-get") else f"install {package} (Debian's name of it)"


def bridge_torrc(bridges: Sequence[Bridge]) -> str:
    """Return the torrc lines that let tor enter its network only by these bridges; no lines without bridges.

    Raises:
        UsageError, TransportNotFound: see `find_transport`.
    """
    if not bridges:
        return ""
    transports = dict.fromkeys(bridge.transport for bridge in bridges if bridge.transport)
    return "\n".join(
        [
            "UseBridges 1",
            *(f"Bridge {bridge}" for bridge in bridges),
            *(f"ClientTransportPlugin {transport} exec {find_transport(transport)}" for transport in transports),
        ]
    )
