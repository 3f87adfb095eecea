"""The questions that a session asks of the program that embeds it, and ready-made answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from onionmpc.api.inputs import InputQuestion
from onionmpc.api.screen import agreement_lines, changed_labels, exposed_parties, mark_changes, policy_lines
from onionmpc.errors import AgreementError
from onionmpc.identity import Onion
from onionmpc.names.standing import Seat
from onionmpc.program.spec import Walls
from onionmpc.session.agreed_options import agreed_values
from onionmpc.session.agreement import Agreement, session_id
from onionmpc.session.differences import Exposure
from onionmpc.session.roster_words import roster_fingerprint


@dataclass(frozen=True, slots=True)
class Joiner:
    """A party that asks for a seat.

    Attributes:
        onion: its address.
        seat: the number of the seat, from 1. A seat's invite has the same number.
    """

    onion: Onion
    seat: int


@dataclass(frozen=True, slots=True)
class AllowedBy:
    """The rule of a policy that allows a proposal.

    Attributes:
        file: the policy.
        policy: the SHA-256 of that file, in hex.
        rule: the number of the rule, from 1.
        digest: the SHA-256 of the rule's content, in hex.
    """

    file: str
    policy: str
    rule: int
    digest: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """The agreement to consent to. Nothing is computed before all parties have consented to the same one.

    `str(proposal)` is the text that the command line shows.

    Attributes:
        agreement: all terms. `agreement.common` is equal at all parties: the program with the SHA-256 of its files, the
            addresses in party order, the threshold and so on. `agreement.own` is what each party states about itself.
        number: this party's number, which is its index in the addresses.
        walls: the protections of this party's program process.
        private_arguments: how many arguments only this party's program gets.
        by_invite: whether a host named the other parties. If so, compare `fingerprint` with them over another channel.
        allow_subprocess: whether this party's program may start processes.
        takes: how long the session will take, in words; empty if no dry run was made (see: onionmpc estimate).
        title, reveals: what the program is and what it reveals to whom, as its author claims; empty if the script has
            no block that says so (docs/reference/blocks.md).
        unusual: a sentence for each public argument beyond what the program's author calls usual.
        computation: which computation of this session it is, from 1.
        previous: what this party last consented to in this session, None in the first computation.
        exposes: whose inputs this result may expose, together with an earlier one of this session.
        allow_difference: whether this party accepts that without being asked.
        again: whether you consented to these terms before you typed your inputs, which change `exposes`.
        seats: what each other party is to this user, and how it is known.
        names: this user's own names for addresses, from its contacts.
        questions: what the program declares as its private input and was not given to `compute`. `ask` is called with
            each after consent.
        allowed_by: the rule that allows it; None without a policy.
    """

    agreement: Agreement
    number: int
    walls: Walls
    private_arguments: int
    by_invite: bool
    allow_subprocess: bool
    takes: str = ""
    title: str = ""
    reveals: str = ""
    unusual: tuple[str, ...] = ()
    computation: int = 1
    previous: Proposal | None = None
    exposes: tuple[Exposure, ...] = ()
    allow_difference: bool = False
    again: bool = False
    seats: tuple[Seat, ...] = ()
    names: Mapping[Onion, str] = field(default_factory=dict)
    questions: tuple[InputQuestion, ...] = ()
    allowed_by: AllowedBy | None = None

    def __str__(self) -> str:
        """Return `text`."""
        return self.text

    @property
    def text(self) -> str:
        """The agreement in words, to show to the user: about 20 lines. What others state is safe to print.

        From the second computation on, it marks what has changed since the last one.
        """
        lines = self._lines()
        if self.previous is not None:
            changed = set(changed_labels(self.agreement.common, self.previous.agreement.common))
            before = self.previous._lines()  # noqa: SLF001 (ours)
            lines = list(mark_changes(lines, before, changed, self.computation - 1))
        why = ["You are asked again: the input that you typed changes whom this result may expose."]
        return "\n".join([*(why if self.again else []), "The agreement:", *lines])

    def _lines(self) -> list[str]:
        before = None if self.previous is None else self.previous.agreement.common
        lines = agreement_lines(
            self.agreement,
            self.number,
            self.private_arguments,
            self.takes,
            title=self.title,
            reveals=self.reveals,
            unusual=self.unusual,
            by_invite=self.by_invite,
            walls=self.walls,
            allow_subprocess=self.allow_subprocess,
            computation=self.computation,
            before=before,
            exposes=self.exposes,
            seats=self.seats,
            names=self.names,
        )
        rule = self.allowed_by
        consents = [] if rule is None else list(policy_lines(rule.file, rule.policy, rule.rule, rule.digest))
        return [*lines, *consents]

    def as_previous(self) -> Proposal:
        """Return a copy for the next proposal to be compared with. It holds none before it."""
        return replace(self, previous=None, again=False)

    @property
    def program(self) -> str:
        """The name of the program."""
        return self.agreement.common.program

    @property
    def parties(self) -> tuple[Onion, ...]:
        """All addresses, in party order."""
        return tuple(map(Onion, self.agreement.common.addresses))

    @property
    def threshold(self) -> int:
        """Any threshold + 1 parties together can read every input."""
        return self.agreement.common.threshold

    @property
    def options(self) -> Mapping[str, Any]:
        """The value of each option that all parties agreed on, by its name in JSON."""
        return agreed_values(self.agreement.common)

    @property
    def exposed(self) -> frozenset[Onion]:
        """All addresses in `exposes`."""
        return frozenset(onion for exposure in self.exposes for onion in exposure.onions)

    @property
    def session(self) -> str:
        """The session id, 64 hex digits. It is equal at two parties only if their agreements are equal."""
        return session_id(self.agreement).hex()

    @property
    def fingerprint(self) -> str:
        """The roster in words: ten words that are equal at two parties only if their addresses are the same."""
        return roster_fingerprint(self.agreement.common.addresses)


Consent = Callable[[Proposal], Awaitable[bool]]
Admit = Callable[[Joiner], Awaitable[bool]]


async def AGREE_TO_ANYTHING(proposal: Proposal) -> bool:  # noqa: N802 (reads as the constant that it is)
    """Consent to every agreement, unseen: to any program, parties and threshold.

    The session has refused beforehand if one person could read everything from the seats of strangers, or
    `max_unknown` was exceeded. Consent lifts neither.

    Raises:
        AgreementError: the result may expose a party, together with an earlier one of this session, and
            `allow_difference` is False.
    """
    if proposal.exposes and not proposal.allow_difference:
        # All parties learn the message: it names an exposure that they can see as well, if there is one.
        worst = next((one for one in proposal.exposes if one.same_program), proposal.exposes[0])
        raise AgreementError(
            f"with the result of computation {worst.computations[0]}, this one may expose what "
            f"{exposed_parties(worst)} gave (allow_difference=True allows that)"
        )
    return True


async def ADMIT_ANYONE(_joiner: Joiner) -> bool:  # noqa: N802
    """Admit every joiner."""
    return True


async def admit_the_invited(_joiner: Joiner) -> bool:
    """Admit each joiner. The session asks only about one that has an invite or is expected, unless it is open."""
    return True


async def refuse(_proposal: Proposal) -> bool:
    """Refuse every agreement: the default, so that nobody consents by accident."""
    return False
