"""Runs one computation from its terms to the result: connect, agree, run, finish.

What each message of a peer leads to is in onionmpc.session.dispatch. Rules: docs/PROTOCOL.md sections 3 and 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onionmpc.errors import AgreementError, OnionMPCError, ProgramError
from onionmpc.machine import explaining
from onionmpc.program.process.launch import ProgramExit
from onionmpc.session.agreement import Agreement, PartyTerms, session_id
from onionmpc.session.dispatch import Dispatcher, Parts
from onionmpc.session.ending import Ending
from onionmpc.session.events import Agreed, ConsentQuestion, PrivateInputs, ProgramEnded, Rounding, UserInterface
from onionmpc.session.ledger import LinkSummary
from onionmpc.session.messages import Cause, Commit, Done, Offer
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import ConnectedPeer, Peers
from onionmpc.session.receipt import Receipt
from onionmpc.session.running import ProgramRun
from onionmpc.session.signing import ReceiptExchange
from onionmpc.session.watch import ProgramWatch
from onionmpc.tasks import cancel
from onionmpc.text import duration


@dataclass(frozen=True, slots=True)
class SessionResult:
    """The result of a computation that succeeded at all parties.

    Attributes:
        own: what each party stated about itself, in party order.
        links: a summary of each link, by the peer's number.
        connect_s, agree_s, run_s: seconds that each step took.
        receipt: what was signed at the end, if the parties agreed on a receipt.
        receipt_flaw: what is wrong with the receipt: a missing signature, or a file that could not be written.
        output_flaw: what is wrong with the program's output, at this party alone.
    """

    session: bytes
    own_number: int
    own: tuple[PartyTerms, ...]
    links: dict[int, LinkSummary]
    connect_s: float
    agree_s: float
    run_s: float
    receipt: Receipt | None = None
    receipt_flaw: OnionMPCError | None = None
    output_flaw: OnionMPCError | None = None


@dataclass(frozen=True, slots=True)
class _Computed:
    """What this party has when all are done. Times are seconds of the monotonic clock."""

    agreement: Agreement
    session: bytes
    program: ProgramExit
    started_at: float
    connected_at: float
    agreed_at: float
    ended_at: float


class Computation:
    """One computation.

    Args:
        own: this party, and the terms that it offers.
        ui: shows events, and asks the user for consent.
    """

    def __init__(self, own: OwnParty, ui: UserInterface) -> None:
        self._own = own
        self._plan = own.plan
        self._ui = ui
        self._peers = Peers(number for number in range(len(own.roster)) if number != own.number)
        self._ending = Ending(own, self._peers, ui)
        self._watch = ProgramWatch(own, self._peers, self._ending, ui)
        if own.proposer is not None:
            self._ending.step = "agree"

    @property
    def parts(self) -> Parts:
        """What the dispatcher needs of it."""
        return Parts(self._own, self._peers, self._ending, self._watch)

    async def run(self, dispatcher: Dispatcher) -> SessionResult | Offer:
        """Connect, agree and run the program, until all parties are done. Their links stay.

        Args:
            dispatcher: acts for this computation.
        Returns:
            The result; or a proposal that replaces this one, from a lower party that made it at the same time.

        Raises:
            OnionMPCError: why the computation failed, with the same message at every party that could be reached. The
                links are closed.
        """
        driving = asyncio.create_task(self._drive(dispatcher))
        failing = asyncio.create_task(self._peers.changes.until(lambda: self._ending.begun))
        try:
            await asyncio.wait([driving, failing], return_when=asyncio.FIRST_COMPLETED)
            return await self._end(driving)
        except OnionMPCError:
            await self._peers.close_when_flushed(self._plan.timings.goodbye_s)
            raise
        except BaseException:  # Ctrl-C, or a bug of ours: the peers must learn that this party leaves
            await _stop(driving)
            # When all are done, no goodbye is needed: the peers have their results and are about to end as well.
            if not (self._ending.step == "finish" and self._peers.all(lambda peer: peer.session.is_done)):
                await self._ending.say_goodbye()
            await self._peers.close_when_flushed(self._plan.timings.goodbye_s)
            raise
        finally:
            await cancel(driving, failing)

    async def _end(self, driving: asyncio.Task[_Computed | Offer]) -> SessionResult | Offer:
        if not self._ending.begun:
            try:
                computed = driving.result()
            except OnionMPCError as error:
                self._ending.report_own(error)
            else:
                return computed if isinstance(computed, Offer) else await self._finish(computed)
        # In this order: our own program may be the one that failed, and its report must come before we kill it.
        await self._ending.hear_out_programs()
        await _stop(driving)
        await self._ending.end_together()
        raise self._ending.error()

    # -- the steps of a session that goes well

    async def _drive(self, dispatcher: Dispatcher) -> _Computed | Offer:
        """Take all steps until every party is done, or a proposal replaces this one.

        Raises:
            OnionMPCError: this party cannot continue, or a failure was reported.
        """
        started_at = time.monotonic()
        late = "it did not connect" if self._own.proposer is None else "it did not answer the proposal"
        await self._wait_for(self._has_offered, "lost", late, or_until=self._replacement)
        if (replacement := self._replacement()) is not None:
            return replacement
        connected_at = time.monotonic()
        self._ending.step = "agree"
        agreement, inputs = await self._agree(dispatcher)
        session = session_id(agreement)
        agreed_at = time.monotonic()
        self._ending.step = "run"
        # Up to 16 GiB to hash: in a thread, so that links keep sending heartbeats.
        await asyncio.to_thread(self._plan.attached.check_unchanged)
        self._ui.tell(Agreed(session))
        # What the machine refuses, such as memory for a process, becomes a report to the peers like any failure.
        with explaining():
            program = await ProgramRun(self._own, self._peers, self._ending, self._watch, self._ui).run(session, inputs)
        ended_at = time.monotonic()
        self._ui.tell(ProgramEnded(ended_at - agreed_at))
        self._ending.step = "finish"
        self._peers.broadcast(Done())
        self._peers.changes.notify()
        await self._peers.changes.until(lambda: self._peers.all(_is_done))
        dispatcher.end_computation()
        return _Computed(agreement, session, program, started_at, connected_at, agreed_at, ended_at)

    async def _agree(self, dispatcher: Dispatcher) -> tuple[Agreement, PrivateInputs]:
        own = self._own
        parts, evidence = {own.number: (own.terms, own.nonce)}, {own.number: own.offer.evidence}
        for peer in self._peers:
            if peer.session.offer is not None:
                parts[peer.number] = (peer.session.offer.own, peer.session.nonce)
                evidence[peer.number] = peer.session.offer.evidence
        in_order = [parts[number] for number in sorted(parts)]
        agreement = Agreement(
            own.shared, tuple(one for one, _ in in_order), tuple(nonce.hex() for _, nonce in in_order)
        )
        shown = {number: pieces for number, pieces in sorted(evidence.items()) if pieces}
        question = ConsentQuestion(agreement, own.number, own.program.metadata.about, shown)
        inputs = await self._ui.consents(question)
        if inputs is None:
            raise AgreementError("its user declined")
        commit = Commit(session_id(agreement).hex())
        dispatcher.allow_program_bytes()
        self._peers.broadcast(commit)
        await self._wait_for(lambda peer: peer.session.commit, "agreement", "it did not answer")
        for peer in self._peers:
            if peer.session.commit != commit:
                self._ending.report(peer.number, "agreement", "it committed to another session")
        self._ending.check()
        return agreement, inputs

    def _has_offered(self, peer: ConnectedPeer) -> bool:
        offer = peer.session.offer
        return peer.alive and offer is not None and self._own.has_same_proposer(offer)

    def _replacement(self) -> Offer | None:
        """Return the proposal of the lowest party, if it is lower than the one that proposed these terms.

        That party does not offer these terms, so nobody can commit to them.
        """
        roster, proposer = self._own.roster, self._own.proposer
        for peer in self._peers:
            onion, offer = roster[peer.number], peer.session.offer
            if offer is not None and offer.is_proposal(onion):
                return offer if proposer is not None and onion < proposer else None
        return None

    async def _wait_for(
        self,
        has: Callable[[ConnectedPeer], object],
        cause: Cause,
        detail: str,
        or_until: Callable[[], object] = lambda: False,
    ) -> None:
        """Wait until `has` is true for all peers; report those for which it is not within the plan's `wait_s`."""
        wait_s = self._plan.wait_s
        try:
            async with asyncio.timeout(wait_s):
                await self._peers.changes.until(lambda: self._peers.all(has) or bool(or_until()))
        except TimeoutError:
            for number in self._peers.numbers:
                peer = self._peers.get(number)
                if peer is None or not has(peer):
                    self._ending.report(number, cause, f"{detail} within {duration(wait_s)}")
        self._ending.check()

    # -- when all are done

    async def _finish(self, computed: _Computed) -> SessionResult:
        """Sign the receipt, and keep padded links busy."""
        agreement, program = computed.agreement, computed.program
        links = {peer.number: peer.summary() for peer in self._peers}
        receipt = flaw = None
        if self._own.shared.receipt and program.output:
            exchange = ReceiptExchange(self._own, agreement, self._peers, self._ui)
            receipt, flaw = await exchange.run(program.output)
        await self._fill_bucket(computed.agreed_at)
        return SessionResult(
            computed.session,
            self._own.number,
            agreement.own,
            links,
            connect_s=computed.connected_at - computed.started_at,
            agree_s=computed.agreed_at - computed.connected_at,
            run_s=computed.ended_at - computed.agreed_at,
            receipt=receipt,
            receipt_flaw=flaw,
            output_flaw=_not_written(program.lost) if program.lost else None,
        )

    async def _fill_bucket(self, agreed_at: float) -> None:
        """Keep padded links busy up to a whole number of buckets, which hides how long the program ran."""
        if not self._own.shared.padding_rate:
            return
        # Buckets count from the agreement, which all parties reach within a second. If they counted from each party's
        # start, minutes apart, each link would end at the earlier of two ends, and several links would give away when
        # the program ended.
        seconds = (agreed_at - time.monotonic()) % self._plan.padding_bucket_s
        self._ui.tell(Rounding(seconds))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                # Peers reach the end of the bucket a little earlier or later than this party.
                await self._peers.changes.until(lambda: not any(peer.alive for peer in self._peers))


def _is_done(peer: ConnectedPeer) -> bool:
    # Done may overtake the last bytes of the program, which belong to this computation and not to the next one.
    return peer.session.is_done and (peer.pump.peer_ended or not peer.alive)


def _not_written(why: str) -> OnionMPCError:
    hint = "the session succeeded, and the other parties have their output; what is missing here is lost"
    return ProgramError(f"the program's standard output could not be written: {why}", hint=hint)


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end. Its bug, if any, is raised later, when the peers know that we leave."""
    task.cancel()
    await asyncio.wait({task})
