"""What an embedding program is asked, and the answers that it can spell out in one word."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from onionmpc.identity import Onion
from onionmpc.program.spec import Walls
from onionmpc.session.agreement import Agreement, roster_fingerprint, session_id


@dataclass(frozen=True, slots=True)
class Joiner:
    """A party that wants to take part.

    Attributes:
        onion: its address.
        seat: from 1; the number of the invite that it used, if it used one.
    """

    onion: Onion
    seat: int


@dataclass(frozen=True, slots=True)
class Proposal:
    """The agreement, as it is shown before anything is computed: the same at every party.

    Attributes:
        agreement: all terms. `agreement.common` is equal at all parties: the program with the SHA-256 of its files, the
            addresses in party order, the threshold and so on. `agreement.own` is what each party says of itself.
        number: this party's number, its place among the addresses.
        walls: what the operating system keeps this party's program in.
        private_arguments: how many arguments this party's program gets that no other party sees.
        by_invite: whether a host says who takes part. Compare `fingerprint` with the others by another way then.
        allow_subprocess: whether this party's program may start processes.
    """

    agreement: Agreement
    number: int
    walls: Walls
    private_arguments: int
    by_invite: bool
    allow_subprocess: bool

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
    def session(self) -> str:
        """The session id, 64 hex digits: all parties sign or acknowledge exactly this agreement."""
        return session_id(self.agreement).hex()

    @property
    def fingerprint(self) -> str:
        """A short text that is equal at two parties only if they mean the same addresses."""
        return roster_fingerprint(self.agreement.common.addresses)


Consent = Callable[[Proposal], Awaitable[bool]]
Admit = Callable[[Joiner], Awaitable[bool]]


async def AGREE_TO_ANYTHING(_proposal: Proposal) -> bool:  # noqa: N802 (reads as the constant that it is)
    """Consent to every agreement, unseen: whatever program, parties and threshold it names."""
    return True


async def ADMIT_ANYONE(_joiner: Joiner) -> bool:  # noqa: N802
    """Let every joiner take part that finds this party."""
    return True


async def admit_the_invited(_joiner: Joiner) -> bool:
    """Let a joiner take part that has an invite, or was expected by its address."""
    return True


async def refuse(_proposal: Proposal) -> bool:
    """Consent to nothing: the answer of a program that was given no `consent`."""
    return False
