"""Asks for this party's consent, in one computation of a session after the other, and gives its inputs to the program.

Knows what was agreed before, whom the user knows, and why this party itself said no. Does not know links, or how a
computation runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from onionmpc.api.arguments import answered
from onionmpc.api.capture import Capture, InputPipe
from onionmpc.api.inputs import Confirm, OwnInputs, deliver
from onionmpc.api.people import People
from onionmpc.api.policy import REFUSED, Allowance, Policy
from onionmpc.api.questions import Consent, Proposal
from onionmpc.api.screen import how_long
from onionmpc.errors import AgreementError, OnionMPCError, UsageError
from onionmpc.files import scratch_directory
from onionmpc.names.standing import Seat, StrangersRule
from onionmpc.program.block import ProgramBlock
from onionmpc.program.inputs import CheckedInput, unusual_public
from onionmpc.session.differences import History
from onionmpc.session.events import Agreed, ConsentQuestion, Event, LinkMeasured, PrivateInputs, SeatsRefused
from onionmpc.session.local import Plan

HISTORY_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Brought:
    """What this party brings to one computation.

    Attributes:
        capture: keeps the program's output; None if the program uses the terminal.
        until_end: keeps what the program reads its inputs from until the computation has ended.
    """

    plan: Plan
    inputs: OwnInputs = field(repr=False)
    consent: Consent | Policy
    capture: Capture | None
    until_end: contextlib.AsyncExitStack


class Consenting:
    """The consents of one session.

    Args:
        people: whom this user knows.
        rule: with whom this party computes.
        by_invite: whether a host named the other parties.
        allow_difference: see `SessionOptions`.
        tell: shows an event.

    Attributes:
        own_reason: why this party said no, for its own user; None if it did not.
        agreed: what it agreed to last, None before that.
    """

    def __init__(
        self,
        people: People,
        rule: StrangersRule,
        *,
        by_invite: bool,
        allow_difference: bool,
        tell: Callable[[Event], None],
    ) -> None:
        self.own_reason: OnionMPCError | None = None
        self.agreed: Proposal | None = None
        self._people = people
        self._rule = rule
        self._by_invite = by_invite
        self._allow_difference = allow_difference
        self._tell = tell
        self._history = History(secrets.token_bytes(HISTORY_KEY_BYTES))
        self._round_trips_s: dict[int, float] = {}
        self._allowance: Allowance | None = None

    def note(self, event: Event) -> None:
        """Note what an event says about the next consent, or the last one."""
        match event:
            case LinkMeasured(party=party, round_trip_s=round_trip_s) if round_trip_s is not None:
                self._round_trips_s[party] = round_trip_s
            case Agreed():
                self._allowance = None  # the program starts next: its run stays counted, no matter how it ends

    async def ask(self, brought: Brought, question: ConsentQuestion) -> PrivateInputs | None:
        """Ask for consent, then collect this party's inputs and make them ready for its program.

        Returns:
            None if there is no consent.

        Raises:
            AgreementError: why not. `own_reason` may say more.
        """
        agreement, about = question.agreement, question.about
        plan, inputs, consent = brought.plan, brought.inputs, brought.consent
        seats = await self._seated(question)
        allowed_by = None
        if isinstance(consent, Policy):
            allowance = await self._allowed(consent, question, seats, plan.private)
            inputs = self._given(allowance, plan.private, inputs.confirm)
            consent, allowed_by = consent.then, allowance.by
        try:
            inputs.check(about)  # a joiner may learn only now which program runs
        except UsageError as error:
            raise self._no_valid_input(error) from error
        given = await asyncio.to_thread(self._digests, inputs.pieces(plan.private))
        proposal = Proposal(
            agreement,
            question.own_number,
            plan.walls,
            len(plan.private),
            self._by_invite,
            plan.allow_subprocess,
            how_long(agreement, max(self._round_trips_s.values(), default=None)),
            title="" if about is None else about.title,
            reveals="" if about is None else about.reveals,
            unusual=() if about is None else tuple(unusual_public(about, agreement.common.public_arguments)),
            computation=self._history.next_number,
            previous=self.agreed,
            exposes=self._history.exposures(agreement.common, given),
            allow_difference=self._allow_difference,
            seats=seats,
            names=self._people.names,
            questions=inputs.questions(about, agreement.common.public_arguments),
            allowed_by=allowed_by,
        )
        if not await self._consent(consent, proposal):
            return None
        if about is None or not about.input or inputs.replaced:
            self._agree(proposal, given)
            return await _hand_over(brought, inputs.text)
        try:
            checked = await inputs.collect(about, agreement.common.public_arguments)
        except UsageError as error:
            raise self._no_valid_input(error) from error
        # What was typed is known only now. It may expose a party that consent has not heard of.
        given |= self._digests([one.content] for one in checked.values())
        exposes = self._history.exposures(agreement.common, given)
        told, proposal = proposal, replace(proposal, exposes=exposes, again=True)
        if not proposal.exposed <= told.exposed and not await self._consent(consent, proposal):
            return None
        self._agree(proposal, given)
        return await _deliver(brought, about, checked)

    async def _seated(self, question: ConsentQuestion) -> tuple[Seat, ...]:
        """Find what each other party is to this user.

        Raises:
            AgreementError: the strangers rule refuses them.
        """
        # In a thread: every peer can show four pieces of evidence, and each takes milliseconds.
        seats = await asyncio.to_thread(self._people.seats, question)
        try:
            self._rule.check(seats, question.agreement.common.threshold)
        except AgreementError as error:
            self._tell(SeatsRefused(seats))
            # The hint is for this party's user alone: it has names.
            self.own_reason = AgreementError(f"this party did not agree: {error.message}", hint=error.hint)
            raise
        return seats

    async def _allowed(
        self, policy: Policy, question: ConsentQuestion, seats: tuple[Seat, ...], private: Sequence[str]
    ) -> Allowance:
        """Find a rule that allows what is proposed, and count the run.

        Raises:
            AgreementError: no rule does, or the count of runs cannot be used. The others do not learn which.
        """
        try:
            allowance = await policy.allows(question.agreement, seats, self._people.trust, private)
        except (AgreementError, UsageError) as error:
            self.own_reason = error
            raise AgreementError(REFUSED) from error
        self._allowance = allowance
        return allowance

    def _given(self, allowance: Allowance, private: Sequence[str], confirm: Confirm | None) -> OwnInputs:
        try:
            return allowance.inputs(private, confirm)
        except UsageError as error:
            raise self._no_valid_input(error) from error

    async def take_back(self) -> None:
        """Take back the run that was counted for a program that never started."""
        if (allowance := self._allowance) is not None:
            self._allowance = None
            with contextlib.suppress(UsageError):  # it stays counted, which is the safe side
                await asyncio.to_thread(allowance.take_back)

    def _digests(self, inputs: Iterable[Iterable[bytes]]) -> set[bytes]:
        return {digest for digest in map(self._history.digest, inputs) if digest is not None}

    async def _consent(self, consent: Consent, proposal: Proposal) -> bool:
        try:
            return await answered("consent", consent(proposal))
        except AgreementError as error:
            if not proposal.exposes or any(exposure.same_program for exposure in proposal.exposes):
                raise
            # The reason would tell the others that this party gives an input again. It is for this party's user alone.
            self.own_reason = error
            raise AgreementError("its user declined") from error

    def _agree(self, proposal: Proposal, given: Set[bytes]) -> None:
        """Keep what this party has agreed to, for the next proposal to be compared with."""
        self._history.add(proposal.agreement.common, given)
        self.agreed = proposal.as_previous()

    def _no_valid_input(self, error: UsageError) -> AgreementError:
        """Keep the details for this party's user; return the error for the others."""
        self.own_reason = AgreementError(error.message, hint=error.hint)
        return AgreementError("its user gave no valid input")


async def _deliver(brought: Brought, about: ProgramBlock, checked: Mapping[str, CheckedInput]) -> PrivateInputs:
    folder = brought.until_end.enter_context(scratch_directory())
    delivery, arguments = deliver(about, checked, folder)
    # A pipe instead of the terminal, even if it is empty: the program cannot ask for what its block declares.
    return await _hand_over(brought, delivery.stdin, arguments)


async def _hand_over(brought: Brought, stdin: bytes | None, arguments: tuple[str, ...] = ()) -> PrivateInputs:
    """Make ready what the program reads from standard input.

    Args:
        stdin: None for this process's own, unless the program's streams are captured.
    """
    if brought.capture is not None:
        brought.capture.input.give(stdin or b"")
        return PrivateInputs(arguments)
    if stdin is None:
        return PrivateInputs(arguments)
    pipe = InputPipe()
    await brought.until_end.enter_async_context(pipe.open())
    pipe.give(stdin)
    return PrivateInputs(arguments, pipe.descriptor)
