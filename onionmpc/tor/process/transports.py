"""Finds the programs that carry pluggable transports, and writes the lines by which a tor of ours uses bridges.

Knows which program carries which transport. Does not know how it is run: tor starts it, and ends it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from onionmpc.errors import TransportNotFound, UsageError
from onionmpc.tor.process.bridges import Bridge

# By transport, the better known first; each tells tor itself what it carries. lyrebird is what became of obfs4proxy.
TRANSPORT_PROGRAMS = {
    "obfs4": ("lyrebird", "obfs4proxy"),
    "meek_lite": ("lyrebird", "obfs4proxy"),
    "webtunnel": ("lyrebird", "webtunnel-client"),
    "snowflake": ("snowflake-client", "lyrebird"),
}
# Debian's packages.
DEBIAN_PACKAGES = {"obfs4": "obfs4proxy", "meek_lite": "obfs4proxy", "snowflake": "snowflake-client"}
# tor splits the line that names a program at spaces, and knows no quotes there.
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+@~,:-]+")


def find_transport(transport: str) -> Path:
    """Find the program that carries a transport.

    Raises:
        UsageError: no program is known to carry it, or tor could not start the one that was found.
        TransportNotFound: there is none on the path.
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
    """Return how the program that carries a transport gets onto this machine."""
    package = DEBIAN_PACKAGES.get(transport)
    if package is None:
        return f"{TRANSPORT_PROGRAMS[transport][0]} comes with Tor Browser: put it, or a link to it, on the PATH"
    return f"sudo apt-get install {package}" if shutil.which("apt-get") else f"install {package} (Debian's name of it)"


def bridge_torrc(bridges: Sequence[Bridge]) -> str:
    """Return the torrc lines with which tor enters its network by these bridges and by nothing else; none without any.

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
