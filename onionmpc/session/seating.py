"""A host's seats: who may take which seat, and with which invite. No links and no clock.

Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from onionmpc.errors import InvalidAddress
from onionmpc.identity import Identity, Onion, check_roster, public_keys_from_onion
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.invite import SECRET_BYTES, Invite
from onionmpc.wire.handshake import NO_PSK

# Replaced invites are remembered, to tell them from invites that never existed. This is more than MPyC has parties, and
# more joiners than a user refuses.
REMEMBERED_INVITES = 512


@dataclass(slots=True, eq=False)
class HostSeat:
    """One place at the host.

    Attributes:
        number: from 1; the host itself has no seat.
        invite: the invite for this seat; None for a seat that needs no invite.
        psk: the pre-shared key that its invite gives, NO_PSK without one.
        expected: the only address that may take it, None for any.
        holder: the address that has taken it.
        nonce: the holder's nonce, 16 bytes, which stays the same as long as that party runs.
        confirmed: whether the user at the host has admitted the holder.
    """

    number: int
    invite: Invite | None = None
    psk: bytes = field(default=NO_PSK, repr=False)
    expected: Onion | None = None
    holder: Onion | None = None
    nonce: bytes = b""
    confirmed: bool = False

    @property
    def only_for(self) -> Onion | None:
        """The one address that may take this seat now, None for any."""
        return self.holder or self.expected

    def is_for(self, onion: Onion, psk: bytes) -> bool:
        """Return whether this identity may take the seat with this psk."""
        return self.only_for in (None, onion) and psk == self.psk


class Seating:
    """All seats of one session.

    Args:
        identity: the host's identity.
        parties: m, the host included.
        expected: addresses that need no invite, one seat each.
        is_open: whether the other seats need no invite either.
    """

    def __init__(self, identity: Identity, parties: int, expected: Sequence[Onion], *, is_open: bool) -> None:
        self._identity = identity
        self._refused: set[tuple[Onion, bytes]] = set()
        self._seat_of_psk: dict[bytes, HostSeat] = {}
        self.seats = tuple(HostSeat(number) for number in range(1, parties))
        for seat, onion in zip(self.seats, expected, strict=False):
            seat.expected = onion
        for seat in self.seats:
            if seat.expected is None and not is_open:
                self.invite_to(seat)

    @property
    def parties(self) -> int:
        """The number of parties that the session is for, the host included."""
        return 1 + len(self.seats)

    @property
    def taken(self) -> int:
        """The number of parties that are here and admitted, the host included."""
        return 1 + sum(seat.confirmed for seat in self.seats)

    @property
    def is_full(self) -> bool:
        """True if all parties are here."""
        return self.taken == self.parties

    def roster(self) -> tuple[Onion, ...]:
        """Return the addresses of the parties that are here, the host included, in party order."""
        return tuple(sorted([self._identity.onion, *(seat.holder for seat in self.seats if seat.holder)]))

    def uninvited(self) -> frozenset[Onion]:
        """Return the addresses of the parties that took a seat which was open to anyone."""
        free = (seat for seat in self.seats if seat.invite is None and seat.expected is None)
        return frozenset(seat.holder for seat in free if seat.holder is not None)

    def keys(self) -> list[bytes]:
        """Return the discovery keys of the host's service; none if anyone may find it."""
        keys = []
        for seat in self.seats:
            if seat.expected is not None:
                keys.append(pair_key(self._identity, seat.expected, self._identity.onion))
            elif seat.invite is not None:
                keys.append(seat_key(seat.psk))
            else:
                return []
        return keys

    def keys_of_joiners(self) -> dict[Onion, bytes]:
        """Return the discovery keys of the holders' services, for this session."""
        return {
            seat.holder: pair_key(self._identity, seat.holder, seat.holder, seat.nonce)
            for seat in self.seats
            if seat.holder is not None
        }

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """Return the psks of the seats that are free, or held by the party with this X25519 key."""
        return [
            seat.psk
            for seat in self.seats
            if seat.only_for is None or public_keys_from_onion(seat.only_for).x25519 == static_key
        ]

    def seat_for(self, onion: Onion, psk: bytes) -> HostSeat | None:
        """Return the seat that this identity may take with this psk, or None."""
        if (onion, psk) in self._refused:
            return None
        others = [seat.holder for seat in self.seats if seat.holder is not None and seat.holder != onion]
        try:
            check_roster([onion, *others], self._identity.onion)
        except InvalidAddress:
            return None
        # A holder gets its own seat again, and no second seat with a second invite.
        own = self.held_by(onion)
        fitting = [seat for seat in ([own] if own else self.seats) if seat.is_for(onion, psk)]
        # An expected party gets the seat that is kept for it before an open seat.
        return min(fitting, key=lambda seat: seat.expected is None, default=None)

    def held_by(self, onion: Onion) -> HostSeat | None:
        """Return the seat that this identity has taken."""
        return next((seat for seat in self.seats if seat.holder == onion), None)

    def refuse(self, onion: Onion, psk: bytes) -> None:
        """Refuse this identity any seat with this psk from now on."""
        self._refused.add((onion, psk))

    def invite_to(self, seat: HostSeat) -> Invite:
        """Replace a seat's invite by a new one, and return that."""
        seat.invite = Invite(self._identity.onion, secrets.token_bytes(SECRET_BYTES))
        seat.psk = seat.invite.psk()
        self._seat_of_psk[seat.psk] = seat
        if len(self._seat_of_psk) > REMEMBERED_INVITES:
            del self._seat_of_psk[next(iter(self._seat_of_psk))]
        return seat.invite

    def all_psks(self) -> Sequence[bytes]:
        """Return the psks of all invites, replaced ones included."""
        return list(self._seat_of_psk)

    def invited_by(self, psk: bytes) -> HostSeat:
        """Return the seat that the invite with this psk is, or was, for."""
        return self._seat_of_psk[psk]
