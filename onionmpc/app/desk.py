"""Keeps the app's state, and does what the page asks for. One session at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import onionmpc
from onionmpc.app.happenings import (
    Failed,
    Happening,
    InvitationCopied,
    LinkUsedTwice,
    SessionCleared,
    SessionEnded,
    TableTaken,
    TorStarted,
    TorStopped,
)
from onionmpc.app.intents import (
    AnswerAgreement,
    AnswerJoiner,
    AnyIntent,
    ClearSession,
    ComputeAgain,
    GiveInputs,
    LeaveSession,
    MarkCopied,
    StartHosting,
    StartJoining,
    parse_intent,
)
from onionmpc.app.reduce import reduce
from onionmpc.app.sitting import OpenTable, Sitting
from onionmpc.app.state import AppState
from onionmpc.app.views import card_of, failure_of
from onionmpc.errors import OnionMPCError, UsageError
from onionmpc.tasks import cancel

StartParty = Callable[[Callable[[Happening], None]], AbstractAsyncContextManager[onionmpc.Party]]


class SessionDesk:
    """The app without its page.

    Args:
        start_party: makes a party for a session, which tells its events to the function that it gets.
        now: returns milliseconds of Unix time.
    """

    def __init__(self, start_party: StartParty, now: Callable[[], int]) -> None:
        self._start_party = start_party
        self._now = now
        self._changed = asyncio.Event()
        self._sitting: Sitting | None = None
        self._session: asyncio.Task[None] | None = None
        self.state = AppState(now=now(), programs=tuple(map(card_of, onionmpc.programs())))

    async def changed(self, seen: object) -> AppState:
        """Wait until the state is no longer `seen`, and return the newest one."""
        while self.state is seen:
            self._changed.clear()
            await self._changed.wait()
        return self.state

    async def close(self) -> None:
        """Leave the session, if there is one."""
        if self._session is not None:
            await cancel(self._session)

    async def do(self, intent: bytes) -> None:
        """Do what the page asks for, in JSON.

        Raises:
            UsageError: it is no intent, does not fit what has happened, or is not possible.
        """
        await self.act(parse_intent(intent))

    def link_used_twice(self) -> None:
        """Note that another program on this computer used a link of ours."""
        self._happened(LinkUsedTwice())

    async def act(self, intent: AnyIntent) -> None:
        """Do what the page asks for. Raises as `do` does."""
        match intent:
            case StartHosting():
                self._host(intent)
            case StartJoining():
                self._join(intent)
            case MarkCopied(seat):
                self._happened(InvitationCopied(seat))
            case AnswerJoiner():
                self._sits().answer_joiner(intent)
            case AnswerAgreement():
                self._sits().answer_agreement(intent)
            case GiveInputs():
                self._sits().give(intent)
            case ComputeAgain():
                self._sits().compute_again(intent)
            case LeaveSession():
                await self._leave()
            case ClearSession():
                self._clear()

    # -- sessions

    def _host(self, intent: StartHosting) -> None:
        card = next((card for card in self.state.programs if card.name == intent.program), None)
        if card is None:
            raise UsageError("no program that comes with onionmpc has this name")
        public = onionmpc.arguments_for(intent.program, intent.public)

        def open_table(me: onionmpc.Party, sitting: Sitting) -> onionmpc.Table:
            return me.host(intent.program, parties=intent.parties, public=public, admit=sitting.admits)

        self._begin(TableTaken(hosts=True, program=card.name, title=card.title, parties=intent.parties), open_table)

    def _join(self, intent: StartJoining) -> None:
        invite = onionmpc.parse_invite(intent.text)
        self._begin(TableTaken(hosts=False, program=""), lambda me, _sitting: me.join(invite))

    def _begin(self, taken: TableTaken, open_table: OpenTable) -> None:
        if self._session is not None:
            raise UsageError("a session is running", hint="leave it first")
        self._sitting = Sitting(self._happened, hosts=taken.hosts)
        self._happened(taken)
        self._session = asyncio.create_task(self._run(self._sitting, open_table))

    async def _run(self, sitting: Sitting, open_table: OpenTable) -> None:
        self._happened(TorStarted())
        try:
            await sitting.run(self._start_party(self._happened), open_table)
        except onionmpc.errors.SessionOver as error:
            self._happened(SessionEnded(error.message))
        except OnionMPCError as error:
            self._happened(Failed(failure_of(error)))
        except asyncio.CancelledError:
            self._happened(SessionEnded())
            raise
        finally:
            self._happened(TorStopped())
            self._sitting = self._session = None

    async def _leave(self) -> None:
        if self._session is None:
            raise UsageError("there is no session to leave")
        await cancel(self._session)

    def _clear(self) -> None:
        if self._session is not None:
            raise UsageError("a session is running", hint="leave it first")
        self._happened(SessionCleared())

    def _sits(self) -> Sitting:
        if self._sitting is None:
            raise UsageError("there is no session any more", hint="look at the page again")
        return self._sitting

    # -- state

    def _happened(self, happening: Happening) -> None:
        self.state = reduce(self.state, happening, self._now())
        self._changed.set()
