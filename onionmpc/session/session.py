"""All computations of the same parties, one after the other, over the same links.

Each has an agreement of its own; onionmpc.session.computation runs one. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from onionmpc.errors import OTHERS_GONE, AgreementError, OnionMPCError, SessionOver
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import Network
from onionmpc.program.code.attached import NOTHING
from onionmpc.program.code.catalogue import Program, distributions
from onionmpc.session.agreed_options import AGREED_OPTIONS, Choice
from onionmpc.session.agreement import PartyTerms, SharedTerms
from onionmpc.session.computation import Computation, SessionResult
from onionmpc.session.dispatch import Dispatcher
from onionmpc.session.events import ConsentQuestion, PrivateInputs, Proposed, RosterKnown, Trouble, UserInterface
from onionmpc.session.local import Plan, max_circuits
from onionmpc.session.messages import Leaving, Offer, digest_in_terms
from onionmpc.session.own_party import OwnParty
from onionmpc.session.own_terms import accept_terms, own_terms, program_of
from onionmpc.session.peer import Phase
from onionmpc.session.peers import ConnectedPeer
from onionmpc.tasks import BackgroundTasks
from onionmpc.wire.handshake import HELLO_NONCE_BYTES

FIXED_OPTIONS = tuple(option for option in AGREED_OPTIONS if option.for_session)
# A plan with these takes the proposer's values.
OPEN_WISHES: Mapping[str, Any] = {option.wish: None for option in AGREED_OPTIONS if option.choice is Choice.HOST}


@dataclass(frozen=True, slots=True)
class SessionStart:
    """How a session begins.

    Attributes:
        identity: this party's identity.
        nonce: sent in every handshake of this session, 16 bytes.
        psk: the session's pre-shared key, 32 bytes.
        common: the shared terms of the first computation, as this party sees them; its addresses are the roster.
        program, plan, ui: what this party brings to the first computation.
        host: the party that proposes, None in a full list, where all may.
    """

    identity: Identity
    nonce: bytes
    psk: bytes
    common: SharedTerms
    program: Program
    plan: Plan
    ui: UserInterface
    host: Onion | None


@contextlib.asynccontextmanager
async def open_session(network: Network, door: Door, start: SessionStart) -> AsyncIterator[Session]:
    """Keep the links of a session during the block. At its end, this party leaves.

    Args:
        door: receives streams of this party's onion service; from here on the mesh is its gatekeeper.
    """
    plan, common = start.plan, start.common
    terms = PartyTerms(
        network.level,
        plan.min_circuit_length,
        max_circuits(plan, network.level),
        distributions(start.program, plan.attached),
        digest_in_terms(plan.evidence),
    )
    own = OwnParty(start.identity, start.nonce, common, terms, start.program, plan)
    computation = Computation(own, start.ui)
    async with BackgroundTasks() as background:
        dispatcher = Dispatcher(network, start.ui, background, computation.parts, start.host)
        mesh = Mesh(
            network,
            start.identity,
            own.roster,
            start.psk,
            start.nonce,
            dispatcher,
            plan.patience_s,
            common.padding_rate,
            plan.timings.mesh,
        )
        door.gatekeeper = mesh
        start.ui.tell(RosterKnown(own.roster, own.number))
        async with mesh.running(plan.wait_s):
            session = Session(own, start.host, computation, dispatcher)
            wait_s = plan.timings.goodbye_s
            try:
                yield session
                # A link may have just lost its stream: leave time to dial again.
                wait_s = min(plan.timings.farewell_s, plan.patience_s)
            finally:
                # Also after Ctrl-C between two computations: the others would wait for this party to come back.
                await session.leave(wait_s)


class Session:
    """The computations of one party with the same others.

    Args:
        own: this party, in the first computation.
        host: the party that proposes, None if all may.
        first: the first computation.
        dispatcher: acts for one computation after the other.
    """

    def __init__(self, own: OwnParty, host: Onion | None, first: Computation, dispatcher: Dispatcher) -> None:
        self._own = own
        self._host = host
        self._fixed: Mapping[str, Any] = {option.term: getattr(own.shared, option.term) for option in FIXED_OPTIONS}
        self._uninvited = own.shared.strangers
        self._computation = first
        self._dispatcher = dispatcher

    async def first(self) -> SessionResult:
        """Run the first computation.

        Raises:
            OnionMPCError: it failed, and the session with it; see `Computation.run`.
        """
        result = await self._computation.run(self._dispatcher)
        assert isinstance(result, SessionResult)  # noqa: S101 (nobody proposes before the first agreement)
        return result

    async def next(self, plan: Plan, ui: UserInterface) -> SessionResult:
        """Run another computation: of this party's plan, or what another party proposes.

        A host proposes, and its joiners wait for that. In a full list, a party proposes unless another one has.

        Raises:
            SessionOver: nobody is left who could propose, or take part.
            OnionMPCError: it failed, and the session with it; see `Computation.run`.
        """
        if not self.follows:
            next_own = self._proposing(plan)
        else:
            next_own, ui = self._following(await self._proposal(), plan, ui)
        while True:
            roster_changed = next_own.roster != self._own.roster
            self._own, self._computation = next_own, Computation(next_own, ui)
            if roster_changed:
                ui.tell(RosterKnown(next_own.roster, next_own.number))
            self._dispatcher.begin_next(self._computation.parts)
            result = await self._computation.run(self._dispatcher)
            if isinstance(result, SessionResult):
                return result
            next_own, ui = self._following(result, plan, ui)

    async def proposed(self) -> Proposed:
        """Wait until another party proposes the next computation.

        Raises:
            SessionOver: nobody is left who could propose, or take part.
        """
        offer = await self._proposal()
        assert offer.further is not None  # noqa: S101 (a proposal)
        return Proposed(self._own.roster.index(Onion(offer.further.proposer)), offer.common.program)

    @property
    def follows(self) -> bool:
        """Whether another party proposes the next computation: the host, or one of a full list that has done so."""
        return self._host not in (None, self._own.identity.onion) or bool(self._proposals())

    @property
    def present(self) -> tuple[int, ...]:
        """The numbers of the other parties that have not left, as in the last computation."""
        return tuple(peer.number for peer in self._here())

    async def leave(self, wait_s: float) -> None:
        """Tell the others that this party takes part in no further computation, and close all links.

        They know it already if a computation failed or was cancelled. Its links are closed, except for late ones.

        Args:
            wait_s: how long to wait until the others have acknowledged it, in seconds.
        """
        peers = self._computation.parts.peers
        if self._dispatcher.is_over:
            peers.broadcast(Leaving())
        await peers.close_when_flushed(wait_s)

    # -- who proposes

    def _here(self) -> list[ConnectedPeer]:
        """Return the peers that have not left."""
        return [peer for peer in self._computation.parts.peers if peer.counts and peer.session.phase is not Phase.LEFT]

    def _proposals(self) -> list[Offer]:
        """Return the proposals that have arrived, that of the lowest party first."""
        found = []
        for peer in self._here():
            onion, offer = self._own.roster[peer.number], peer.session.next_offer
            if self._host in (None, onion) and offer is not None and offer.is_proposal(onion):
                found.append(offer)
        return found

    async def _proposal(self) -> Offer:
        """Wait for a proposal.

        Raises:
            SessionOver: the party that could make it has left.
        """
        await self._computation.parts.peers.changes.until(lambda: bool(self._proposals()) or self._is_over())
        if not (proposals := self._proposals()):
            own = self._own.identity.onion
            if self._host in (None, own):
                raise SessionOver(OTHERS_GONE)
            raise SessionOver("the host has left, so there is no further computation")
        return proposals[0]

    def _is_over(self) -> bool:
        here = [self._own.roster[peer.number] for peer in self._here()]
        return not here or self._host not in (None, self._own.identity.onion, *here)

    # -- its terms

    def _proposing(self, plan: Plan) -> OwnParty:
        """Return this party in a computation that it proposes to those who are still here."""
        onion = self._own.identity.onion
        roster = sorted([onion, *(self._own.roster[peer.number] for peer in self._here())])
        if len(roster) == 1:
            raise SessionOver(OTHERS_GONE)
        common = msgspec.structs.replace(own_terms(plan, roster, len(roster)), **self._fixed)
        common = common.seating(self._uninvited)
        return self._in_next(plan, program_of(plan), common, onion)

    def _following(self, offer: Offer, plan: Plan, ui: UserInterface) -> tuple[OwnParty, UserInterface]:
        """Return this party in a computation that another one proposes, and the interface that may refuse it."""
        assert offer.further is not None  # noqa: S101 (a proposal)
        own, theirs, proposer = self._own.identity.onion, offer.common, Onion(offer.further.proposer)
        if self._host is None:
            # What this party wished was for its own proposal. Its user is asked about this one.
            plan = replace(plan, **OPEN_WISHES)
        try:
            self._check_fixed(theirs)
            if plan.program is not None and plan.program.name != theirs.program:
                # Not what this party has chosen: one that comes with onionmpc, or none.
                plan = replace(plan, program=None, attached=NOTHING, private=())
            program, common = accept_terms(plan, theirs, own, proposer)
        except OnionMPCError as error:
            # Take part on these terms, only to tell the others why this party objects.
            ui.tell(Trouble(error.message))
            return self._in_next(plan, never_started(theirs), theirs, proposer), Objector(ui, error)
        return self._in_next(plan, program, common, proposer), ui

    def _check_fixed(self, theirs: SharedTerms) -> None:
        for option in FIXED_OPTIONS:
            before, after = self._fixed[option.term], getattr(theirs, option.term)
            if before != after:
                raise AgreementError(f"{option.name}: {after}, but it stays {before} for the whole session")
        if theirs.strangers != self._uninvited.intersection(theirs.addresses):
            raise AgreementError("the uninvited parties are not those of the first computation")

    def _in_next(self, plan: Plan, program: Program, common: SharedTerms, proposer: Onion) -> OwnParty:
        return OwnParty(
            self._own.identity,
            secrets.token_bytes(HELLO_NONCE_BYTES),
            common,
            msgspec.structs.replace(self._own.terms, distributions=distributions(program, plan.attached)),
            program,
            replace(plan, timings=self._own.plan.timings, evidence=self._own.plan.evidence),
            proposer,
        )


class Objector:
    """A user interface that refuses every agreement, for a party that has an objection."""

    def __init__(self, ui: UserInterface, objection: OnionMPCError) -> None:
        self._objection = objection
        self.tell = ui.tell
        self.admits = ui.admits

    async def consents(self, _question: ConsentQuestion) -> PrivateInputs | None:
        """Refuse, with the objection as the reason."""
        raise AgreementError(self._objection.message)


def never_started(terms: SharedTerms) -> Program:
    """Return a stand-in for the program of terms that this party refuses."""
    return Program(terms.program, Path(), Path())
