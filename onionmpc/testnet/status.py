"""The current status of a test network: which tors run, their flags in the consensus, and which parties take part.

Knows the state file, tor's locks and the lines of a consensus. Changes nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from onionmpc.files import is_held
from onionmpc.testnet.place import place_lock
from onionmpc.testnet.state import PartySlot, read_state, tor_directory


class TorStatus(msgspec.Struct, frozen=True):
    """One relay or authority. `flags` are those of the newest consensus, empty if it is not listed."""

    nickname: str
    region: str
    address: str
    or_port: int
    fingerprint: str
    process: int
    authority: bool
    up: bool
    flags: str


class NetworkStatus(msgspec.Struct, frozen=True):
    """A network that is up; see NetworkState."""

    directory: str
    owner: int
    started_at: float
    latency: str
    one_way_ms: dict[str, dict[str, float]]
    tors: tuple[TorStatus, ...]
    parties: tuple[PartySlot, ...]


def network_status(directory: Path) -> NetworkStatus:
    """Return the status of a network.

    Raises:
        UsageError: no network is ready there.
    """
    state = read_state(directory)
    authorities = [tor_directory(directory, tor.nickname) for tor in state.tors if tor.authority]
    flags = consensus_flags(authorities[0] / "cached-consensus") if authorities else {}
    return NetworkStatus(
        directory=str(directory),
        owner=state.owner,
        started_at=state.started_at,
        latency=state.latency,
        one_way_ms=state.one_way_ms,
        tors=tuple(
            TorStatus(
                **msgspec.structs.asdict(tor),
                up=is_held(tor_directory(directory, tor.nickname) / "lock"),
                flags=" ".join(sorted(flags.get(tor.nickname, ()))),
            )
            for tor in state.tors
        ),
        parties=tuple(slot for slot in state.slots if is_held(place_lock(directory, slot))),
    )


def consensus_flags(path: Path) -> dict[str, frozenset[str]]:
    """Return the flags of each relay in a consensus, by nickname; empty if there is no consensus yet.

    Reads only the lines "r" and "s" (dir-spec 3.4.1). A full parser would be too slow: this runs on 15 directories, ten
    times a second.
    """
    flags: dict[str, frozenset[str]] = {}
    nickname = ""
    for line in read_text(path).splitlines():
        if line.startswith("r "):
            nickname = line.split()[1]
        elif line.startswith("s "):
            flags[nickname] = frozenset(line.split()[1:])
    return flags


def read_text(path: Path) -> str:
    """Return the content of a file of tor, empty if it does not exist yet."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
