"""One session of this person, from the first invitation to the last result: asks what the session asks, and waits.

Questions become happenings, which the page shows; intents answer them. An answer that names another question than the
one that is open comes too late, and is refused. Private inputs stay here only until the program has them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import onionmpc
from onionmpc.app.happenings import (
    Computed,
    ConsentAsked,
    ConsentGiven,
    FormChecked,
    Happening,
    InputsTaken,
    JoinerAnswered,
    JoinerAsks,
)
from onionmpc.app.intents import AnswerAgreement, AnswerJoiner, ComputeAgain, GiveInputs
from onionmpc.app.views import consent_of, field_of, names_in, result_of
from onionmpc.errors import UsageError

OpenTable = Callable[[onionmpc.Party, "Sitting"], onionmpc.Table]


@dataclass(slots=True, eq=False)
class _Open:
    """A question that waits for this person's answer; `key` says which one it is."""

    key: object
    answer: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class _Given:
    """What this person gave to the program, by the names of the form."""

    values: Mapping[str, str] = field(repr=False)
    sure_of: tuple[str, ...]


class Sitting:
    """One session.

    Args:
        happened: told what happens.
        hosts: whether this person hosts it.
    """

    def __init__(self, happened: Callable[[Happening], None], *, hosts: bool) -> None:
        self._happened = happened
        self._hosts = hosts
        self._names = names_in(onionmpc.contacts())
        self._open: _Open | None = None
        self._questions: tuple[onionmpc.InputQuestion, ...] = ()
        self._given: asyncio.Future[_Given] | None = None
        self._again: asyncio.Future[str | None] | None = None

    async def run(self, party: AbstractAsyncContextManager[onionmpc.Party], open_table: OpenTable) -> None:
        """Take part until this person leaves, which cancels this.

        Raises:
            OnionMPCError: the session failed.
        """
        program: str | None = None
        async with party as me, open_table(me, self) as table:
            while True:
                result = await table.compute(program, consent=self._consents, ask=self._asks, confirm=self._confirms)
                self._given = None
                self._happened(Computed(result_of(result)))
                program = await self._next(table)

    async def _next(self, table: onionmpc.Table) -> str | None:
        """Wait for what comes next: the host's choice, or at a joiner its host's proposal."""
        if not self._hosts:
            await table.proposed()
            return None
        self._again = asyncio.get_running_loop().create_future()
        return await self._again

    # -- what the session asks

    async def admits(self, joiner: onionmpc.Joiner) -> bool:
        """Ask whether a joiner may take part."""
        self._happened(JoinerAsks(joiner.seat, joiner.onion, self._names.get(joiner.onion, "")))
        return await self._answered((joiner.seat, joiner.onion))

    async def _consents(self, proposal: onionmpc.Proposal) -> bool:
        view = consent_of(proposal)
        self._happened(ConsentAsked(view, proposal.program, proposal.title, proposal.computation, None))
        if not await self._answered(view.shown):
            return False
        # Asked again about the same computation, this person has filled in the form before.
        self._questions = () if self._given is not None else proposal.questions
        if self._questions:
            self._given = asyncio.get_running_loop().create_future()
        self._happened(ConsentGiven(tuple(map(field_of, self._questions))))
        return True

    async def _asks(self, question: onionmpc.InputQuestion) -> str | None:
        assert self._given is not None  # noqa: S101 (the session asks after consent)
        return (await self._given).values.get(question.name)

    async def _confirms(self, unusual: onionmpc.UnusualInput) -> bool:
        assert self._given is not None  # noqa: S101 (as above)
        return unusual.name in (await self._given).sure_of

    async def _answered(self, key: object) -> bool:
        self._open = _Open(key)
        try:
            return await self._open.answer
        finally:
            self._open = None

    # -- what this person answers

    def answer_joiner(self, intent: AnswerJoiner) -> None:
        """Admit or refuse a joiner."""
        self._answer((intent.seat, intent.address), yes=intent.admit)
        self._happened(JoinerAnswered(intent.seat))

    def answer_agreement(self, intent: AnswerAgreement) -> None:
        """Agree, or decline."""
        self._answer(intent.shown, yes=intent.agree)

    def give(self, intent: GiveInputs) -> None:
        """Check what this person gave, and hand it over; or show what is wrong with it."""
        if self._given is None or self._given.done():
            raise _too_late()
        fields, accepted = [], True
        for question in self._questions:
            value = intent.values.get(question.name, "")
            refused, unusual = _judge(question, value)
            accepted = accepted and not refused and (not unusual or question.name in intent.sure_of)
            fields.append(field_of(question, refused=refused, unusual=unusual))
        if not accepted:
            self._happened(FormChecked(tuple(fields)))
            raise UsageError("some of the input needs another look")
        self._given.set_result(_Given({name: value for name, value in intent.values.items() if value}, intent.sure_of))
        self._happened(InputsTaken())

    def compute_again(self, intent: ComputeAgain) -> None:
        """Propose a further computation."""
        if self._again is None or self._again.done():
            raise _too_late()
        self._again.set_result(intent.program)

    def _answer(self, key: object, *, yes: bool) -> None:
        if self._open is None or self._open.key != key or self._open.answer.done():
            raise _too_late()
        self._open.answer.set_result(yes)


def _judge(question: onionmpc.InputQuestion, value: str) -> tuple[str, str]:
    """Return why a value is refused, and what its author asks about it if it is unusual."""
    if not value:
        return ("" if question.optional else question.expected), ""
    try:
        unusual = question.unusual(value)
    except UsageError as error:
        return error.message, ""
    return "", "" if unusual is None else unusual.sentence


def _too_late() -> UsageError:
    return UsageError("this comes too late: something else has happened since", hint="look at the page again")
