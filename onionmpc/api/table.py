"""Tables: one session each, from the invites to the last result. `Party.host` and `Party.join` return them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

from onionmpc.api.arguments import answered, flag, function, optional, texts
from onionmpc.api.capture import Capture, OnOutput
from onionmpc.api.consenting import Brought, Consenting
from onionmpc.api.events import EventQueue
from onionmpc.api.inputs import AskInput, Confirm, OwnInputs, contents_of
from onionmpc.api.options import Prepared, ProgramOptions, prepare_next
from onionmpc.api.outcome import Result, result_of
from onionmpc.api.people import People, check_own_evidence, load_people
from onionmpc.api.policy import Policy
from onionmpc.api.questions import Admit, Consent, Joiner, refuse
from onionmpc.api.runtime import PartyRuntime
from onionmpc.api.targets import Target
from onionmpc.errors import AgreementError, UsageError
from onionmpc.identity import Onion
from onionmpc.mesh.network import Network
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.spec import Walls
from onionmpc.program.walls.probe import probing
from onionmpc.session.agreement import SharedTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.events import (
    ConsentQuestion,
    Event,
    InviteReady,
    PrivateInputs,
    Proposed,
)
from onionmpc.session.gather import Gathering
from onionmpc.session.invite import Invite
from onionmpc.session.local import Plan
from onionmpc.session.run import SessionParty
from onionmpc.session.session import Session
from onionmpc.tasks import BackgroundTasks, cancel, ended, first_of

Consents = Callable[[ConsentQuestion], Awaitable[PrivateInputs | None]]


class TableState(Enum):
    """How far a table has come, and what to do about a call that comes too early or too late."""

    NEW = "enter the table first: async with ... as table"
    OPEN = "call compute"
    COMPUTING = "wait for the running computation"
    OVER = "open another table for another session"
    LEFT = "open another table, with host or join"


@dataclass(frozen=True, slots=True)
class _Turn:
    """A computation that `compute` asks for, and its result."""

    plan: Plan
    ui: _Interface
    result: asyncio.Future[SessionResult]


class Table:
    """One session. Enter it with `async with`, then call `compute` for each computation.

    Once it is entered, this party's service is published in the background, which takes some seconds after tor has
    started. Then the other parties of the session can find it.

    Attributes:
        events: the events of this session, see `onionmpc.events`. You need not read them; only the last 1000 are kept.
    """

    _by_invite = False

    def __init__(self, runtime: PartyRuntime, prepared: Prepared) -> None:
        self.events = EventQueue()
        self._runtime = runtime
        self._prepared = prepared
        self._state = TableState.NEW
        self._session = SessionParty(runtime.identity, prepared.plan, self._interface(_nobody))
        self._capture: Capture | None = None
        self._computing: asyncio.Task[Any] | None = None
        self._computations = 0
        self._turns: asyncio.Queue[_Turn | None] = asyncio.Queue()
        self._keeping: asyncio.Task[None] | None = None
        self._met: Session | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._open = contextlib.AsyncExitStack()
        self._walls: Callable[[], Walls] | None = None
        self._consenting: Consenting | None = None

    async def __aenter__(self) -> Self:
        """Check the options, make the invites, and begin to publish the address. Nobody is dialled yet.

        Raises:
            UsageError: an option does not fit the number of parties, this party has ended or has another table,
                this table was entered before, its evidence is about another address or has expired, or the contacts or
                the folder of trust cannot be used.
        """
        if self._state is not TableState.NEW:
            raise UsageError("this table was entered before", hint=TableState.LEFT.value)
        async with contextlib.AsyncExitStack() as stack:
            self._runtime.subscribe(self.events)
            stack.callback(self._runtime.unsubscribe, self.events)
            stack.callback(self.events.close)
            check_own_evidence(self._prepared.plan.evidence, self._runtime.identity.onion)
            self._consenting = Consenting(
                self._load_people(self._prepared.trust),
                self._prepared.rule,
                by_invite=self._by_invite,
                allow_difference=self._prepared.allow_difference,
                tell=self._tell,
            )
            self._sit_down()
            known = self._prepared.walls
            self._walls = stack.enter_context(probing()) if known is None else lambda: known
            self._publishing = asyncio.create_task(self._runtime.run_over_network(self._publish))
            stack.push_async_callback(self._stop, self._publishing)
            self._open = stack.pop_all()
        self._state = TableState.OPEN
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave. If another task is still in `compute`, it is cancelled, and the other parties are notified."""
        self._state = TableState.LEFT
        await self._open.aclose()

    async def _stop(self, publishing: asyncio.Task[None]) -> None:
        try:
            # A task cannot wait for its own end. If it leaves by an exception, `compute` has cleaned up already.
            if self._computing is not None and self._computing is not asyncio.current_task():
                await cancel(self._computing)
            if self._keeping is not None:
                self._turns.put_nowait(None)
                await ended(self._keeping)
            await self._leave()
        finally:
            await cancel(publishing)

    @property
    def program_errors(self) -> str:
        """What this party's program has written to its standard error so far. Available even if `compute` failed."""
        return "" if self._capture is None else _text(self._capture.written("stderr"))

    @property
    def present(self) -> tuple[int, ...]:
        """The numbers of the other parties that have not left, as in the last computation. Empty before the first."""
        return () if self._met is None else self._met.present

    async def proposed(self) -> Proposed:
        """Between two computations, wait until another party proposes one. `compute` then takes part in it.

        You need not call this: `compute` waits too. But it is the place to wait if you may change your mind. When you
        cancel this, the table stays open, and leaving it is no failure.

        Returns:
            The proposal that counts: that of the host, or in a full list that of the lowest party.

        Raises:
            SessionOver: nobody is left to propose, or take part in, a further computation.
            UsageError: the table has not computed yet, is computing, or has ended its session.
            TorError: tor could not be used, or was away for longer than `patience_s`.
        """
        if self._state is not TableState.OPEN or self._met is None or self._keeping is None:
            raise UsageError("this table is not between two computations", hint=self._state.value)
        waiting = asyncio.create_task(self._met.proposed())
        try:
            proposal: Proposed = await first_of(waiting, self._keeping)
            return proposal
        finally:
            await cancel(waiting)

    async def compute(
        self,
        program: str | os.PathLike[str] | None = None,
        *,
        input: str | bytes | None = None,  # noqa: A002 (the usual word)
        inputs: Mapping[str, Any] | None = None,
        ask: AskInput | None = None,
        confirm: Confirm | None = None,
        arguments: Sequence[str] = (),
        consent: Consent | Policy = refuse,
        on_output: OnOutput | None = None,
        terminal: bool = False,
        **options: Unpack[ProgramOptions],
    ) -> Result:
        """Agree with the other parties and run the program. The first time, meet them before.

        Call it again for a further computation of the same parties, over the links that they have. A host proposes it,
        and so does each party of a full list: of proposals that cross, that of the lowest party counts. At a joiner,
        wait for the host's proposal.

        Args:
            program: a script, or the name of a program that comes with onionmpc, for a further computation. None
                proposes the first program again, with its options. At a joiner, None takes any program that comes with
                onionmpc, and the script that it joined with.
            input: this party's private input, which its program reads from standard input. A program that comes with
                onionmpc also gets `--input -`, unless you pass `arguments`.
            inputs: this party's private inputs, by the names that the program's block declares: texts, bytes, numbers,
                True or False, lists of these, or a `pathlib.Path` to read one from. They are checked before anyone is
                met; for a further computation that another party proposes, before consent.
            ask: a coroutine function that gets an `InputQuestion` for each declared input that is not in `inputs`. It
                returns the value, or None to leave out an optional one. It is called after consent. Without it, every
                required input must be in `inputs`.
            confirm: a coroutine function that gets an `UnusualInput` for a value beyond a soft bound, and returns
                whether to use it. If not, `ask` is called again. By default, such a value is refused;
                `onionmpc.ALLOW_UNUSUAL` allows it.
            arguments: private arguments, which only this party's program gets, after the public ones. They are never
                in an argv.
            consent: a coroutine function that gets the `Proposal` and returns whether to compute on these terms. The
                default refuses; `onionmpc.AGREE_TO_ANYTHING` consents unseen. Or a `Policy`, whose rules then also give
                the inputs.
            on_output: called with "stdout" or "stderr" and the bytes whenever the program writes some.
            terminal: let the program use this process's standard streams instead of capturing them, so that it can ask
                a person at the terminal.
            **options: see `ProgramOptions`; for a further computation.
        Returns:
            This party's result. The computation succeeded at all other parties too.

        Raises:
            UsageError: the options or arguments are invalid, or the session has ended.
            SessionOver: nobody is left to propose, or take part in, a further computation.
            AgreementError: the parties do not agree, for example because one declined.
            PeerError: a party could not be reached, or left.
            ProgramError: a program failed, here or at another party.
            RemoteProtocolError: a party broke the rules.
            TorError: tor could not be used, or was away for longer than `patience_s`.
            TypeError: `consent`, `admit` or `confirm` is no coroutine function, or answers something other than True or
                False.
            Exception: what `consent`, `admit`, `ask`, `confirm`, `on_output` or `on_event` raised.
        """
        # Before the table counts as used: after a mistake here, the caller can correct it and call again.
        if not isinstance(input, str | bytes | None):
            raise UsageError(f"input: {type(input).__name__}, expected a text or bytes")
        texts("arguments", arguments)
        if not isinstance(consent, Policy):
            function("consent", consent)
        elif input is not None or inputs is not None or ask is not None:
            raise UsageError("the rules of a policy give the inputs: leave out input, inputs and ask")
        optional(function)("on_output", on_output)
        if flag("terminal", terminal) and (input is not None or on_output is not None):
            raise UsageError("a program that uses the terminal cannot have another input or output")
        optional(function)("ask", ask)
        optional(function)("confirm", confirm)
        replaced = input is not None or bool(arguments)
        if inputs is not None and replaced:
            raise UsageError("inputs cannot be combined with input or arguments")
        text = input.encode() if isinstance(input, str) else input
        own_inputs = OwnInputs(text, contents_of(inputs or {}), replaced, ask, confirm)
        prepared = self._prepare(program, options)
        # Of a computation that another party proposes, the program is known later: all learn of a mistake then. The
        # rules of a policy give the inputs later, too.
        follows = self._met is not None and self._met.follows
        if prepared.plan.program is not None and not follows and not isinstance(consent, Policy):
            own_inputs.check(prepared.plan.program.metadata.about)
        plan = prepared.with_private(arguments, reads_input=input is not None)
        if self._state is not TableState.OPEN:
            been = {TableState.OVER: "has ended its session", TableState.COMPUTING: "is computing"}
            raise UsageError(f"this table {been.get(self._state, 'is not open')}", hint=self._state.value)
        self._state, self._computing = TableState.COMPUTING, asyncio.current_task()
        self._computations += 1
        try:
            result = await self._compute(plan, own_inputs, consent, on_output, terminal=terminal)
        except BaseException:
            self._state = TableState.OVER
            raise
        finally:
            self._computing = None
        self._state = TableState.OPEN
        return result

    def _prepare(self, program: str | os.PathLike[str] | None, options: ProgramOptions) -> Prepared:
        if self._computations:
            return prepare_next(self._prepared, self._computations + 1, program, **options)
        if program is not None or options:
            raise UsageError(
                "the program and the options of the first computation belong to the table",
                hint="pass them to host or join",
            )
        return self._prepared

    async def _compute(
        self, plan: Plan, inputs: OwnInputs, consent: Consent | Policy, on_output: OnOutput | None, *, terminal: bool
    ) -> Result:
        assert self._walls is not None  # noqa: S101 (inside the context)
        # The probe has run since the table was entered. Waiting for its result blocks, so a thread waits.
        plan = replace(plan, walls=await asyncio.to_thread(self._walls), hidden=self._runtime.hidden)
        if terminal:
            self._capture = None
            return await self._run_session(plan, OWN_STREAMS, inputs, consent)
        self._capture = Capture(on_output)
        async with self._capture.running():
            result = await self._run_session(plan, self._capture.streams, inputs, consent)
        outputs, errors = _text(self._capture.written("stdout")), _text(self._capture.written("stderr"))
        return replace(result, outputs=outputs, errors=errors)

    async def _run_session(self, plan: Plan, streams: Streams, inputs: OwnInputs, consent: Consent | Policy) -> Result:
        plan, consenting = replace(plan, streams=streams), self._consenting
        assert consenting is not None  # noqa: S101 (inside the context)
        consenting.own_reason = None
        async with contextlib.AsyncExitStack() as until_end, BackgroundTasks(self._published()):
            asked = partial(consenting.ask, Brought(plan, inputs, consent, self._capture, until_end))
            try:
                result = result_of(await self._take_turn(plan, self._interface(asked)))
            except AgreementError as error:
                raise consenting.own_reason or error from None
            finally:
                await consenting.take_back()
        return result if consenting.agreed is None else replace(result, seats=consenting.agreed.seats)

    async def _take_turn(self, plan: Plan, ui: _Interface) -> SessionResult:
        """Have the session run a computation. If this is cancelled, or the computation fails, the session ends."""
        turn = _Turn(plan, ui, asyncio.get_running_loop().create_future())
        self._turns.put_nowait(turn)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._runtime.run_over_network(self._keep_session))
        keeping = self._keeping
        ends: set[asyncio.Future[Any]] = {turn.result, keeping}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not turn.result.done():
                keeping.result()
            return turn.result.result()
        except BaseException:
            self._keeping = None
            await cancel(keeping)
            raise

    async def _keep_session(self, network: Network) -> None:
        """Keep the session's links, and run the computations that `compute` asks for, until the table is left."""
        turn = await self._turns.get()
        if turn is None:
            return
        async with self._meet(self._session.for_computation(turn.plan, turn.ui), network) as session:
            self._met = session
            turn.result.set_result(await session.first())
            while (turn := await self._turns.get()) is not None:
                turn.result.set_result(await session.next(turn.plan, turn.ui))

    async def _publish(self, network: Network) -> None:
        await self._session.publish(network, self._keys())

    async def _published(self) -> None:
        """Fail if the address could not be published: peers that dial this party would wait in vain."""
        assert self._publishing is not None  # noqa: S101 (inside the context)
        await asyncio.wait({self._publishing})
        self._publishing.result()

    def _interface(self, consents: Consents) -> _Interface:
        return _Interface(self._tell, self._admit, consents)

    def _tell(self, event: Event) -> None:
        if self._consenting is not None:
            self._consenting.note(event)
        self.events.put(event)
        self._runtime.tell(event)

    async def _admit(self, _joiner: Joiner) -> bool:
        return False

    # -- what differs between the ways to a session

    def _load_people(self, trust: Path | None) -> People:
        """Read whom this user knows."""
        raise NotImplementedError

    def _sit_down(self) -> None:
        """Check what can be checked before a network is needed."""
        raise NotImplementedError

    def _keys(self) -> Sequence[bytes]:
        """Return the discovery keys of this party's service."""
        raise NotImplementedError

    def _meet(self, party: SessionParty, network: Network) -> AbstractAsyncContextManager[Session]:
        """Return what meets the other parties, and keeps the session with them."""
        raise NotImplementedError

    async def _leave(self) -> None:
        """Send away all joiners that wait at this table."""


class HostTable(Table):
    """A session that this party hosts.

    Joiners can come as soon as the address is published: the parties of this session alone, or anyone if it is `open`.
    They wait in their seats until `compute` asks `admit` about them. If you leave the table instead, they are sent
    away.

    Attributes:
        invites: one for each seat that needs an invite. If a joiner is refused, a new invite replaces the one that it
            used. The repr of an invite hides its secret. Send `str(invite)` to one party, over a channel that only
            that party can read.
    """

    invites: tuple[Invite, ...] = ()

    def __init__(
        self,
        runtime: PartyRuntime,
        prepared: Prepared,
        parties: int,
        expect: Sequence[Onion],
        admit: Admit,
        *,
        is_open: bool,
    ) -> None:
        super().__init__(runtime, prepared)
        self._parties = parties
        self._expect = expect
        self._admits = admit
        self._is_open = is_open
        self._gathering: Gathering | None = None

    def _load_people(self, trust: Path | None) -> People:
        return load_people(trust, self._expect)

    def _sit_down(self) -> None:
        self._gathering = self._session.open_seats(self._parties, self._expect, is_open=self._is_open)

    def _keys(self) -> Sequence[bytes]:
        assert self._gathering is not None  # noqa: S101 (inside the context)
        return self._gathering.seating.keys()

    def _tell(self, event: Event) -> None:
        if isinstance(event, InviteReady):
            self.invites = (*self.invites[: event.seat - 1], event.invite, *self.invites[event.seat :])
        super()._tell(event)

    async def _admit(self, joiner: Joiner) -> bool:
        return await answered("admit", self._admits(joiner))

    def _meet(self, party: SessionParty, network: Network) -> AbstractAsyncContextManager[Session]:
        assert self._gathering is not None  # noqa: S101 (inside the context)
        return party.host(network, self._gathering)

    async def _leave(self) -> None:
        assert self._gathering is not None  # noqa: S101 (inside the context)
        await self._session.close_seats(self._gathering)


class GuestTable(Table):
    """A session that another party hosts."""

    _by_invite = True

    def __init__(self, runtime: PartyRuntime, prepared: Prepared, host: Invite | Onion) -> None:
        super().__init__(runtime, prepared)
        self._host = host

    def _load_people(self, trust: Path | None) -> People:
        if isinstance(self._host, Invite):
            return load_people(trust, (), self._host.host)
        return load_people(trust, [self._host], self._host)

    def _sit_down(self) -> None:
        self._session.check_host(self._host)

    def _keys(self) -> Sequence[bytes]:
        return self._session.keys_of_joiner(self._host)

    def _meet(self, party: SessionParty, network: Network) -> AbstractAsyncContextManager[Session]:
        return party.join(network, self._host)


class ListTable(Table):
    """A session without a host, between parties that know each other's addresses."""

    def __init__(self, runtime: PartyRuntime, prepared: Prepared, others: Sequence[Onion]) -> None:
        super().__init__(runtime, prepared)
        self._others = others
        self._common: SharedTerms | None = None

    def _load_people(self, trust: Path | None) -> People:
        return load_people(trust, self._others)

    def _sit_down(self) -> None:
        self._common = self._session.full_list(self._others)

    def _keys(self) -> Sequence[bytes]:
        assert self._common is not None  # noqa: S101 (inside the context)
        return self._session.keys_of_listed(self._common)

    def _meet(self, party: SessionParty, network: Network) -> AbstractAsyncContextManager[Session]:
        assert self._common is not None  # noqa: S101 (inside the context)
        return party.join_listed(network, self._common)


def join_table(runtime: PartyRuntime, target: Target, prepared: Prepared) -> Table:
    """Return the table for what `parse_target` returned."""
    if isinstance(target, Invite | str):
        return GuestTable(runtime, prepared, target)
    return ListTable(runtime, prepared, target)


class _Interface:
    """Passes on what a session shows and asks."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        admit: Admit,
        consents: Consents,
    ) -> None:
        self.tell = tell
        self._admit = admit
        self._consents = consents

    async def admits(self, onion: Onion, seat: int) -> bool:
        """See `UserInterface`."""
        return await self._admit(Joiner(onion, seat))

    async def consents(self, question: ConsentQuestion) -> PrivateInputs | None:
        """See `UserInterface`."""
        return await self._consents(question)


async def _nobody(_question: ConsentQuestion) -> PrivateInputs | None:
    """Refuse: before `compute`, nobody can consent."""
    return None


def _text(written: bytes) -> str:
    return written.decode("utf-8", "surrogateescape")
