"""A bridge in a private network, plain and with obfs4. The authorities do not know it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from onionmpc.files import write_private
from onionmpc.testnet.network import POLL_S, STEP_TIMEOUT_S
from onionmpc.testnet.place import common_torrc, fragment
from onionmpc.testnet.regions import relay_address
from onionmpc.testnet.relay import ENOUGH_DIRECTORY_PERCENT, Relay, end, reserve_ports
from onionmpc.testnet.state import read_state
from onionmpc.testnet.status import read_text
from onionmpc.tor.process.binary import find_tor
from onionmpc.tor.process.bridges import Bridge
from onionmpc.tor.process.torrc import quote
from onionmpc.tor.process.transports import find_transport

# Without this address, tor would have the transport listen on all addresses.
BRIDGE_TORRC = """
BridgeRelay 1
BridgeDistribution none
PublishServerDescriptor 0
ExtORPort 127.0.0.1:auto
ServerTransportPlugin obfs4 exec {program}
ServerTransportListenAddr obfs4 {address}:{port}
"""


@dataclass(frozen=True)
class OurBridge:
    """One relay, and two ways to it."""

    plain: Bridge
    obfs4: Bridge

    @property
    def fingerprint(self) -> str:
        return self.plain.fingerprint


@contextlib.asynccontextmanager
async def running_bridge(testnet: Path, directory: Path) -> AsyncIterator[OurBridge]:
    """Run a bridge; yield when it can serve a client as a directory."""
    state = read_state(testnet)
    address = relay_address(len(state.tors))
    async with contextlib.AsyncExitStack() as stack:
        or_port, obfs4_port = reserve_ports(stack, address, 2)
        relay = Relay("bridge", "", address, directory, authority=False, or_port=or_port)
        torrc = common_torrc(state.directory_authorities, "") + fragment(
            "testnet-relay",
            nickname=relay.nickname,
            directory=quote(directory),
            notices=quote(f"notice file {relay.notices}"),
            owner=os.getpid(),
            address=address,
            or_port=or_port,
        )
        torrc += BRIDGE_TORRC.format(program=find_transport("obfs4"), address=address, port=obfs4_port)
        write_private(directory / "torrc", torrc.encode())
        stack.push_async_callback(end, [relay], signal.SIGTERM, signal.SIGKILL)
        relay.start(find_tor().path)
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while not (line := _obfs4_line(relay)):
                relay.check_alive()
                await asyncio.sleep(POLL_S)
        fingerprint = read_text(directory / "fingerprint").split()[-1]
        place = IPv4Address(address)
        yield OurBridge(
            Bridge("", place, or_port, fingerprint),
            Bridge("obfs4", place, obfs4_port, fingerprint, tuple(word for word in line.split() if "=" in word)),
        )


def _obfs4_line(relay: Relay) -> str:
    """Return what obfs4proxy wrote for the bridge's users, once the bridge is ready for them."""
    steps = re.findall(r"Bootstrapped (\d+)%", relay.log())
    if not any(int(step) >= ENOUGH_DIRECTORY_PERCENT for step in steps):
        return ""
    written = read_text(relay.directory / "pt_state" / "obfs4_bridgeline.txt")
    return next((line for line in written.splitlines() if line.startswith("Bridge obfs4 ")), "")
