"""One computation, once the roster is known: mesh, agreement, program, end.

Knows the order of the steps and what each control message means in it. Does not know how the roster came about, nor
which Network carries the streams. Rules: docs/PROTOCOL.md sections 3 and 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    OnionMPCError,
    PeerError,
    ProgramError,
    RemoteProtocolError,
    UsageError,
    VersionDiffers,
)
from onionmpc.files import write_private
from onionmpc.identity import Identity, Onion
from onionmpc.machine import explaining
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh
from onionmpc.mesh.network import Network, OwnPath
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.program.catalogue import Program, code_of, distributions, explain_difference
from onionmpc.program.hello import HelloGate, hello_bytes
from onionmpc.program.launch import ProgramExit, start_program
from onionmpc.program.pump import Pump
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreement import (
    Agreement,
    Common,
    Own,
    check_equal,
    check_floors,
    circuits_of_link,
    session_id,
)
from onionmpc.session.ending import GOODBYE_S, Ending
from onionmpc.session.events import (
    Agreed,
    DialRetry,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    PeerDone,
    PeerQuiet,
    Person,
    ProgramEnded,
    ReceiptWritten,
    RosterKnown,
    Rounding,
    Signing,
)
from onionmpc.session.local import Plan, max_circuits
from onionmpc.session.marks import Marks
from onionmpc.session.messages import (
    AnyMessage,
    Cause,
    Commit,
    Done,
    Moving,
    Offer,
    OwnSide,
    Rendezvous,
    Report,
    Signed,
    Verdict,
    Waiting,
    encode_message,
)
from onionmpc.session.peers import Circuit, Peer, Peers
from onionmpc.session.receipt import SALT_BYTES, Opening, Receipt, Signature, check_signed, encode_receipt, sign
from onionmpc.session.watch import ProgramWatch
from onionmpc.tasks import Beside, cancel
from onionmpc.text import duration
from onionmpc.wire.link import ControlBytes, Event, LinkClosed, ProgramBytes, ProgramEnd, RoundTrip

# How long a party that has its result stays for those who have not acknowledged that they know of it: long enough to
# dial them anew a few times. Whoever is still there after that has most likely all it needs.
FAREWELL_S = 60.0
# A program that waits for its peers says so after this time: longer than any round trip that we know of takes, so that
# nothing is said in a round.
WAITING_S = 5.0


@dataclass(frozen=True, slots=True)
class LinkSummary:
    """What is known of a link at the end; see `LinkMeasured`. Gaps are times without a stream, and their seconds."""

    own_relays: int | None
    claimed_relays: int | None
    round_trip_s: float | None
    raced: int
    gaps: int
    gap_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """A computation that ended well at all parties.

    Attributes:
        own: what each party said of itself, in party order.
        links: by the peer's number.
        connect_s, agree_s, run_s: seconds that the steps took.
        receipt: what was signed in the end, if that was agreed.
        receipt_flaw: what is wrong with it: a signature that it lacks, or that it could not be written.
        output_flaw: what is wrong with the program's output at this party alone.
    """

    session: bytes
    own_number: int
    own: tuple[Own, ...]
    links: dict[int, LinkSummary]
    connect_s: float
    agree_s: float
    run_s: float
    receipt: Receipt | None = None
    receipt_flaw: OnionMPCError | None = None
    output_flaw: OnionMPCError | None = None


class Computation:
    """Runs one computation; an Observer of its mesh.

    Args:
        identity: ours.
        nonce: what we say in every handshake of this session, 16 bytes.
        common: the common fields as this party sees them; its addresses are the roster.
        psk: the session's pre-shared key, 32 bytes.
        plan: what this party wants.
        person: sees events, and consents.
    """

    def __init__(
        self,
        network: Network,
        identity: Identity,
        nonce: bytes,
        common: Common,
        psk: bytes,
        program: Program,
        plan: Plan,
        person: Person,
    ) -> None:
        self._network = network
        self._identity = identity
        self._nonce = nonce
        self._common = common
        self._own = Own(
            network.level,
            plan.min_circuit_length,
            max_circuits(plan, network.level),
            distributions(program, plan.attached),
        )
        self._program = program
        self._plan = plan
        self._person = person
        roster = [Onion(address) for address in common.addresses]
        self._mesh = Mesh(network, identity, roster, psk, nonce, self, plan.patience_s, common.padding_rate)
        self._peers = Peers(self._mesh.peers)
        self._ending = Ending(self._mesh.roster, self._mesh.own_number, self._peers, person)
        self._watch = ProgramWatch(self._mesh.own_number, self._peers, self._ending, person, common.files, plan)
        self._committed = False
        self._agreed_at = 0.0
        self._background: Beside | None = None

    async def run(self, door: Door) -> Result:
        """Connect, agree, run the program and end together with the others.

        Args:
            door: of our onion service; its keeper is the mesh from now on.

        Raises:
            OnionMPCError: what ended the session, told the same way at every party that could be reached.
        """
        self._person.tell(RosterKnown(self._mesh.roster, self._mesh.own_number))
        door.keeper = self._mesh
        async with self._mesh.running(self._plan.wait_s), Beside() as self._background:
            return await self._run()

    async def _run(self) -> Result:
        driving = asyncio.create_task(self._drive())
        failing = asyncio.create_task(self._peers.until(lambda: self._ending.begun))
        try:
            await asyncio.wait([driving, failing], return_when=asyncio.FIRST_COMPLETED)
            return await self._end(driving)
        except OnionMPCError:
            raise
        except BaseException:  # Ctrl-C, or something of ours failed beside us: the others are to hear of it
            await _stop(driving)
            # Where all are done nobody can miss us, and most of them have their result and are about to end as well.
            if not all(map(self._is_through_with, self._peers)):
                await self._ending.say_goodbye()
            raise
        finally:
            try:
                await cancel(driving, failing)
            finally:
                await self._peers.close_when_flushed(GOODBYE_S)

    async def _end(self, driving: asyncio.Task[Result]) -> Result:
        if not self._ending.begun:
            try:
                result = driving.result()
            except OnionMPCError as error:
                self._ending.report_own(error)
            else:
                if result.receipt is not None:
                    result = await self._exchange_signatures(result, result.receipt)
                await self._fill_bucket()
                # A link may have lost its stream in the last moment: stay until all know that we are done.
                await self._peers.close_when_flushed(min(FAREWELL_S, self._plan.patience_s))
                return result
        await self._ending.hear_out_programs()
        await _stop(driving)
        await self._ending.end_together()
        raise self._ending.error()

    # -- the steps of a session that goes well

    async def _drive(self) -> Result:
        started = time.monotonic()
        await self._wait_for(
            lambda: all(peer.alive and peer.offer for peer in self._peers),
            lambda peer: peer.offer is None,
            "lost",
            "it did not connect",
        )
        connected = time.monotonic()
        self._ending.step = "agree"
        agreement = await self._agree()
        session = session_id(agreement)
        agreed = self._agreed_at = time.monotonic()
        self._ending.step = "run"
        await asyncio.to_thread(self._plan.attached.check_unchanged)
        self._person.tell(Agreed(session))
        with explaining():
            program = await self._run_program(Marks(self._identity, self._mesh.roster, session))
        ended = time.monotonic()
        self._person.tell(ProgramEnded(ended - agreed))
        self._ending.step = "finish"
        self._peers.broadcast(Done())
        self._peers.change()
        await self._peers.until(lambda: all(peer.done for peer in self._peers))
        return Result(
            session,
            self._mesh.own_number,
            agreement.own,
            {peer.number: self._summary(peer) for peer in self._peers},
            connect_s=connected - started,
            agree_s=agreed - connected,
            run_s=ended - agreed,
            receipt=self._sign(agreement, program.output) if self._common.receipt and program.output else None,
            output_flaw=_not_written(program.lost) if program.lost else None,
        )

    async def _agree(self) -> Agreement:
        offers = {self._mesh.own_number: Offer(self._common, self._own)}
        nonces = {self._mesh.own_number: self._nonce}
        for peer in self._peers:
            if peer.offer is not None:
                offers[peer.number] = peer.offer
                nonces[peer.number] = peer.nonce
        agreement = Agreement(
            self._common,
            tuple(offers[number].own for number in sorted(offers)),
            tuple(nonces[number].hex() for number in sorted(nonces)),
        )
        session = session_id(agreement)
        if not await self._person.consents(agreement, self._mesh.own_number):
            raise AgreementError("its person said no")
        self._committed = True
        self._peers.broadcast(Commit(session.hex()))
        await self._wait_for(
            lambda: all(peer.committed for peer in self._peers),
            lambda peer: peer.committed is None,
            "agreement",
            "it did not say yes",
        )
        for peer in self._peers:
            if peer.committed != session.hex():
                self._ending.report(peer.number, "agreement", "it committed to another session")
        await self._unless_failed()
        return agreement

    async def _run_program(self, marks: Marks) -> ProgramExit:
        """Run it to its good end, and return that."""
        spec = ProgramSpec(
            script=str(self._program.path),
            folder=str(self._program.folder),
            arguments=(*self._common.public_arguments, *self._plan.private),
            number=self._mesh.own_number,
            parties=len(self._mesh.roster),
            threshold=self._common.threshold,
            mpyc_options=self._common.mpyc_options,
            allowed_types=self._common.allowed_types,
            sockets={},
            verbose=self._plan.verbose,
            # Of our own choice: the public arguments may be the host's, who would have our files named for the program.
            named=(*(self._plan.public or ()), *self._plan.private),
            code=code_of(self._program, self._plan.attached),
            on_disk=self._plan.attached.on_disk(),
            reads=tuple(map(str, self._plan.attached.places)),
            hidden=tuple(str(path.absolute()) for path in self._plan.hidden),
            allow_subprocess=self._plan.allow_subprocess,
            walls=self._plan.walls,
            waiting_s=min(WAITING_S, self._plan.stuck_after_s / 6),
        )
        starting = start_program(spec, self._mesh.peers, hash_output=self._common.receipt)
        async with starting as process, asyncio.TaskGroup() as tasks:
            pumps = [tasks.create_task(self._pump(peer, process.sockets[peer.number])) for peer in self._peers]
            watching = tasks.create_task(self._watch.run())
            try:
                ended = await process.wait(self._note_opening, on_wait=partial(self._watch.note_own, marks))
            finally:  # also if others fail, or their person leaves: it may be why all waited
                if (beyond := process.out_of_reach()) is not None:
                    self._person.tell(beyond)
            if ended.status != 0:
                self._ending.report_program(ended)
                await self._unless_failed()
            # What the program wrote last may still be on its way to the links.
            await asyncio.gather(*(peer.pump.emptied.wait() for peer in self._peers if peer.pump is not None))
            for task in (*pumps, watching):
                task.cancel()
        for peer in self._peers:
            if peer.pump is not None:
                peer.pump.discard()
        return ended

    def _sign(self, agreement: Agreement, output: bytes) -> Receipt:
        # Not before all are done: a session that fails leaves nothing signed.
        salt = secrets.token_hex(SALT_BYTES)
        return sign(self._identity, agreement, Opening(self._mesh.own_number, salt, output.hex()))

    async def _exchange_signatures(self, result: Result, own: Receipt) -> Result:
        """Give the others our signature, take theirs and write them down. What fails here spoils no result."""
        (ours,) = own.signatures
        self._person.tell(Signing())
        self._peers.broadcast(Signed(ours.commitment, ours.signature))
        wait_s = min(FAREWELL_S, self._plan.patience_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._peers.until(lambda: all(peer.signed or not peer.counts for peer in self._peers))
        signatures, missing = {ours.party: ours}, dict[int, OnionMPCError]()
        for peer in self._peers:
            try:
                signatures[peer.number] = self._signature(peer, result.session, wait_s)
            except OnionMPCError as error:
                missing[peer.number] = error
        receipt = msgspec.structs.replace(own, signatures=tuple(signatures[number] for number in sorted(signatures)))
        flaw = _not_by_all(missing) if missing else None
        if self._plan.receipt is not None:
            try:
                write_private(self._plan.receipt, encode_receipt(receipt))
            except UsageError as error:
                flaw = error
            else:
                signed = tuple(sorted(signatures))
                self._person.tell(ReceiptWritten(str(self._plan.receipt), signed, len(self._mesh.roster)))
        return replace(result, receipt=receipt, receipt_flaw=flaw)

    def _signature(self, peer: Peer, session: bytes, waited_s: float) -> Signature:
        if peer.signed is None:
            raise PeerError(
                f"it did not sign within {duration(waited_s)}" if peer.counts else "it left without signing"
            )
        signature = Signature(peer.number, peer.signed.commitment, peer.signed.signature)
        check_signed(self._mesh.roster[peer.number], session, signature)
        return signature

    async def _fill_bucket(self) -> None:
        """Keep padded links busy for a whole number of buckets; how long the program ran does not show then."""
        if not self._common.padding_rate:
            return
        # Counted from the agreement, which all parties reach within a second. Were it from their own starts, minutes
        # apart, each link would end at the first of two different ends, and several would tell the time in between.
        seconds = (self._agreed_at - time.monotonic()) % self._plan.padding_bucket_s
        self._person.tell(Rounding(seconds))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # The others come to the end of it a little earlier or later.
                await self._peers.until(lambda: not any(peer.alive for peer in self._peers))

    def _note_opening(self) -> None:
        self._ending.revealed = True

    async def _pump(self, peer: Peer, end: socket.socket) -> None:
        assert peer.pump is not None  # noqa: S101 (links are up before the program starts)
        try:
            await peer.pump.run(end)
        except* RemoteProtocolError as errors:
            self._ending.broke_the_rules(peer, str(errors.exceptions[0]))

    async def _wait_for(
        self, condition: Callable[[], bool], missing: Callable[[Peer], bool], cause: Cause, detail: str
    ) -> None:
        """Wait for all peers to get somewhere; report those that did not in time."""
        try:
            async with asyncio.timeout(self._plan.wait_s):
                await self._peers.until(condition)
        except TimeoutError:
            for peer in self._peers:
                if missing(peer):
                    self._ending.report(peer.number, cause, f"{detail} within {duration(self._plan.wait_s)}")
        await self._unless_failed()

    async def _unless_failed(self) -> None:
        """Go no further once something was reported: whoever runs us is about to end this."""
        if self._ending.begun:
            await asyncio.Event().wait()

    # -- Observer of the mesh

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        """Show that a peer is not there yet."""
        hint = "compare with that party who takes part" if failure.not_expected else ""
        self._person.tell(DialRetry(party, failure.reason, failure.again_in_s, hint))

    def link_up(self, party: int, runner: LinkRunner, nonce: bytes) -> None:
        """Make the peer our offer."""
        peer = self._peers[party]
        peer.runner = runner
        peer.nonce = nonce
        peer.heard = True
        low, high = sorted((party, self._mesh.own_number))
        prss = "--no-prss" not in self._common.mpyc_options
        size = hello_bytes(len(self._mesh.roster), self._common.threshold, low, high, prss=prss)
        peer.pump = Pump(runner, HelloGate(party, size if party == low else 0))
        for message in (Offer(self._common, self._own), *self._ending.said_so_far()):
            runner.send_control(encode_message(message))
        connected = sum(other.runner is not None for other in self._peers)
        self._person.tell(LinkUp(party, connected, len(self._peers)))

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        """Find out how long its circuit is, and how long its round trip."""
        self._peers[party].circuits[secure.number] = Circuit(secure.stream.path, named=dialled)

    def stream_down(self, party: int, secure: SecureStream) -> None:
        """Note that its circuit was the last."""
        self._peers[party].last = self._peers[party].circuits.pop(secure.number)

    def link_raced(self, party: int, streams: int) -> None:
        """Show which circuit is the fastest."""
        peer = self._peers[party]
        peer.racing = False
        peer.raced = streams
        self._tell_measured(peer, peer.circuit)

    def link_broken(self, party: int, reason: str) -> None:
        """Show that a link has no stream."""
        self._person.tell(LinkBroken(party, reason))

    def link_quiet(self, party: int, seconds: float) -> None:
        """Show that a peer says nothing."""
        self._person.tell(PeerQuiet(party, seconds))

    def link_resumed(self, party: int, seconds: float) -> None:
        """Show that a peer is back."""
        self._peers[party].gaps += 1
        self._peers[party].gap_s += seconds
        self._person.tell(LinkResumed(party, seconds))

    def link_event(self, party: int, event: Event) -> None:
        """Take what a link brought."""
        peer = self._peers[party]
        known, peer.heard = peer.heard, True
        match event:
            case _ if peer.broke_rules:
                pass
            case ProgramBytes() | ProgramEnd() if self._committed and peer.pump is not None:
                peer.pump.deliver(event)
                if known:
                    return  # nobody waits for these, and to let all look again took as long as a record does
            case ControlBytes(payload):
                self._heed_bytes(peer, payload)
            case ProgramBytes() | ProgramEnd():
                self._ending.broke_the_rules(peer, "it sent bytes of the program before the agreement")
            case RoundTrip(_, stream):
                peer.answered = True
                self._note_measured(peer, stream, peer.circuits[stream])
            case LinkClosed() if not self._is_through_with(peer):
                self._ending.report(party, "lost", "it closed the link")
        self._peers.change()

    def link_down(self, party: int, error: OnionMPCError) -> None:
        """Report a link that was given up."""
        connected = self._peers[party].runner is not None
        if self._is_through_with(self._peers[party]):
            self._peers.change()
            return
        if isinstance(error, VersionDiffers):
            there, here = f"party {party}", f"party {self._mesh.own_number}"
            self._ending.report(
                party, "agreement", VersionDiffers(error.theirs, error.ours, there=there, here=here).message
            )
        elif isinstance(error, AuthenticationFailed) and not connected:
            self._ending.report(party, "refused", error.message)
        elif isinstance(error, RemoteProtocolError):
            self._ending.report(party, "protocol", error.message)
        else:
            self._ending.report(party, "lost", error.message)

    def _is_through_with(self, peer: Peer) -> bool:
        return peer.done and self._ending.step == "finish"

    def _note_measured(self, peer: Peer, stream: int, circuit: Circuit) -> None:
        if circuit.measured:
            return
        circuit.measured = True
        # Not before: now the listener knows of this stream, whichever one our words overtake it on.
        if circuit.named and circuit.path is not None:
            self._claim(peer, stream, circuit.path, Rendezvous(stream, circuit.path.rendezvous))
        self._tell_measured(peer, circuit)

    async def _match_rendezvous(self, peer: Peer, stream: int, circuit: Circuit, fingerprint: str) -> None:
        circuit.path = await self._network.accepted_path(fingerprint)
        if circuit.path is not None:
            self._claim(peer, stream, circuit.path)
            self._tell_measured(peer, circuit)

    def _claim(self, peer: Peer, stream: int, path: OwnPath, *before: AnyMessage) -> None:
        """Tell a peer how long our side of a stream's circuit is."""
        if peer.alive and peer.runner is not None:
            for message in (*before, OwnSide(stream, path.relays)):
                peer.runner.send_control(encode_message(message))

    def _tell_measured(self, peer: Peer, circuit: Circuit) -> None:
        """Show what is known of a circuit, if it is the one that counts."""
        if circuit is peer.circuit and circuit.measured and not peer.racing:
            link = self._summary(peer)
            self._person.tell(
                LinkMeasured(peer.number, link.own_relays, link.claimed_relays, link.round_trip_s, link.raced)
            )

    # -- control messages

    def _heed_bytes(self, peer: Peer, payload: bytes) -> None:
        try:
            for message in peer.decoder.decode(payload):
                self._heed(peer, message)
        except RemoteProtocolError as error:
            self._ending.broke_the_rules(peer, error.message)

    def _heed(self, peer: Peer, message: AnyMessage) -> None:
        match message:
            case Offer() if peer.offer is None:
                peer.offer = message
                self._compare(peer, message)
            # One of each for each stream, or a peer could keep us busy and fill our screen. One about a stream that is
            # gone says nothing.
            case Rendezvous(stream, fingerprint):
                circuit = peer.circuits.get(stream)
                if circuit is not None and not circuit.named:
                    circuit.named = True
                    assert self._background is not None  # noqa: S101 (there are no links before `run`)
                    self._background.start(self._match_rendezvous(peer, stream, circuit, fingerprint))
            case OwnSide(stream, relays):
                circuit = peer.circuits.get(stream)
                if circuit is not None and circuit.claimed_relays is None:
                    circuit.claimed_relays = relays
                    self._tell_measured(peer, circuit)
            case Commit(session) if peer.offer is not None and peer.committed is None:
                peer.committed = session
            case Waiting() | Moving() if peer.committed is not None and not peer.done:
                self._watch.heed(peer.number, message)
            case Done() if peer.committed is not None and not peer.done:
                peer.done = True
                self._person.tell(PeerDone(peer.number))
            case Signed() if self._common.receipt and peer.done and peer.signed is None:
                peer.signed = message
            case Report() | Verdict():
                self._ending.heed(peer, message)
            case _:
                raise RemoteProtocolError(f"it sent {type(message).__name__} out of place")

    def _compare(self, peer: Peer, offer: Offer) -> None:
        try:
            names = (f"party {self._mesh.own_number}", f"party {peer.number}")
            explain = partial(explain_difference, self._program, self._plan.attached)
            check_equal(self._common, offer.common, here=names[0], there=names[1], explain=explain)
            check_floors(self._own, offer.own, here=names[0], there=names[1])
        except AgreementError as error:
            self._ending.report(peer.number, "agreement", error.message)
        else:
            circuits = circuits_of_link(self._common, self._own, offer.own)
            if circuits > 1:
                peer.racing = True
                self._mesh.widen(peer.number, circuits)

    def _summary(self, peer: Peer) -> LinkSummary:
        path = peer.circuit.path
        # A short session may end while one of many circuits is still awaited.
        raced = peer.runner.link.compared() if peer.racing and peer.runner is not None else peer.raced
        return LinkSummary(
            path.relays if path is not None else None,
            peer.circuit.claimed_relays,
            peer.runner.round_trip_s if peer.runner is not None else None,
            max(1, raced),
            peer.gaps,
            peer.gap_s,
        )


def _not_by_all(missing: Mapping[int, OnionMPCError]) -> OnionMPCError:
    # Of a kind with the worst of them: a wrong signature says more than none.
    kind = type(max(missing.values(), key=lambda error: error.exit_code))
    words = "; ".join(f"party {number}: {error.message}" for number, error in missing.items())
    return kind(f"the receipt is not signed by all ({words})", hint="the program ended well, and its output stands")


def _not_written(why: str) -> OnionMPCError:
    hint = "the session ended well, and the other parties have theirs; what is missing here cannot be had again"
    return ProgramError(f"the program's standard output could not be written: {why}", hint=hint)


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end; a bug in it is raised when the others have been told."""
    task.cancel()
    await asyncio.wait({task})
