"""Runs the computations of one session at this party, one after the other, and decides what comes after each.

A host, and each party of a full list, proposes what --then names or what a person chooses. A joiner follows its host.
"""

from __future__ import annotations

import asyncio
import collections
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from onionmpc.api.events import Proposed
from onionmpc.api.inputs import Confirm, InputQuestion
from onionmpc.api.options import Prepared, numbered, prepare, program_names
from onionmpc.api.outcome import Result
from onionmpc.api.questions import Proposal
from onionmpc.api.table import Table
from onionmpc.cli.display import Display, TextDisplay
from onionmpc.cli.further import Agenda, Wanted, blamed
from onionmpc.cli.summary import summary_data
from onionmpc.errors import OTHERS_GONE, AgreementError, SessionOver, UsageError
from onionmpc.files import write_named
from onionmpc.tasks import cancel
from onionmpc.text import printable


@dataclass(frozen=True, slots=True)
class Turn:
    """The next computation.

    Attributes:
        proposed: the name of the program that another party proposes; None if this party proposes.
        planned: whether --then names it, so that no other one may take its place.
    """

    choice: Wanted
    proposed: str | None = None
    planned: bool = False


@dataclass(frozen=True, slots=True)
class Departure:
    """How this party left a session that went well.

    Attributes:
        last: the result of the last computation.
        by_user: whether its user left.
    """

    last: Result
    by_user: bool


@dataclass(frozen=True, slots=True)
class _Demand:
    """What this party has decided to take part in beforehand; None leaves the public arguments open."""

    program: str
    public: tuple[str, ...] | None

    def check(self, proposal: Proposal) -> None:
        """Check what is proposed, in words for all parties.

        Raises:
            AgreementError: it is something else.
        """
        if proposal.program != self.program:
            raise AgreementError(
                f"it takes part in {self.program} alone, and {printable(proposal.program)} is proposed"
            )
        if self.public is not None and tuple(proposal.options["public_arguments"]) != self.public:
            raise AgreementError(f"it takes part in {self.program} with other public arguments alone")


class Turns:
    """The computations of one session.

    Args:
        agenda: what this party wants to compute.
        display: shows the session.
        person: the same display, if a person answers questions.
        confirm: asks about unusual inputs.
        json_file: where to write a summary of each computation.
        succeeded: called with the agreement of each computation that succeeded.
    """

    def __init__(
        self,
        table: Table,
        agenda: Agenda,
        display: Display,
        person: TextDisplay | None,
        *,
        confirm: Confirm | None,
        json_file: Path | None,
        succeeded: Callable[[Proposal], None] | None = None,
    ) -> None:
        self._table = table
        self._agenda = agenda
        self._display = display
        self._person = person
        self._confirm = confirm
        self._json_file = json_file
        self._succeeded = succeeded
        self._agreed: Proposal | None = None
        self._then = collections.deque(agenda.then)
        self._begun = 0
        self._demand: _Demand | None = None
        # The last computation, and the last one of each program: its arguments fit when that program runs again.
        self._program = ""
        self._choice = agenda.choices[0]
        self._earlier: dict[str, Wanted] = {}
        self._by_user = False

    async def run(self) -> Departure:
        """Compute until nothing is left to compute, or this party's user leaves.

        Raises:
            SessionOver: nobody is left for a computation that --then names.
            OnionMPCError: a computation failed.
        """
        last = await self._compute(Turn(self._choice), self._agenda.first)
        try:
            while (turn := await self._next()) is not None:
                last = await self._compute(turn, self._prepared(turn))
        except SessionOver as error:
            if self._then:
                missed = ", ".join(printable(choice.program or "a further one", 60) for choice in self._then)
                raise SessionOver(f"{error.message}; not computed: {missed}") from error
            self._display.over(error)
        self._display.leaves()
        return Departure(last, self._by_user)

    # -- what comes next

    async def _next(self) -> Turn | None:
        """Return the next computation, None to leave.

        Raises:
            SessionOver: nobody is left who could propose one.
        """
        try:
            if self._agenda.first.joins_host:
                self._display.waits()
                return self._follow(await self._table.proposed())
            if self._then:
                return Turn(self._then[0], planned=True)
            return None if self._person is None else await self._ask(self._person)
        except asyncio.CancelledError:
            # Ctrl-C between two computations: this party leaves, which is no failure.
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 (a coroutine runs in a task)
            task.uncancel()
            self._by_user = True
            return None

    def _follow(self, proposal: Proposed) -> Turn:
        """Return what this party needs for a computation that another one proposes."""
        name, first = proposal.program, self._agenda.first
        is_first = first.plan.program is not None and first.plan.program.name == name
        included = None if is_first or name not in program_names() else name
        if self._then:
            choice = replace(self._then[0], program=self._then[0].program or included)
            return Turn(choice, name, planned=True)
        earlier = self._earlier.get(name, Wanted())
        if first.joins_host:
            return Turn(Wanted(earlier.program or included, private=earlier.private), name)
        return Turn(earlier, name)

    async def _ask(self, person: TextDisplay) -> Turn | None:
        """Ask what to compute next. If another party proposes something first, follow that."""
        question = person.asks_next(self._program, self._choice, lambda: self._table.present, self._check)
        asking, proposed = asyncio.create_task(question), asyncio.create_task(self._table.proposed())
        try:
            await asyncio.wait({asking, proposed}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return self._follow(proposed.result())
            choice = asking.result()
        finally:
            await cancel(asking, proposed)
        self._by_user = choice is None
        return None if choice is None else Turn(choice)

    # -- one computation

    def _prepared(self, turn: Turn) -> Prepared:
        if turn.proposed is not None:
            # In a full list, this party has no public arguments for an included program that it did not choose.
            is_open = turn.choice == Wanted() and turn.proposed in program_names()
            number = self._begun + 1
            return (
                prepare(turn.proposed, joins_host=True) if is_open else turn.choice.prepared(self._agenda.first, number)
            )
        try:
            return self._check(turn.choice)
        except UsageError as error:
            if turn.planned:
                raise blamed(error, 1 + len(self._agenda.then) - len(self._then), turn.choice) from error
            raise

    def _check(self, choice: Wanted) -> Prepared:
        """Check a computation that this party would propose now.

        Raises:
            UsageError: it is not valid, or not with so few parties.
            SessionOver: the other parties have left.
        """
        if not self._table.present:
            raise SessionOver(OTHERS_GONE)
        prepared = choice.prepared(self._agenda.first, self._begun + 1)
        prepared.check_parties(1 + len(self._table.present))
        return prepared

    async def _compute(self, turn: Turn, prepared: Prepared) -> Result:
        choice, number, policy = turn.choice, self._begun + 1, self._agenda.policy
        self._choice, self._demand = choice, self._demanded(turn, prepared)
        if self._demand is not None and turn.proposed not in (None, self._demand.program):
            # Take part only to say no, so that all learn why.
            return await self._table.compute(consent=self._consents, ask=_nothing, terminal=True)
        if number > 1 and turn.proposed is None:
            self._display.proposes(prepared.plan.program.name if prepared.plan.program else "")
        result = await self._table.compute(
            choice.program,
            arguments=choice.private,
            consent=self._consents if policy is None else replace(policy, then=self._consents),
            inputs=choice.takes(prepared, self._agenda.inputs) or None,
            ask=None if self._person is None else self._person.gives,
            confirm=self._confirm,
            terminal=True,
            **choice.options,
        )
        self._begun = number
        if turn.planned:
            self._then.popleft()
        self._display.ended(result, number)
        if self._succeeded is not None and self._agreed is not None:
            self._succeeded(self._agreed)
        if self._json_file is not None:
            summary = json.dumps(summary_data(result, number), indent=2).encode() + b"\n"
            write_named(numbered(self._json_file, number), summary)
        if result.flaw is not None:
            self._display.flawed(result.flaw)
        return result

    def _demanded(self, turn: Turn, prepared: Prepared) -> _Demand | None:
        program = prepared.plan.program
        if turn.planned and program is not None:
            is_open = self._agenda.first.joins_host and not turn.choice.public
            return _Demand(program.name, None if is_open else turn.choice.public)
        first = self._agenda.first.plan.program
        if turn.proposed is not None and self._person is None and self._agenda.policy is None and first is not None:
            # Nobody reads the agreement, and this party's user named a program: other ones need a --then, or a rule.
            return _Demand(first.name, None)
        return None

    async def _consents(self, proposal: Proposal) -> bool:
        if self._demand is not None:
            self._demand.check(proposal)
        self._agreed, self._program = proposal, proposal.program
        self._choice = replace(self._choice, public=tuple(proposal.options["public_arguments"]))
        self._earlier[proposal.program] = self._choice
        return await self._display.consents(proposal)


async def _nothing(_question: InputQuestion) -> None:
    """Give no input: this party says no before it is asked for one."""
