"""The composition root of a party: builds the roster by host, join or full list, and opens the session.

Tor stays behind a `Network` that the caller passes in. Mistakes in the user's options are found before a network is
needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from onionmpc.errors import AgreementError, OnionMPCError, PeerUnreachable, UsageError
from onionmpc.identity import Identity, Onion, check_roster
from onionmpc.mesh.door import Door
from onionmpc.mesh.network import Network
from onionmpc.mesh.pace import Throttle
from onionmpc.program.code.catalogue import Program
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.ask_host import ask_host
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.events import InviteReady, OtherVersion, Published, Trouble, UserInterface
from onionmpc.session.gather import Gathering
from onionmpc.session.invite import Invite
from onionmpc.session.local import Plan, check_parties
from onionmpc.session.messages import Terms
from onionmpc.session.own_terms import accept_terms, own_terms, program_of
from onionmpc.session.seating import Seating
from onionmpc.session.session import Objector, Session, SessionStart, never_started, open_session
from onionmpc.text import duration
from onionmpc.wire.handshake import HELLO_NONCE_BYTES, NO_PSK

PSK_BYTES = 32


class SessionParty:
    """One party of one session.

    Call `publish` before `host`, `join` or `join_listed`, or at the same time: none of them waits for the end of
    publishing. A party that only dials can continue at once, and its peers redial.

    Args:
        identity: this party's identity.
        plan: what this party wants to run.
        ui: shows events, and asks the user.
    """

    def __init__(self, identity: Identity, plan: Plan, ui: UserInterface) -> None:
        self._identity = identity
        self._plan = plan
        self._ui = ui
        self._nonce = secrets.token_bytes(HELLO_NONCE_BYTES)
        self._door = Door(identity, self._nonce, self._note_version)
        self._versions = Throttle()

    def _note_version(self, protocol: int) -> None:
        if self._versions.is_due(time.monotonic()):
            self._ui.tell(OtherVersion(protocol))

    def for_computation(self, plan: Plan, ui: UserInterface) -> SessionParty:
        """Return the same party, with its door and nonce, for a plan that says what stays at this party."""
        party = copy.copy(self)
        party._plan, party._ui = plan, ui  # noqa: SLF001 (of the same class)
        return party

    async def publish(self, network: Network, keys: Sequence[bytes]) -> None:
        """Let the peers find this party, until the network listens for another session.

        Args:
            keys: the discovery keys of this party's service; none lets anyone find it.

        Raises:
            TorError: see `Network.listen`.
        """
        await network.listen(self._door.serve, keys)
        self._ui.tell(Published(to_all=not keys))

    def open_seats(self, parties: int, expected: Sequence[Onion], *, is_open: bool) -> Gathering:
        """Check the plan for `host`, make and show the invites, and let joiners take seats from now on.

        Args:
            parties: m, this one included.
            expected: addresses that need no invite.
            is_open: whether other joiners need none either.
        """
        check_roster(expected, self._identity.onion)
        if len(expected) > max(0, parties - 1):
            raise UsageError(
                f"{len(expected)} parties are expected, but there are {max(0, parties - 1)} seats besides yours",
                hint=f"use parties={len(expected) + 1} to give each a seat",
            )
        own_terms(self._plan, [self._identity.onion], parties)
        seating = Seating(self._identity, parties, expected, is_open=is_open)
        for seat in seating.seats:
            if seat.invite is not None:
                self._ui.tell(InviteReady(seat.number, seat.invite))
        gathering = Gathering(seating, self._ui)
        self._door.gatekeeper = self._door.spent = gathering
        return gathering

    @contextlib.asynccontextmanager
    async def host(self, network: Network, gathering: Gathering) -> AsyncIterator[Session]:
        """Ask about the joiners until every seat is taken; keep the session with them during the block."""
        try:
            try:
                async with asyncio.timeout(self._plan.wait_s):
                    roster = await gathering.fill(network.admit)
            except TimeoutError as error:
                raise PeerUnreachable(
                    f"not all seats were taken within {duration(self._plan.wait_s)}",
                    hint="use wait_s= to give the others more time",
                ) from error
            keys = gathering.seating.keys_of_joiners()
            _unlock(network, keys)
            discovery = {str(onion): key.hex() for onion, key in keys.items()}
            common = own_terms(self._plan, roster, len(roster)).seating(gathering.seating.uninvited())
            terms = Terms(common, secrets.token_hex(PSK_BYTES), discovery)
            await gathering.send_terms(terms)
        finally:
            await gathering.leave()
        start = self._start_of(program_of(self._plan), common, bytes.fromhex(terms.psk), self._identity.onion)
        async with open_session(network, self._door, start) as session:
            yield session

    async def close_seats(self, gathering: Gathering) -> None:
        """Send away the joiners of a gathering, if `host` has not done so, and refuse those that still come."""
        if self._door.gatekeeper is gathering:
            self._door.gatekeeper = None
        await gathering.leave()

    def check_host(self, invite: Invite | Onion) -> None:
        """Check that `join` can take a seat at this host."""
        check_roster([invite.host if isinstance(invite, Invite) else invite], self._identity.onion)

    def keys_of_joiner(self, invite: Invite | Onion) -> list[bytes]:
        """Return the discovery keys of this party's service when it joins this host."""
        host = invite.host if isinstance(invite, Invite) else invite
        # The host derives this key too and sends it to the other parties. Our nonce limits it to this session.
        return [pair_key(self._identity, host, self._identity.onion, self._nonce)]

    @contextlib.asynccontextmanager
    async def join(self, network: Network, invite: Invite | Onion) -> AsyncIterator[Session]:
        """Ask a host for the roster; keep the session with its parties during the block."""
        host, psk = (invite.host, invite.psk()) if isinstance(invite, Invite) else (invite, NO_PSK)
        network.unlock(host, pair_key(self._identity, host, host) if psk == NO_PSK else seat_key(psk))
        wait_s = self._plan.wait_s
        terms = await ask_host(
            network, self._identity, host, psk, self._nonce, self._ui, wait_s, self._plan.timings.mesh
        )
        self._check_roster(terms.common, host)
        _unlock(network, self._keys_in(terms, host))
        session_psk = bytes.fromhex(terms.psk)
        try:
            program, common = accept_terms(self._plan, terms.common, self._identity.onion, host)
        except OnionMPCError as error:
            await self._object(network, terms.common, session_psk, host, error)
            raise
        start = self._start_of(program, common, session_psk, host)
        async with open_session(network, self._door, start) as session:
            yield session

    def full_list(self, others: Sequence[Onion]) -> SharedTerms:
        """Check a full list of the other parties and the plan; return the shared terms for `join_listed`."""
        roster = sorted([self._identity.onion, *check_roster(others, self._identity.onion)])
        return own_terms(self._plan, roster, len(roster))

    def keys_of_listed(self, common: SharedTerms) -> list[bytes]:
        """Return the discovery keys of this party's service in a full list."""
        return [pair_key(self._identity, onion, self._identity.onion) for onion in self._others(common)]

    @contextlib.asynccontextmanager
    async def join_listed(self, network: Network, common: SharedTerms) -> AsyncIterator[Session]:
        """Keep the session with the parties of a full list, without a host, during the block."""
        _unlock(network, {onion: pair_key(self._identity, onion, onion) for onion in self._others(common)})
        start = self._start_of(program_of(self._plan), common, NO_PSK, None)
        async with open_session(network, self._door, start) as session:
            yield session

    def _others(self, common: SharedTerms) -> list[Onion]:
        return [Onion(onion) for onion in common.addresses if onion != self._identity.onion]

    def _check_roster(self, theirs: SharedTerms, host: Onion) -> None:
        """Check the host's roster and threshold, as far as the parties need them to connect at all.

        The rest is checked in `_accept`: if that fails, this party connects once to tell the others why.
        """
        own = self._identity.onion
        if own not in theirs.addresses or host not in theirs.addresses:
            raise AgreementError("the host's roster lacks this party or the host")
        if theirs.addresses != tuple(sorted([own, *check_roster([o for o in theirs.addresses if o != own], own)])):
            raise AgreementError("the host's roster is not in order")
        check_parties(len(theirs.addresses), theirs.threshold, allow_no_privacy=True)

    def _keys_in(self, terms: Terms, host: Onion) -> dict[Onion, bytes]:
        """Return the discovery keys of the other joiners of a checked roster, and no others."""
        others = [Onion(onion) for onion in terms.common.addresses if onion not in (self._identity.onion, host)]
        try:
            return {onion: bytes.fromhex(terms.discovery[onion]) for onion in others}
        except KeyError as error:
            raise AgreementError("the host's terms lack the key to a party of the roster") from error

    async def _object(
        self, network: Network, theirs: SharedTerms, psk: bytes, host: Onion, objection: OnionMPCError
    ) -> None:
        """Connect on the host's terms, only to tell the waiting peers why this party objects."""
        self._ui.tell(Trouble(objection.message))
        start = replace(self._start_of(never_started(theirs), theirs, psk, host), ui=Objector(self._ui, objection))
        with contextlib.suppress(OnionMPCError):
            async with open_session(network, self._door, start) as session:
                await session.first()

    def _start_of(self, program: Program, common: SharedTerms, psk: bytes, host: Onion | None) -> SessionStart:
        return SessionStart(self._identity, self._nonce, psk, common, program, self._plan, self._ui, host)


def _unlock(network: Network, keys: Mapping[Onion, bytes]) -> None:
    for onion, key in keys.items():
        network.unlock(onion, key)
