"""Tables: one session each, from the invites to the result. `Party.host` and `Party.join` return them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from onionmpc.api.capture import Capture, OnOutput
from onionmpc.api.events import EventQueue
from onionmpc.api.options import Prepared
from onionmpc.api.outcome import Result, result_of
from onionmpc.api.questions import Admit, Consent, Joiner, Proposal, refuse
from onionmpc.api.screen import how_long
from onionmpc.errors import UsageError
from onionmpc.identity import Identity, Onion
from onionmpc.mesh.network import Network
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.spec import Walls
from onionmpc.program.walls.probe import probing
from onionmpc.session.agreement import Agreement, SharedTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import Event, InviteReady, LinkMeasured
from onionmpc.session.invite import Invite
from onionmpc.session.local import Plan
from onionmpc.session.run import SessionParty
from onionmpc.session.seating import Seating
from onionmpc.tasks import cancel


class Base(Protocol):
    """What a table needs from its party."""

    identity: Identity
    hidden: tuple[Any, ...]

    def tell(self, event: Event) -> None:
        """Take an event of this table."""

    def subscribe(self, events: EventQueue) -> None:
        """Put the events of tor into this queue too. A party has one table at a time.

        Raises:
            UsageError: the party has another table.
        """

    def unsubscribe(self, events: EventQueue) -> None:
        """Undo `subscribe`."""

    async def run_over_network(self, work: Callable[[Network], Awaitable[SessionResult]]) -> SessionResult:
        """Run `work` once the network is up. Fail if the network is lost for good."""


class Table:
    """One session. Enter it with `async with`, then call `compute` once.

    Attributes:
        events: the events of this session, see `onionmpc.events`. You need not read them; only the last 1000 are kept.
    """

    by_invite = False

    def __init__(self, party: Base, prepared: Prepared) -> None:
        self.events = EventQueue()
        self._party = party
        self._prepared = prepared
        self._capture: Capture | None = None
        self._computing: asyncio.Task[Any] | None = None
        self._was_computed = False
        self._round_trips_s: dict[int, float] = {}
        self._open = contextlib.ExitStack()
        self._walls: Callable[[], Walls] | None = None

    async def __aenter__(self) -> Self:
        """Check the options, and make the invites. Nobody is dialled yet."""
        with contextlib.ExitStack() as stack:
            self._party.subscribe(self.events)
            stack.callback(self._party.unsubscribe, self.events)
            stack.callback(self.events.close)
            self._sit_down()
            known = self._prepared.walls
            self._walls = stack.enter_context(probing()) if known is None else lambda: known
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave. If another task is still in `compute`, it is cancelled, and the other parties are notified."""
        with self._open:
            # A task cannot wait for its own end. If it leaves by an exception, `compute` has cleaned up already.
            if self._computing is not None and self._computing is not asyncio.current_task():
                await cancel(self._computing)

    @property
    def program_errors(self) -> str:
        """What this party's program has written to its standard error so far. Available even if `compute` failed."""
        return "" if self._capture is None else _text(self._capture.written("stderr"))

    async def compute(
        self,
        *,
        input: str | bytes | None = None,  # noqa: A002 (the word that everybody expects)
        arguments: Sequence[str] = (),
        consent: Consent = refuse,
        on_output: OnOutput | None = None,
        terminal: bool = False,
    ) -> Result:
        """Meet the other parties, agree with them, run the program, and end together. Works once per table.

        Args:
            input: this party's private input, which its program reads from standard input. A program that comes with
                onionmpc also gets `--input -`, unless you pass `arguments`.
            arguments: private arguments, which only this party's program gets, after the public ones. They are never
                in an argv.
            consent: a coroutine function that gets the `Proposal` and returns whether to compute on these terms. The
                default refuses; `onionmpc.AGREE_TO_ANYTHING` consents unseen.
            on_output: called with "stdout" or "stderr" and the bytes whenever the program writes some.
            terminal: let the program use this process's standard streams instead of capturing them, so that it can ask
                a person at the terminal.
        Returns:
            This party's result. The computation ended well at all other parties too.

        Raises:
            UsageError: the options or arguments are invalid, or this table was used before.
            AgreementError: the parties do not agree, for example because one declined.
            PeerError: a party could not be reached, or left.
            ProgramError: a program failed, here or at another party.
            RemoteProtocolError: a party broke the rules.
            TorError: tor could not be used, or was away for longer than `patience_s`.
        """
        if self._was_computed:
            raise UsageError(
                "this table has already been used for a session", hint="open another table for another session"
            )
        if terminal and (input is not None or on_output is not None):
            raise UsageError("a program that uses the terminal cannot have another input or output")
        self._was_computed, self._computing = True, asyncio.current_task()
        try:
            return await self._compute(input, arguments, consent, on_output, terminal=terminal)
        finally:
            self._computing = None

    async def _compute(
        self,
        text: str | bytes | None,
        arguments: Sequence[str],
        consent: Consent,
        on_output: OnOutput | None,
        *,
        terminal: bool,
    ) -> Result:
        plan = self._prepared.with_private(arguments, reads_input=text is not None)
        assert self._walls is not None  # noqa: S101 (inside the context)
        plan = replace(plan, walls=await asyncio.to_thread(self._walls), hidden=self._party.hidden)
        if terminal:
            return await self._run_session(plan, OWN_STREAMS, consent)
        self._capture = Capture(text.encode() if isinstance(text, str) else text or b"", on_output)
        async with self._capture.running():
            result = await self._run_session(plan, self._capture.streams, consent)
        outputs, errors = _text(self._capture.written("stdout")), _text(self._capture.written("stderr"))
        return replace(result, outputs=outputs, errors=errors)

    async def _run_session(self, plan: Plan, streams: Streams, consent: Consent) -> Result:
        session = self._session(replace(plan, streams=streams), consent)
        return result_of(await self._party.run_over_network(partial(self._run, session)))

    def _session(self, plan: Plan, consent: Consent = refuse) -> SessionParty:
        ui = _Interface(self._tell, self._admit, self._proposing(plan, consent))
        return SessionParty(self._party.identity, plan, ui)

    def _proposing(self, plan: Plan, consent: Consent) -> Callable[[Agreement, int], Awaitable[bool]]:
        async def consents(agreement: Agreement, number: int) -> bool:
            proposal = Proposal(
                agreement,
                number,
                plan.walls,
                len(plan.private),
                self.by_invite,
                plan.allow_subprocess,
                self._how_long(agreement),
            )
            return await consent(proposal)

        return consents

    def _how_long(self, agreement: Agreement) -> str:
        return how_long(agreement, max(self._round_trips_s.values(), default=None))

    def _tell(self, event: Event) -> None:
        if isinstance(event, LinkMeasured) and event.round_trip_s is not None:
            self._round_trips_s[event.party] = event.round_trip_s
        self.events.put(event)
        self._party.tell(event)

    async def _admit(self, _joiner: Joiner) -> bool:
        return False

    def _sit_down(self) -> None:
        """Check what can be checked before a network is needed."""
        raise NotImplementedError

    async def _run(self, session: SessionParty, network: Network) -> SessionResult:
        raise NotImplementedError


class HostTable(Table):
    """A session that this party hosts.

    Attributes:
        invites: one for each seat that needs an invite. If a joiner is refused, a new invite replaces the one that it
            used. The repr of an invite hides its secret. Send `str(invite)` to one party, over a channel that only
            that party can read.
    """

    invites: tuple[Invite, ...] = ()

    def __init__(
        self, party: Base, prepared: Prepared, parties: int, expect: Sequence[Onion], admit: Admit, *, is_open: bool
    ) -> None:
        super().__init__(party, prepared)
        self._parties = parties
        self._expect = expect
        self._admits = admit
        self._is_open = is_open
        self._seating: Seating | None = None

    def _sit_down(self) -> None:
        session = self._session(self._prepared.plan)
        self._seating = session.open_seats(self._parties, self._expect, is_open=self._is_open)

    def _tell(self, event: Event) -> None:
        if isinstance(event, InviteReady):
            self.invites = (*self.invites[: event.seat - 1], event.invite, *self.invites[event.seat :])
        super()._tell(event)

    async def _admit(self, joiner: Joiner) -> bool:
        return await self._admits(joiner)

    async def _run(self, session: SessionParty, network: Network) -> SessionResult:
        assert self._seating is not None  # noqa: S101 (inside the context)
        return await session.host(network, self._seating)


class GuestTable(Table):
    """A session that another party hosts."""

    by_invite = True

    def __init__(self, party: Base, prepared: Prepared, host: Invite | Onion) -> None:
        super().__init__(party, prepared)
        self._host = host

    def _sit_down(self) -> None:
        self._session(self._prepared.plan).check_host(self._host)

    async def _run(self, session: SessionParty, network: Network) -> SessionResult:
        return await session.join(network, self._host)


class ListTable(Table):
    """A session without a host, between parties that know each other's addresses."""

    def __init__(self, party: Base, prepared: Prepared, others: Sequence[Onion]) -> None:
        super().__init__(party, prepared)
        self._others = others
        self._common: SharedTerms | None = None

    def _sit_down(self) -> None:
        self._common = self._session(self._prepared.plan).full_list(self._others)

    async def _run(self, session: SessionParty, network: Network) -> SessionResult:
        assert self._common is not None  # noqa: S101 (inside the context)
        return await session.join_listed(network, self._common)


class _Interface:
    """Passes on what a session shows and asks."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        admit: Admit,
        consents: Callable[[Agreement, int], Awaitable[bool]],
    ) -> None:
        self.tell = tell
        self._admit = admit
        self._consents = consents

    async def admits(self, onion: Onion, seat: int) -> bool:
        """See `UserInterface`."""
        return await self._admit(Joiner(onion, seat))

    async def consents(self, agreement: Agreement, own_number: int) -> bool:
        """See `UserInterface`."""
        return await self._consents(agreement, own_number)


def _text(written: bytes) -> str:
    return written.decode("utf-8", "surrogateescape")
