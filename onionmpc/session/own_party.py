"""This party in one computation: its identity, its offer, and the program that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from onionmpc.identity import Identity, Onion
from onionmpc.program.code.catalogue import Program, code_of, explain_difference
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreement import PartyTerms, SharedTerms, check_distributions, check_floors
from onionmpc.session.comparison import check_equal
from onionmpc.session.local import Plan
from onionmpc.session.messages import Further, Offer

# After this time a program that waits for its peers reports so. It is longer than any round trip that we have seen, so
# that a normal round causes no report.
WAITING_S = 5.0


@dataclass(frozen=True, slots=True)
class OwnParty:
    """This party in one computation.

    Attributes:
        nonce: its contribution to the session id, 16 bytes.
        shared: the shared terms as it sees them; their addresses are the roster.
        terms: what it states about itself.
        proposer: the party that proposed these terms, None in the first computation of a session.
        roster: all addresses, in party order.
        number: its index in the roster.
    """

    identity: Identity
    nonce: bytes
    shared: SharedTerms
    terms: PartyTerms
    program: Program
    plan: Plan
    proposer: Onion | None = None
    roster: tuple[Onion, ...] = field(init=False)
    number: int = field(init=False)

    def __post_init__(self) -> None:
        roster = tuple(Onion(address) for address in self.shared.addresses)
        object.__setattr__(self, "roster", roster)
        object.__setattr__(self, "number", roster.index(self.identity.onion))

    @property
    def offer(self) -> Offer:
        """The terms that this party offers to agree to."""
        further = None if self.proposer is None else Further(self.proposer, self.nonce.hex())
        return Offer(self.shared, self.terms, further, self.plan.evidence)

    def has_same_proposer(self, theirs: Offer) -> bool:
        """Return whether another party's offer answers the same proposal as this party's."""
        return (None if theirs.further is None else theirs.further.proposer) == self.proposer

    def compare(self, theirs: Offer, number: int) -> None:
        """Check that another party's offer fits this party's.

        Raises:
            AgreementError: the shared terms differ; or the program needs equal packages, and they differ; or one
                party's level is below the other's floor.
        """
        here, there = f"party {self.number}", f"party {number}"
        explain = partial(explain_difference, self.program, self.plan.attached)
        check_equal(self.shared, theirs.common, here=here, there=there, explain=explain)
        about = self.program.metadata.about
        if about is not None and about.packages is not None:
            check_distributions(self.terms, theirs.own, here=here, there=there)
        check_floors(self.terms, theirs.own, here=here, there=there)

    def program_spec(self, inputs: tuple[str, ...] = ()) -> ProgramSpec:
        """Return the spec of the program process.

        Args:
            inputs: arguments for its declared inputs, after those of the plan.
        """
        shared, plan = self.shared, self.plan
        return ProgramSpec(
            script=str(self.program.path),
            folder=str(self.program.folder),
            arguments=(*shared.public_arguments, *plan.private, *inputs),
            number=self.number,
            parties=len(self.roster),
            threshold=shared.threshold,
            mpyc_options=shared.mpyc_options,
            allowed_types=shared.allowed_types,
            verbose=plan.verbose,
            # Only what this party chose itself. The agreed public arguments may be the host's, which could name any of
            # our files and so open them to the program.
            named=(*(plan.public or ()), *plan.private, *inputs),
            code=code_of(self.program, plan.attached),
            on_disk=plan.attached.on_disk(),
            reads=tuple(map(str, plan.attached.places)),
            hidden=tuple(str(path.absolute()) for path in plan.hidden),
            allow_subprocess=plan.allow_subprocess,
            walls=plan.walls,
            waiting_s=min(WAITING_S, plan.stuck_after_s / 6),  # a sixth, as 5 s is of 30 s, in tests that shorten it
        )
