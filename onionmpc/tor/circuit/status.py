"""Reads tor's list of circuits: counts our own relays, and tells whether our service can be reached.

A party sees its own hops up to and including the rendezvous point, never the peer's. Source: control-spec, "CIRC";
checked with tor 0.4.9.11.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onionmpc.mesh.network import OwnPath
from onionmpc.tor.adapters.stem import parse_event

# A circuit's purpose and length may change while it is built or reused. Only in the joined states are they final.
CLIENT, SERVICE = "HS_CLIENT_REND", "HS_SERVICE_REND"
JOINED = {(CLIENT, "HSCR_JOINED"), (SERVICE, "HSSR_JOINED")}
INTRODUCING = ("HS_SERVICE_INTRO", "HSSI_ESTABLISHED")


@dataclass(frozen=True, slots=True)
class JoinedCircuit:
    """A circuit that carries, or can carry, streams of an onion service.

    Attributes:
        id: tor's name for it.
        accepted: True on the service's side, False on the dialler's.
        onion: the service's address without ".onion".
        relays: fingerprints from the guard to the rendezvous point, 40 hex digits each.
        username: the SOCKS user name that the circuit is reserved for, or an empty string.
        created: when tor created it, as text that sorts by time.
    """

    id: str
    accepted: bool
    onion: str
    relays: tuple[str, ...]
    username: str
    created: str

    @property
    def own_path(self) -> OwnPath:
        """The part of it that we may tell other parties."""
        return OwnPath(len(self.relays), self.relays[-1])

    def is_of(self, onion: str) -> bool:
        """Return whether it leads to, or from, this service."""
        return self.onion == service_id(onion)


def service_id(onion: str) -> str:
    """Return what tor calls a service: its address without ".onion"."""
    return onion.removesuffix(".onion")


def parse_circuits(text: str) -> list[JoinedCircuit]:
    """Return the joined rendezvous circuits in the answer to `GETINFO circuit-status`, oldest first."""
    found = (_parse_circuit(line) for line in text.splitlines() if line.strip())
    return sorted((circuit for circuit in found if circuit), key=lambda circuit: circuit.created)


def dialled_circuit(circuits: Iterable[JoinedCircuit], username: str) -> JoinedCircuit | None:
    """Return the circuit that was dialled with this SOCKS user name."""
    return _newest(circuit for circuit in circuits if not circuit.accepted and circuit.username == username)


def accepted_path(circuits: Iterable[JoinedCircuit], onion: str, rendezvous: str) -> OwnPath | None:
    """Return our part of the circuit of our service that joins at this relay.

    If two peers happen to meet us at the same relay, this is the newer circuit. Both are equally long, since the length
    follows from our own settings.
    """
    wanted = rendezvous.upper()
    found = _newest(
        circuit for circuit in circuits if circuit.accepted and circuit.is_of(onion) and circuit.relays[-1] == wanted
    )
    return found.own_path if found else None


def has_introductions(text: str, onion: str) -> bool:
    """Return whether our service has an introduction point, from the answer to `GETINFO circuit-status`."""
    events = (parse_event("CIRC", line) for line in text.splitlines() if line.strip())
    return any(
        (event.purpose, event.hs_state, event.rend_query) == (*INTRODUCING, service_id(onion))
        for event in events
        if event
    )


def is_service_circuit(text: str, onion: str) -> bool:
    """Return whether a CIRC or CIRC_MINOR event concerns a circuit that a peer may have joined to our service."""
    return f"PURPOSE={SERVICE}" in text and f"REND_QUERY={service_id(onion)}" in text


def _newest(circuits: Iterable[JoinedCircuit]) -> JoinedCircuit | None:
    return max(circuits, key=lambda circuit: circuit.created, default=None)


def _parse_circuit(line: str) -> JoinedCircuit | None:
    event = parse_event("CIRC", line)
    if event is None:
        return None
    if event.status != "BUILT" or not event.path or (event.purpose, event.hs_state) not in JOINED:
        return None
    return JoinedCircuit(
        event.id,
        event.purpose == SERVICE,
        event.rend_query or "",
        tuple(fingerprint.upper() for fingerprint, _ in event.path),
        event.keyword_args.get("SOCKS_USERNAME", ""),
        str(event.created or ""),
    )
