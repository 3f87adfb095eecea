"""Ends a session that fails: exchanges reports, probes and verdicts, so that all parties end with the same error.

reports.py picks the report that the error is made from. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from onionmpc.errors import AgreementError, OnionMPCError
from onionmpc.identity import Onion
from onionmpc.program.process.launch import ProgramExit
from onionmpc.session.events import Trouble, UserInterface
from onionmpc.session.messages import MAX_DETAIL_CHARACTERS, AnyMessage, Cause, Report, Step, Verdict
from onionmpc.session.own_party import OwnParty
from onionmpc.session.peers import ConnectedPeer, Peers
from onionmpc.session.reports import FailureReports


class Ending:
    """Collects the failures of one computation, and ends the session with it.

    Attributes:
        step: the step that this party is at. It stays at "finish" until the next computation begins.
        revealed: whether its program has begun to open an output.
    """

    def __init__(self, own: OwnParty, peers: Peers, ui: UserInterface) -> None:
        self.step: Step = "connect"
        self.revealed = False
        self._own = own
        self._peers = peers
        self._ui = ui
        self._timings = own.plan.timings
        self._reports = FailureReports(own.roster, own.identity.onion)
        self._has_spoken = False
        # Since the probes went out: peers from which anything came, and those that answered and so have our reports.
        self._heard: set[int] = set()
        self._answered: set[int] = set()

    @property
    def begun(self) -> bool:
        """True once any failure was reported."""
        return self._reports.failed

    def error(self) -> OnionMPCError:
        """Return the error that this party would end with, from what it knows now."""
        return self._reports.error()

    def check(self) -> None:
        """Check that no failure was reported.

        Raises:
            OnionMPCError: a failure was reported. Later reports may still change the final error.
        """
        if self.begun:
            raise self.error()

    # -- what failed

    def report(self, about: int, cause: Cause, detail: str) -> None:
        """Report a failure that this party saw."""
        # A path in `detail` may not be valid UTF-8.
        sendable = detail.encode(errors="backslashreplace").decode()[:MAX_DETAIL_CHARACTERS]
        report = Report(self._own.identity.onion, self._own.roster[about], cause, self.step, sendable)
        # A link that is lost after another failure was most likely lost because of it. After our Verdict, a peer may
        # have ended already: a new report would not reach all, and errors would differ.
        moot = self._has_spoken or (self.begun and cause == "lost")
        if not moot and self._reports.add(report, report.reporter):
            self._peers.broadcast(report)
        self._peers.changes.notify()

    def take_over(self, before: Ending) -> None:
        """Take the failures of a computation that this one replaces. The peers that saw them do not repeat them."""
        for report in before._reports.reports:
            self._reports.add(report, report.reporter)

    def report_own(self, error: OnionMPCError) -> None:
        """Report this party's own error."""
        cause: Cause = "agreement" if isinstance(error, AgreementError) else "program"
        self.report(self._own.number, cause, error.message)

    def report_program(self, ended: ProgramExit) -> None:
        """Report how our program failed, and the party that it blames."""
        own, notice = self._own.number, ended.notice
        about = own if notice is None or notice.party is None else notice.party
        # Our program stopped at a forbidden pickle. That is an offence of the party that sent it.
        by_pickle = notice is not None and notice.kind == "pickle" and about != own
        self.report(about, "protocol" if by_pickle else "program", ended.describe())

    def report_offence(self, peer: ConnectedPeer, detail: str) -> None:
        """Report that a peer broke the rules, and ignore what it sends from now on."""
        # No ABORT: its supervisor may be honest although its program is not, and must end like all others.
        self.report(peer.number, "protocol", detail)
        peer.session.fail()
        peer.pump.shut()

    # -- what others say

    def take_report(self, peer: ConnectedPeer, report: Report) -> None:
        """Take a report, and pass it on if it is new."""
        # We know our own reports: one in our name from a peer is a repetition or a forgery.
        if report.reporter != self._own.identity.onion and self._reports.add(report, self._own.roster[peer.number]):
            self._peers.broadcast(report, besides=peer)

    def take_verdict(self, peer: ConnectedPeer, verdict: Verdict) -> None:
        """Take a verdict, which also answers our probe."""
        self.note_answer(peer)
        self._reports.add_verdict(self._own.roster[peer.number], verdict)

    def note_heard(self, number: int) -> None:
        """Note that something arrived from a peer."""
        self._heard.add(number)

    def note_answer(self, peer: ConnectedPeer) -> None:
        """Note that a peer has answered."""
        self._answered.add(peer.number)

    def reports_so_far(self) -> list[AnyMessage]:
        """Return the reports and the verdict that a peer has missed if it connects late."""
        return [*self._reports.reports, *([self._verdict()] if self._has_spoken else [])]

    # -- the end

    async def hear_out_programs(self) -> None:
        """Wait a moment if a program was seen to end, so that its own party, or this one, can report why."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.hear_out_s):
                await self._peers.changes.until(lambda: self.step == "finish" or not self._reports.awaits_word)

    async def end_together(self) -> None:
        """Exchange reports and verdicts, so that all parties that still reach each other end with the same error."""
        self._ui.tell(Trouble(self._reports.reports[0].detail))
        self._heard.clear()
        self._answered.clear()
        for peer in self._peers:
            peer.pump.shut()  # no program is left to read; arriving bytes still show that the peer is there
            peer.runner.ping()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.ending_s):
                # A ping follows our reports: a peer that answers it has them, and its own reports are here.
                await self._probe(lambda: self._answered.issuperset(peer.number for peer in self._counting()))
                self._has_spoken = True
                verdict = self._verdict()
                self._reports.add_verdict(self._own.identity.onion, verdict)
                self._peers.broadcast(verdict)
                # A peer that is still dialling must learn of the failure too. Otherwise it waits for us until its own
                # patience ends.
                await self._probe(self._peers.all)
                await self._peers.changes.until(self._all_have_spoken)

    async def say_goodbye(self) -> None:
        """Tell all peers that this party leaves."""
        self.report(self._own.number, "left", "")
        await self._peers.close_when_flushed(self._timings.goodbye_s)

    async def _probe(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds, or until lost links have had enough time to come back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.probe_s):
                await self._peers.changes.until(condition)

    def _counting(self) -> list[ConnectedPeer]:
        return [peer for peer in self._peers if peer.counts and not self._has_left(peer)]

    def _has_left(self, peer: ConnectedPeer) -> bool:
        """Return whether a peer has left, even if its CLOSE was lost: other parties' reports count as well."""
        return self._reports.has_left(self._own.roster[peer.number], itself=peer.runner.streams > 0)

    def _verdict(self) -> Verdict:
        return Verdict(self._reached(), self.revealed)

    def _all_have_spoken(self) -> bool:
        return all(map(self._reports.has_verdict, self._reached()))

    def _reached(self) -> tuple[Onion, ...]:
        # Only peers that were heard since the probes: a link looks alive for a while after its peer is gone.
        return tuple(self._own.roster[peer.number] for peer in self._counting() if peer.number in self._heard)
