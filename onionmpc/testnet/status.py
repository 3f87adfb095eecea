"""What runs in a test network right now: which tors are up, what the consensus says of them, who takes part.

Knows the state file, tor's locks and the lines of a consensus. Changes nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from onionmpc.files import is_held
from onionmpc.testnet.place import place_lock
from onionmpc.testnet.state import PartySlot, read_state, tor_directory


class TorStatus(msgspec.Struct, frozen=True):
    """One relay or authority; flags as in the newest consensus, "" if it is not listed."""

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
    """Look at a network.

    Raises:
        UsageError: none is ready there.
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
    """Return the flags of each relay of a consensus, by nickname; none if there is no consensus yet.

    Two kinds of lines of dir-spec 3.4.1, "r" and "s", looked for in 15 directories ten times a second: a whole parser
    would cost more than it tells.
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
    """Read a file of tor's, "" if it is not there yet."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
