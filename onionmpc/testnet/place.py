"""A party's place in a running test network: its region, its address, and the torrc lines for its tor."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Template

from onionmpc.errors import UsageError
from onionmpc.files import lock, private_directory
from onionmpc.testnet.state import NetworkState, PartySlot, read_state
from onionmpc.tor.process.torrc import shipped_lines

PLACES_NAME = "parties"


@dataclass(frozen=True, slots=True)
class PartyPlace:
    """The place of a party.

    Args:
        address: its own loopback address (on macOS, all share one); relays see its tor there.
        region: its region, which decides its latencies.
        torrc: lines for its tor, to come before the party's own.
        profiles: the folder with the data directories of the parties' tors.
    """

    address: str
    region: str
    torrc: str
    profiles: Path


@contextlib.contextmanager
def join_testnet(directory: Path, region: str | None = None) -> Iterator[PartyPlace]:
    """Take a place in a network, for as long as the context lasts.

    Args:
        directory: the directory of `testnet up`.
        region: the region of the place; by default that of the first free place. The regions take turns.

    Raises:
        UsageError: no network runs there, it has no such region, or no place is free.
    """
    state = read_state(directory)
    wanted = [slot for slot in state.slots if region in (None, slot.region)]
    if not wanted:
        regions = ", ".join(dict.fromkeys(slot.region for slot in state.slots))
        raise UsageError(f"the test network has no region {region}", hint=f"one of: {regions}")
    private_directory(directory / PLACES_NAME)
    for slot in wanted:
        with lock(place_lock(directory, slot)) as free:
            if free:
                yield _place(state, slot, private_directory(profiles_directory(directory)))
                return
    raise UsageError(f"all {len(wanted)} places for parties are taken", hint="stop some parties, or choose no region")


def place_lock(directory: Path, slot: PartySlot) -> Path:
    """Return the file that the party in a place keeps locked."""
    return directory / PLACES_NAME / f"{slot.number}.lock"


def common_torrc(directory_authorities: tuple[str, ...], gateway: str) -> str:
    """Return the torrc lines that all tors of a network share.

    Args:
        directory_authorities: DirAuthority lines.
        gateway: "ADDRESS:PORT" of this tor's gateway, or the empty string.
    """
    return fragment(
        "testnet-common",
        directory_authorities="\n".join(directory_authorities),
        gateway=f"TCPProxy haproxy {gateway}" if gateway else "",
    )


def fragment(name: str, **values: str | int) -> str:
    """Return a torrc fragment from torrc.d/ with its ${words} filled in."""
    return Template(shipped_lines(name)).substitute(values)


def profiles_directory(directory: Path) -> Path:
    """Return the folder with what parties' tors know about this network. The next network must not reuse it."""
    return directory / "profiles"


def _place(state: NetworkState, slot: PartySlot, profiles: Path) -> PartyPlace:
    gateway = f"{slot.address}:{slot.gateway_port}" if slot.gateway_port else ""
    torrc = common_torrc(state.directory_authorities, gateway) + fragment(
        "testnet-party", number=slot.number, region=slot.region
    )
    return PartyPlace(slot.address, slot.region, torrc, profiles)
