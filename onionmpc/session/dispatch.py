"""Acts on each link event and each control message of a session.

Which message may come when is checked in onionmpc.session.peer; the steps of a session are in
onionmpc.session.computation. Rules: docs/PROTOCOL.md sections 3 and 4.
"""

from __future__ import annotations

from functools import partial

from onionmpc.errors import AgreementError, AuthenticationFailed, OnionMPCError, RemoteProtocolError, VersionDiffers
from onionmpc.mesh.mesh import MeshLink
from onionmpc.mesh.network import Network
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.secure import SecureStream
from onionmpc.program.process.hello import HelloGate, hello_bytes
from onionmpc.program.pump import Pump
from onionmpc.session.agreement import circuits_of_link
from onionmpc.session.ending import Ending
from onionmpc.session.events import (
    DialRetry,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    PeerDone,
    PeerQuiet,
    UserInterface,
)
from onionmpc.session.ledger import CircuitLedger, CircuitRecord
from onionmpc.session.messages import AnyMessage, Done, Moving, Offer, OwnSide, Rendezvous, Report, Verdict, Waiting
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peer import PeerSession, Phase
from onionmpc.session.peers import ConnectedPeer, Peers
from onionmpc.session.watch import ProgramWatch
from onionmpc.tasks import BackgroundTasks
from onionmpc.wire.link import ControlBytes, EpochEnd, Event, LinkClosed, ProgramBytes, ProgramEnd, RoundTrip


class Dispatcher:
    """The mesh observer of one session.

    Args:
        background: runs work that takes too long for a callback.
    """

    def __init__(
        self,
        own: OwnParty,
        network: Network,
        peers: Peers,
        ending: Ending,
        watch: ProgramWatch,
        ui: UserInterface,
        background: BackgroundTasks,
    ) -> None:
        self._program_bytes_allowed = False
        self._own = own
        self._network = network
        self._peers = peers
        self._ending = ending
        self._watch = watch
        self._ui = ui
        self._background = background

    # -- what happens to a link

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        """Show that a dial to a peer failed."""
        hint = "compare with that party who takes part" if failure.not_expected else ""
        self._ui.tell(DialRetry(party, failure.reason, failure.again_in_s, hint))

    def link_up(self, party: int, link: MeshLink, nonce: bytes) -> None:
        """Set up the peer's session, and send it this party's offer."""
        own, shared = self._own.number, self._own.shared
        low, high = sorted((party, own))
        prss = "--no-prss" not in shared.mpyc_options
        size = hello_bytes(len(self._own.roster), shared.threshold, low, high, prss=prss)
        # Of the two parties of a link, only the lower one sends MPyC's hello (PROTOCOL 6).
        pump = Pump(link.runner, partial(HelloGate, party, size if party == low else 0))
        session = PeerSession(nonce, receipt=shared.receipt)
        peer = ConnectedPeer(party, session, link, pump, CircuitLedger())
        self._peers.add(peer)
        self._ending.note_heard(party)
        peer.send(self._own.offer, *self._ending.reports_so_far())
        self._ui.tell(LinkUp(party, len(self._peers), len(self._peers.numbers)))

    def link_broken(self, party: int, reason: str) -> None:
        """Show that a link has no stream."""
        self._ui.tell(LinkBroken(party, reason))

    def link_quiet(self, party: int, seconds: float) -> None:
        """Show that nothing arrives from a peer."""
        self._ui.tell(PeerQuiet(party, seconds))

    def link_resumed(self, party: int, seconds: float) -> None:
        """Show that a peer is back."""
        self._peers[party].ledger.add_gap(seconds)
        self._ui.tell(LinkResumed(party, seconds))

    def link_down(self, party: int, error: OnionMPCError) -> None:
        """Report why a link was given up, unless it has served its purpose."""
        peer = self._peers.get(party)
        if peer is not None and self._is_through_with(peer):
            self._peers.changes.notify()
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
        peer = self._peers[party]
        self._ending.note_heard(party)
        if peer.session.phase is not Phase.ERROR:
            match event:
                case ProgramBytes() | EpochEnd() | ProgramEnd() if not self._program_bytes_allowed:
                    self._ending.report_offence(peer, "it sent bytes of the program before the agreement")
                case ControlBytes(payload):
                    self._take_control(peer, payload)
                case RoundTrip(_, stream):
                    self._ending.note_answer(peer)
                    self._note_round_trip(peer, stream)
                case LinkClosed() if not self._is_through_with(peer):
                    self._ending.report(party, "lost", "it closed the link")
        self._peers.changes.notify()

    def allow_program_bytes(self) -> None:
        """Open the pumps to program bytes, now that this party has committed.

        This party's own commit is enough. A peer's program starts only when all have committed, but its bytes travel on
        the data channel and may overtake another peer's Commit on the control channel.
        """
        self._program_bytes_allowed = True
        for peer in self._peers:
            if peer.session.phase is not Phase.ERROR:
                peer.pump.open()

    def _is_through_with(self, peer: ConnectedPeer) -> bool:
        return peer.session.is_done and self._ending.step == "finish"

    # -- control messages

    def _take_control(self, peer: ConnectedPeer, payload: bytes) -> None:
        try:
            for message in peer.session.receive(payload):
                self._take(peer, message)
        except RemoteProtocolError as error:
            self._ending.report_offence(peer, error.message)

    def _take(self, peer: ConnectedPeer, message: AnyMessage) -> None:
        match message:
            case Offer():
                self._compare(peer, message)
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
            case Report():
                self._ending.take_report(peer, message)
            case Verdict():
                self._ending.take_verdict(peer, message)

    def _compare(self, peer: ConnectedPeer, offer: Offer) -> None:
        try:
            self._own.compare(offer, peer.number)
        except AgreementError as error:
            self._ending.report(peer.number, "agreement", error.message)
            return
        raced = circuits_of_link(self._own.shared, self._own.terms, offer.own)
        if raced > 1:
            peer.ledger.start_race()
            peer.link.race.widen(raced)

    # -- the circuit below each stream

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        """Record a circuit, and this party's half of it if this party dialled."""
        self._peers[party].ledger.open(secure.number, secure.stream.path, dialled=dialled)

    def stream_down(self, party: int, secure: SecureStream) -> None:
        """Drop the record of a circuit that is gone."""
        self._peers[party].ledger.close(secure.number)

    def link_raced(self, party: int, streams: int) -> None:
        """Show which circuit is the fastest."""
        peer = self._peers[party]
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
