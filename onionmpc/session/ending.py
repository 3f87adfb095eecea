"""How a session that fails ends: reports, probes, verdicts, and one sentence that all parties end with.

Knows what is said to whom, and how long that may take. Does not know the steps of a session that goes well; reports.py
picks the sentence. Rules: docs/PROTOCOL.md section 3.
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
    """The failing side of one session.

    Attributes:
        step: how far this party has come.
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
        # Since the probes went out: from whom anything came, and who has answered and so knows our reports.
        self._heard: set[int] = set()
        self._answered: set[int] = set()

    @property
    def begun(self) -> bool:
        """Whether anything was reported."""
        return self._reports.failed

    def error(self) -> OnionMPCError:
        """Return what this party ends with, by all that it knows now."""
        return self._reports.error()

    def check(self) -> None:
        """Go no further once something was reported.

        Raises:
            OnionMPCError: what was reported. What is known by the end of the session may say more.
        """
        if self.begun:
            raise self.error()

    # -- what failed

    def report(self, about: int, cause: Cause, detail: str) -> None:
        """Report what this party saw."""
        # A path in it may be no UTF-8.
        sendable = detail.encode(errors="backslashreplace").decode()[:MAX_DETAIL_CHARACTERS]
        report = Report(self._own.identity.onion, self._own.roster[about], cause, self.step, sendable)
        # A link that ends after something else has failed most likely ends because of that. After our Verdict, peers
        # may have ended that would never hear of a new report.
        moot = self._has_spoken or (self.begun and cause == "lost")
        if not moot and self._reports.add(report, report.reporter):
            self._peers.broadcast(report)
        self._peers.note_change()

    def report_own(self, error: OnionMPCError) -> None:
        """Report what this party itself cannot do."""
        cause: Cause = "agreement" if isinstance(error, AgreementError) else "program"
        self.report(self._own.number, cause, error.message)

    def report_program(self, ended: ProgramExit) -> None:
        """Report how our program failed, and whose fault it says that was."""
        own, notice = self._own.number, ended.notice
        about = own if notice is None or notice.party is None else notice.party
        by_pickle = notice is not None and notice.kind == "pickle" and about != own
        self.report(about, "protocol" if by_pickle else "program", ended.describe())

    def report_offence(self, peer: ConnectedPeer, detail: str) -> None:
        """Report what a peer did against the rules, and listen to it no more."""
        # Not an ABORT: its supervisor may be as honest as ours and its program not, and has to end like all others.
        self.report(peer.number, "protocol", detail)
        peer.session.fail()
        peer.pump.shut()

    # -- what others say

    def take_report(self, peer: ConnectedPeer, report: Report) -> None:
        """Take a report; pass a new one on."""
        # What we saw is known to us: under our name, others can only repeat or invent.
        if report.reporter != self._own.identity.onion and self._reports.add(report, self._own.roster[peer.number]):
            self._peers.broadcast(report, besides=peer)

    def take_verdict(self, peer: ConnectedPeer, verdict: Verdict) -> None:
        """Take a verdict, which answers our probe as well."""
        self.note_answer(peer)
        self._reports.add_verdict(self._own.roster[peer.number], verdict)

    def note_heard(self, number: int) -> None:
        """Note that something came from a peer."""
        self._heard.add(number)

    def note_answer(self, peer: ConnectedPeer) -> None:
        """Note that a peer has answered."""
        self._answered.add(peer.number)

    def reports_so_far(self) -> list[AnyMessage]:
        """Return what a peer that comes late has missed."""
        return [*self._reports.reports, *([self._verdict()] if self._has_spoken else [])]

    # -- the end

    async def hear_out_programs(self) -> None:
        """Wait a moment if a program was seen to end: how it ended is for its own party to report, ours included."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.hear_out_s):
                await self._peers.until(lambda: self.step == "finish" or not self._reports.awaits_word)

    async def end_together(self) -> None:
        """Exchange reports and verdicts, so that all who still hear each other end with the same sentence."""
        self._ui.tell(Trouble(self._reports.reports[0].detail))
        self._heard.clear()
        self._answered.clear()
        for peer in self._peers:
            peer.pump.shut()  # no program is left to read; bytes still show that the peer is there
            peer.runner.ping()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.ending_s):
                # A ping goes out after our reports: who has answered it knows them, and its own are here.
                await self._probe(lambda: self._answered.issuperset(peer.number for peer in self._counting()))
                self._has_spoken = True
                verdict = self._verdict()
                self._reports.add_verdict(self._own.identity.onion, verdict)
                self._peers.broadcast(verdict)
                # Who is still dialling has to hear of it too, or would wait for us until its own patience ends.
                await self._probe(self._peers.all)
                await self._peers.until(self._all_have_spoken)

    async def say_goodbye(self) -> None:
        """Tell all that this party leaves."""
        self.report(self._own.number, "left", "")
        await self._peers.close_when_flushed(self._timings.goodbye_s)

    async def _probe(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds, or until what is lost has had time enough to come back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timings.probe_s):
                await self._peers.until(condition)

    def _counting(self) -> list[ConnectedPeer]:
        return [peer for peer in self._peers if peer.counts and not self._has_left(peer)]

    def _has_left(self, peer: ConnectedPeer) -> bool:
        """Whether it has no more to say, even if its CLOSE was lost. Others say so for it where it could not itself."""
        return self._reports.has_left(self._own.roster[peer.number], itself=peer.runner.streams > 0)

    def _verdict(self) -> Verdict:
        return Verdict(self._reached(), self.revealed)

    def _all_have_spoken(self) -> bool:
        return all(map(self._reports.has_verdict, self._reached()))

    def _reached(self) -> tuple[Onion, ...]:
        return tuple(self._own.roster[peer.number] for peer in self._counting() if peer.number in self._heard)
