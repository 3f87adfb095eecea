"""How a session that fails ends: reports, probes, verdicts, and the one story that all tell.

Knows who is told what, and how long that may take. Does not know the steps of a session that goes well; reports.py
picks the story. Rules: docs/PROTOCOL.md section 3.
"""

from __future__ import annotations

import asyncio
import contextlib

from onionmpc.errors import AgreementError, OnionMPCError
from onionmpc.identity import Onion
from onionmpc.program.launch import ProgramExit
from onionmpc.session.events import Person, Trouble
from onionmpc.session.messages import MAX_DETAIL_CHARACTERS, AnyMessage, Cause, Report, Step, Verdict
from onionmpc.session.peers import Peer, Peers
from onionmpc.session.reports import Reckoning

# From the first report to the end at the latest, and the part of it in which the parties that are called lost are
# sought: long enough for a link that just lost its stream to get another. Where all answer it takes a round trip.
ENDING_S = 20.0
PROBE_S = 10.0
GOODBYE_S = 3.0
# From the end of a program's last stream to its exit: a traceback may have to be written, on a busy machine.
HEAR_OUT_S = 3.0


class Ending:
    """The failing side of one session.

    Args:
        roster: all addresses, sorted.
        own: our number.

    Attributes:
        step: how far this party has come.
        revealed: whether its program has begun to open an output.
    """

    def __init__(self, roster: tuple[Onion, ...], own: int, peers: Peers, person: Person) -> None:
        self.step: Step = "connect"
        self.revealed = False
        self._roster = roster
        self._own = own
        self._peers = peers
        self._person = person
        self._reckoning = Reckoning(roster, roster[own])
        self._has_spoken = False

    @property
    def begun(self) -> bool:
        """Whether anything was reported."""
        return self._reckoning.failed

    def error(self) -> OnionMPCError:
        """Return what this party ends with."""
        return self._reckoning.error()

    # -- what failed

    def report(self, about: int, cause: Cause, detail: str) -> None:
        """Say what this party saw."""
        # A path in it may be no UTF-8.
        sendable = detail.encode(errors="backslashreplace").decode()[:MAX_DETAIL_CHARACTERS]
        report = Report(self._roster[self._own], self._roster[about], cause, self.step, sendable)
        # A link that ends after something else has failed most likely ends because of that. After our Verdict, peers
        # may have ended that would never hear of a new report.
        moot = self._has_spoken or (self.begun and cause == "lost")
        if not moot and self._reckoning.add(report, report.reporter):
            self._peers.broadcast(report)
        self._peers.change()

    def report_own(self, error: OnionMPCError) -> None:
        """Say what this party itself cannot do."""
        cause: Cause = "agreement" if isinstance(error, AgreementError) else "program"
        self.report(self._own, cause, error.message)

    def report_program(self, ended: ProgramExit) -> None:
        """Say how our program failed, and whose fault it says that was."""
        notice = ended.notice
        about = self._own if notice is None or notice.party is None else notice.party
        by_pickle = notice is not None and notice.kind == "pickle" and about != self._own
        self.report(about, "protocol" if by_pickle else "program", ended.describe())

    def broke_the_rules(self, peer: Peer, detail: str) -> None:
        """Say what a peer did, and listen to it no more."""
        # Not an ABORT: its supervisor may be as honest as ours and its program not, and is to end like all others.
        self.report(peer.number, "protocol", detail)
        peer.broke_rules = True

    # -- what others say

    def heed(self, peer: Peer, message: Report | Verdict) -> None:
        """Take a report or verdict; pass a new report on."""
        if isinstance(message, Verdict):
            peer.answered = True
            self._reckoning.add_verdict(self._roster[peer.number], message)
        # What we saw is known to us: under our name, others can only repeat or invent.
        elif message.reporter != self._roster[self._own] and self._reckoning.add(message, self._roster[peer.number]):
            self._peers.broadcast(message, besides=peer)

    def said_so_far(self) -> list[AnyMessage]:
        """Return what a peer that comes late has missed."""
        return [*self._reckoning.reports, *([self._verdict()] if self._has_spoken else [])]

    # -- the end

    async def hear_out_programs(self) -> None:
        """Wait a moment where a party's program was seen to end: how it did is that party's to say, ours included."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEAR_OUT_S):
                await self._peers.until(lambda: self.step == "finish" or not self._reckoning.awaits_word)

    async def end_together(self) -> None:
        """Exchange reports and verdicts, so that all who still hear each other tell the same story."""
        self._person.tell(Trouble(self._reckoning.reports[0].detail))
        for peer in self._peers:
            peer.heard = peer.answered = False
            if peer.runner is not None:
                peer.runner.ping()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING_S):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_S):
                        # The ping goes out after our reports: who has answered it knows them, and its own are here.
                        await self._peers.until(lambda: all(peer.answered for peer in self._counting()))
                self._has_spoken = True
                verdict = self._verdict()
                self._reckoning.add_verdict(self._roster[self._own], verdict)
                self._peers.broadcast(verdict)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PROBE_S):
                        # Who is still dialling has to hear of it too, or would wait for us until its own patience ends.
                        await self._peers.until(lambda: all(peer.runner is not None for peer in self._peers))
                await self._peers.until(self._all_have_spoken)

    async def say_goodbye(self) -> None:
        """Tell all that this party leaves."""
        self.report(self._own, "left", "")
        await self._peers.close_when_flushed(GOODBYE_S)

    def _counting(self) -> list[Peer]:
        return [peer for peer in self._peers if peer.counts and not self._has_left(peer)]

    def _has_left(self, peer: Peer) -> bool:
        """Whether it has no more to say, even if its CLOSE was lost. Others say so for it where it could not itself."""
        return self._reckoning.has_left(self._roster[peer.number], itself=peer.has_stream)

    def _verdict(self) -> Verdict:
        reached = (self._roster[peer.number] for peer in self._counting() if peer.heard)
        return Verdict(tuple(reached), self.revealed)

    def _all_have_spoken(self) -> bool:
        return all(self._reckoning.has_verdict(self._roster[peer.number]) for peer in self._counting() if peer.heard)
