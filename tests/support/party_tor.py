"""A party's own tor as a bystander sees it: found by its process, asked over a second control connection.

Knows Linux's /proc, the lines of a torrc and the circuits of onion services. Does not know parties, links or whether
what is done here is a fault or a repair.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from onionmpc.errors import (
    TorFailed,
)
from onionmpc.testnet.status import read_text
from onionmpc.tor.adapters.stem import parse_event
from onionmpc.tor.circuit.status import JoinedCircuit, parse_circuits, service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.control.errors import CommandRefused
from onionmpc.tor.endpoint import Endpoint

# tor's word for a service's own circuit to one of its introduction points (control-spec, "CIRC").
INTRODUCTION = "HS_SERVICE_INTRO"
HOLDERS_TIMEOUT_S = 20.0

# In a torrc later lines win.
CONTROL_LINE = re.compile(r'^ControlSocket "?([^"\n]+)"?$', re.MULTILINE)
GATEWAY_LINE = re.compile(r"^TCPProxy haproxy (\S+):(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PartyTor:
    """The tor that a party runs now.

    Attributes:
        process: its process id.
        control: its control port, for `open_control`.
        gateway: address and port of its way out in a private network, None if it has none.
    """

    process: int
    control: Endpoint
    gateway: tuple[str, int] | None


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """A circuit that a tor has now.

    Attributes:
        id: tor's name for it.
        purpose: control-spec, "CIRC"; `INTRODUCTION` for one.
        relays: fingerprints, 40 hex digits each, the guard first.
        joined: what is known of it if it joins two parties, of whom one is ours.
        dialled: whether a stream goes through it that this tor's party dialled; of accepted streams tor tells nothing.
    """

    id: str
    purpose: str
    relays: tuple[str, ...]
    joined: JoinedCircuit | None
    dialled: bool


def find_party_tor(supervisor: int) -> PartyTor:
    """Find the tor among the children of a party's process.

    Raises:
        TorFailed: it has none now.
    """
    for child in _children(supervisor):
        words = _command(child)
        if "-f" in words[:-1] and Path(words[0]).name == "tor":
            torrc = read_text(Path(words[words.index("-f") + 1]))
            if controls := CONTROL_LINE.findall(torrc):
                gateways = GATEWAY_LINE.findall(torrc)
                return PartyTor(
                    child,
                    Endpoint(path=controls[-1]),
                    (gateways[-1][0], int(gateways[-1][1])) if gateways else None,
                )
    raise TorFailed(f"process {supervisor} runs no tor now")


async def open_circuits(control: Control) -> list[OpenCircuit]:
    """List all circuits of a tor, oldest first."""
    # "STREAM STATUS CIRCUIT TARGET", control-spec, "GETINFO stream-status".
    streams = [line.split() for line in (await control.get_info("stream-status")).splitlines()]
    dialled = {circuit for _, status, circuit, *_ in streams if status == "SUCCEEDED"}
    found = []
    for line in (await control.get_info("circuit-status")).splitlines():
        event = parse_event("CIRC", line)
        if event is not None:
            relays = tuple(fingerprint.upper() for fingerprint, _ in event.path or ())
            joined = parse_circuits(line)
            found.append(
                OpenCircuit(event.id, event.purpose or "", relays, joined[0] if joined else None, event.id in dialled)
            )
    return sorted(found, key=lambda circuit: int(circuit.id))


async def close_circuits(control: Control, circuits: Iterable[OpenCircuit]) -> int:
    """Close circuits; return how many of them were still there."""
    closed = 0
    for circuit in circuits:
        with contextlib.suppress(CommandRefused):
            await control.command(f"CLOSECIRCUIT {circuit.id}")
            closed += 1
    return closed


async def descriptor_holders(
    control: Control, onion: str, relays: Iterable[str], timeout_s: float = HOLDERS_TIMEOUT_S
) -> set[str]:
    """Ask each of these relays for the descriptor of an onion service.

    Args:
        onion: the address, with or without ".onion".
        relays: fingerprints.
        timeout_s: for all of them; who has not answered by then is taken not to hold it.
    Returns:
        Fingerprints of those that have it.
    """
    address = service_id(onion)
    waiting = {relay.upper() for relay in relays}
    holders: set[str] = set()
    heard: asyncio.Queue[str] = asyncio.Queue()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s), control.on_event("HS_DESC", heard.put_nowait):
            for relay in waiting:
                await control.command(f"HSFETCH {address} SERVER={relay}")
            while waiting:
                # "RECEIVED ADDRESS AUTH $FINGERPRINT~NAME ...", control-spec, "HS_DESC".
                action, about, _, directory, *_ = (await heard.get()).split()
                relay = directory.lstrip("$").partition("~")[0].upper()
                if about == address and action in {"RECEIVED", "FAILED"} and relay in waiting:
                    waiting.remove(relay)
                    if action == "RECEIVED":
                        holders.add(relay)
    return holders


def _children(process: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _command(process: int) -> list[str]:
    """Return a process's command line; some word even if there is none, as of a process that has just ended."""
    with contextlib.suppress(OSError):
        return os.fsdecode(Path(f"/proc/{process}/cmdline").read_bytes()).rstrip("\0").split("\0")
    return [""]


def ended(process: int, within_s: float = 10) -> bool:
    """Wait for the end of a process that need not be our child."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)
