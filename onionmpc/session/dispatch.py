"""Acts on each link event and each control message of a session.

Which message may come when is checked in onionmpc.session.peer; the steps of a session are in
onionmpc.session.computation. Rules: docs/PROTOCOL.md sections 3 and 4.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import msgspec

from onionmpc.errors import AgreementError, AuthenticationFailed, OnionMPCError, RemoteProtocolError, VersionDiffers
from onionmpc.identity import Onion
from onionmpc.mesh.mesh import MeshLink
from onionmpc.mesh.network import Network
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.secure import SecureStream
from onionmpc.program.process.hello import HelloGate, hello_bytes
from onionmpc.program.pump import Pump
from onionmpc.session.agreement import PartyTerms, circuits_of_link
from onionmpc.session.ending import Ending
from onionmpc.session.events import (
    DialRetry,
    Left,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    PeerDone,
    PeerQuiet,
    Proposed,
    Trouble,
    UserInterface,
)
from onionmpc.session.ledger import CircuitLedger, CircuitRecord
from onionmpc.session.messages import (
    AnyMessage,
    Done,
    Leaving,
    Moving,
    Offer,
    OwnSide,
    Rendezvous,
    Report,
    Verdict,
    Waiting,
)
from onionmpc.session.own_party import OwnParty
from onionmpc.session.own_terms import check_proposal
from onionmpc.session.peer import PeerSession, Phase
from onionmpc.session.peers import ConnectedPeer, Peers
from onionmpc.session.watch import ProgramWatch
from onionmpc.tasks import BackgroundTasks
from onionmpc.wire.link import ControlBytes, EpochEnd, Event, LinkClosed, ProgramBytes, ProgramEnd, RoundTrip


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one computation that messages of peers concern."""

    own: OwnParty
    peers: Peers
    ending: Ending
    watch: ProgramWatch


class Stage(enum.Enum):
    """How far this party has come in a computation, judged by what a peer may still do in it."""

    AGREEING = enum.auto()
    COMMITTED = enum.auto()  # bytes of the program may come
    OVER = enum.auto()  # all parties are done: nothing of this computation can fail any more


class Dispatcher:
    """The mesh observer of one session, for one computation after the other.

    The mesh numbers the parties of the session, and a computation those that take part in it.

    Args:
        background: runs work that takes too long for a callback.
        parts: those of the first computation.
        host: the only party that may propose further computations, None if all may.
    """

    def __init__(
        self, network: Network, ui: UserInterface, background: BackgroundTasks, parts: Parts, host: Onion | None
    ) -> None:
        self._network = network
        self._ui = ui
        self._background = background
        self._roster = parts.own.roster
        self._host = host
        self._levels: dict[Onion, PartyTerms] = {}  # what each peer stated in the first computation
        self._all: dict[Onion, ConnectedPeer] = {}  # as of its last computation, even if it has left
        self._use(parts)

    @property
    def is_over(self) -> bool:
        """True if nothing of the current computation can fail any more."""
        return self._stage is Stage.OVER

    def begin_next(self, parts: Parts) -> None:
        """Act for the next computation from now on: send its offer, and take what the peers have sent for it.

        If its terms replace those of another proposal, it is the same computation for the peers.
        """
        replaces, before = not self.is_over, self._ending
        self._use(parts)
        if replaces:
            self._ending.take_over(before)
        for onion, peer in list(self._all.items()):
            if onion in parts.own.roster:
                self._connect(parts.own.roster.index(onion), peer.session, peer.link, peer.ledger)
            elif peer.alive:
                # These terms leave it out. Without this, it would wait for a proposal until its patience ends.
                peer.runner.close(linger=True)
        for peer in self._peers:
            if not replaces:
                self._take_all(peer, peer.session.begin_next())
            elif peer.session.offer is not None:
                self._compare(peer, peer.session.offer)
            self._report_gone(peer)

    def _report_gone(self, peer: ConnectedPeer) -> None:
        """Report a peer that was gone when this computation began."""
        if peer.session.phase is Phase.LEFT:
            self._ending.report(peer.number, "left", "")
        elif peer.session.phase is Phase.ERROR:
            self._ending.report(peer.number, "protocol", "it broke the rules between two computations")
        elif not peer.alive:
            self._ending.report(peer.number, "lost", "it closed the link")

    def _use(self, parts: Parts) -> None:
        self._own, self._peers, self._ending, self._watch = parts.own, parts.peers, parts.ending, parts.watch
        self._stage = Stage.AGREEING
        self._numbers = {
            party: parts.own.roster.index(onion)
            for party, onion in enumerate(self._roster)
            if onion in parts.own.roster
        }

    def _connect(self, number: int, session: PeerSession, link: MeshLink, ledger: CircuitLedger) -> ConnectedPeer:
        own, shared = self._own.number, self._own.shared
        low, high = sorted((number, own))
        prss = "--no-prss" not in shared.mpyc_options
        size = hello_bytes(len(self._own.roster), shared.threshold, low, high, prss=prss)
        # Of the two parties of a link, only the lower one sends MPyC's hello (PROTOCOL 6).
        gate = partial(HelloGate, number, size if number == low else 0)
        pump = Pump(link.runner, gate, self._peers.changes)
        peer = ConnectedPeer(number, session, link, pump, ledger)
        self._all[self._own.roster[number]] = peer
        self._peers.add(peer)
        self._ending.note_heard(number)
        if peer.counts:
            peer.send(self._own.offer, *self._ending.reports_so_far())
        return peer

    # -- what happens to a link

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        """Show that a dial to a peer failed."""
        hint = "compare with that party who takes part" if failure.not_expected else ""
        if party in self._numbers:
            self._ui.tell(DialRetry(self._numbers[party], failure.reason, failure.again_in_s, hint))

    def link_up(self, party: int, link: MeshLink, nonce: bytes) -> None:
        """Set up the peer's session, and send it this party's offer."""
        session = PeerSession(nonce, receipt=self._own.shared.receipt)
        self._connect(party, session, link, CircuitLedger())
        self._ui.tell(LinkUp(party, len(self._peers), len(self._peers.numbers)))

    def link_broken(self, party: int, reason: str) -> None:
        """Show that a link has no stream."""
        if (peer := self._peer(party)) is not None:
            self._ui.tell(LinkBroken(peer.number, reason))

    def link_quiet(self, party: int, seconds: float) -> None:
        """Show that nothing arrives from a peer."""
        if (peer := self._peer(party)) is not None:
            self._ui.tell(PeerQuiet(peer.number, seconds))

    def link_resumed(self, party: int, seconds: float) -> None:
        """Show that a peer is back."""
        if (peer := self._peer(party)) is not None:
            peer.ledger.add_gap(seconds)
            self._ui.tell(LinkResumed(peer.number, seconds))

    def link_down(self, party: int, error: OnionMPCError) -> None:
        """Report why a link was given up, unless it has served its purpose."""
        if party not in self._numbers:
            return
        party = self._numbers[party]
        peer = self._peers.get(party)
        if peer is not None and self._is_through_with(peer):
            self._note_left(peer)
        elif isinstance(error, VersionDiffers):
            here, there = f"party {self._own.number}", f"party {party}"
            sentence = VersionDiffers(error.theirs, error.ours, there=there, here=here).message
            self._ending.report(party, "agreement", sentence)
        elif isinstance(error, AuthenticationFailed) and peer is None:
            self._ending.report(party, "refused", error.message)
        elif isinstance(error, RemoteProtocolError):
            self._ending.report(party, "protocol", error.message)
        else:
            self._ending.report(party, "lost", error.message)

    def link_event(self, party: int, event: Event) -> None:
        """Act on an event of a link."""
        if (peer := self._peer(party)) is None:
            return
        self._ending.note_heard(peer.number)
        if peer.session.phase is not Phase.ERROR:
            match event:
                case ProgramBytes() | EpochEnd() | ProgramEnd() if self._stage is not Stage.COMMITTED:
                    self._take_offence(peer, "it sent bytes of the program before the agreement")
                case ControlBytes(payload):
                    self._take_control(peer, payload)
                case RoundTrip(_, stream):
                    self._ending.note_answer(peer)
                    self._note_round_trip(peer, stream)
                case LinkClosed() if self._is_through_with(peer):
                    self._note_left(peer)
                case LinkClosed():
                    self._ending.report(peer.number, "lost", "it closed the link")
        self._peers.changes.notify()

    def allow_program_bytes(self) -> None:
        """Open the pumps to program bytes, now that this party has committed.

        This party's own commit is enough. A peer's program starts only when all have committed, but its bytes travel on
        the data channel and may overtake another peer's Commit on the control channel.
        """
        self._stage = Stage.COMMITTED
        for peer in self._peers:
            if peer.session.phase is not Phase.ERROR:
                peer.pump.open()

    def end_computation(self) -> None:
        """Close the pumps, now that all parties are done."""
        self._stage = Stage.OVER
        for peer in self._peers:
            peer.pump.shut()

    def _peer(self, party: int) -> ConnectedPeer | None:
        """Return the peer with this number in the session, None if it does not take part in this computation."""
        return None if party not in self._numbers else self._peers.get(self._numbers[party])

    def _is_through_with(self, peer: ConnectedPeer) -> bool:
        return peer.session.is_done and self._ending.step == "finish"

    def _note_left(self, peer: ConnectedPeer) -> None:
        """Note that a peer is gone, which is no failure: it has served its purpose in this computation."""
        # Not one that is ahead: its offer counts, so its end is a failure of the next computation.
        if peer.session.phase not in (Phase.LEFT, Phase.AHEAD, Phase.ERROR):
            peer.session.leave()
            self._ui.tell(Left(peer.number))
        self._peers.changes.notify()

    # -- control messages

    def _take_control(self, peer: ConnectedPeer, payload: bytes) -> None:
        self._take_all(peer, peer.session.receive(payload))

    def _take_all(self, peer: ConnectedPeer, messages: Iterator[AnyMessage]) -> None:
        try:
            for message in messages:
                self._take(peer, message)
        except RemoteProtocolError as error:
            self._take_offence(peer, error.message)

    def _take_offence(self, peer: ConnectedPeer, detail: str) -> None:
        """End the computation because a peer broke the rules. If it is over, go on without that peer."""
        if not self.is_over:
            self._ending.report_offence(peer, detail)
            return
        peer.session.fail()
        peer.runner.close(linger=True)
        self._ui.tell(Trouble(f"party {peer.number} broke the rules: {detail}"))
        self._ui.tell(Left(peer.number))

    def _take(self, peer: ConnectedPeer, message: AnyMessage) -> None:
        match message:
            case Offer():
                self._take_offer(peer, message)
            case Leaving():
                self._take_leave(peer)
            case Rendezvous(stream, fingerprint):
                if (record := peer.ledger.note_rendezvous(stream)) is not None:
                    self._background.start(self._find_own_half(peer, record, fingerprint))
            case OwnSide():
                if (record := peer.ledger.note_claim(message)) is not None:
                    self._show(peer, record)
            case Waiting() | Moving():
                self._watch.take(peer.number, message)
            case Done():
                self._ui.tell(PeerDone(peer.number))
            case Report() if self.is_over:
                # Its computation failed, although ours did not. It ends now.
                peer.runner.close(linger=True)
                self._note_left(peer)
            case Report():
                self._ending.take_report(peer, message)
            case Verdict():
                self._ending.take_verdict(peer, message)

    def _take_leave(self, peer: ConnectedPeer) -> None:
        if self._is_through_with(peer):
            self._ui.tell(Left(peer.number))
            # It has all that we sent: nobody needs to dial it again.
            peer.runner.close(linger=True)
        else:
            self._ending.report(peer.number, "left", "")

    def _take_offer(self, peer: ConnectedPeer, offer: Offer) -> None:
        onion = self._own.roster[peer.number]
        if not offer.has_its_digest():
            raise RemoteProtocolError("it showed other evidence than its terms say")
        if offer.is_proposal(onion):
            self._check_proposer(offer)
            check_proposal(offer.common, self._own.identity.onion, onion, self._roster)
        if peer.session.phase is not Phase.AHEAD:
            self._compare(peer, offer)
        elif offer.is_proposal(onion):
            self._ui.tell(Proposed(peer.number, offer.common.program))

    def _check_proposer(self, offer: Offer) -> None:
        """Check that the proposer of a further offer may propose."""
        if self._host is not None and offer.further is not None and offer.further.proposer != self._host:
            raise RemoteProtocolError("it offered terms that the host did not propose")

    def _compare(self, peer: ConnectedPeer, offer: Offer) -> None:
        self._check_proposer(offer)
        if not self._own.has_same_proposer(offer):
            return  # one of two crossed proposals: this peer, or this party, will take the other
        levels = msgspec.structs.replace(offer.own, distributions=msgspec.UNSET, evidence=msgspec.UNSET)
        if self._levels.setdefault(self._own.roster[peer.number], levels) != levels:
            self._ending.report(peer.number, "agreement", "it changed its circuit length within the session")
            return
        try:
            self._own.compare(offer, peer.number)
        except AgreementError as error:
            self._ending.report(peer.number, "agreement", error.message)
            return
        if offer.further is not None:
            return
        raced = circuits_of_link(self._own.shared, self._own.terms, offer.own)
        if raced > 1:
            peer.ledger.start_race()
            peer.link.race.widen(raced)

    # -- the circuit below each stream

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        """Record a circuit, and this party's half of it if this party dialled."""
        if (peer := self._peer(party)) is not None:
            peer.ledger.open(secure.number, secure.stream.path, dialled=dialled)

    def stream_down(self, party: int, secure: SecureStream) -> None:
        """Drop the record of a circuit that is gone."""
        if (peer := self._peer(party)) is not None:
            peer.ledger.close(secure.number)

    def link_raced(self, party: int, streams: int) -> None:
        """Show which circuit is the fastest."""
        if (peer := self._peer(party)) is not None:
            peer.ledger.end_race(streams)
            self._show(peer, peer.ledger.fastest(peer.runner.link.best))

    def _note_round_trip(self, peer: ConnectedPeer, stream: int) -> None:
        record = peer.ledger.note_round_trip(stream)
        if record is not None:
            # Not before a round trip: only then does the listener surely know this stream. Control messages may take
            # another stream, and arrive before this one is attached there.
            self._introduce(peer, *record.introduction())
            self._show(peer, record)

    async def _find_own_half(self, peer: ConnectedPeer, record: CircuitRecord, fingerprint: str) -> None:
        record.path = await self._network.accepted_path(fingerprint)
        if record.path is not None:
            self._introduce(peer, OwnSide(record.stream, record.path.relays))
            self._show(peer, record)

    def _introduce(self, peer: ConnectedPeer, *words: Rendezvous | OwnSide) -> None:
        if peer.alive:
            peer.send(*words)

    def _show(self, peer: ConnectedPeer, record: CircuitRecord) -> None:
        """Show what is known of a circuit, if it is the one that the screen shows for its link."""
        if peer.shows(record):
            link = peer.summary()
            self._ui.tell(
                LinkMeasured(peer.number, link.own_relays, link.claimed_relays, link.round_trip_s, link.raced)
            )
