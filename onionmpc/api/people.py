"""Who the parties of a session are to this machine's user, by the user's own files: contacts and trust.

What the evidence of a party proves is found by onionmpc.names.examine, and what follows by onionmpc.names.standing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from onionmpc.identity import Onion
from onionmpc.names.contacts import load_book
from onionmpc.names.standing import Acquaintance, Seat, seats_of
from onionmpc.names.trust import Trust, load_trust
from onionmpc.session.events import ConsentQuestion
from onionmpc.session.roster_words import roster_fingerprint


@dataclass(frozen=True, slots=True)
class People:
    """Whom this user knows, as its files say when a table is entered."""

    known: Acquaintance
    trust: Trust

    @property
    def names(self) -> Mapping[Onion, str]:
        """This user's own names for addresses."""
        return self.known.contacts

    def seats(self, question: ConsentQuestion) -> tuple[Seat, ...]:
        """Examine the evidence of all parties, and say what each one is. Takes milliseconds for each piece."""
        from onionmpc.names.examine import Context, examine  # not at the top: it loads libraries that few sessions need

        common = question.agreement.common
        addresses = tuple(map(Onion, common.addresses))
        program, roster, now = common.program_digest, roster_fingerprint(common.addresses), datetime.now(UTC)
        findings = {
            number: [examine(piece, Context(addresses[number], program, roster, now), self.trust) for piece in pieces]
            for number, pieces in question.evidence.items()
            if number != question.own_number
        }
        return seats_of(addresses, question.own_number, self.known, common.strangers, findings)


def check_own_evidence(pieces: Sequence[str], onion: Onion) -> None:
    """Check that what a party is to show is about its own address, and counts today.

    Raises:
        InvalidEvidence: it is not, or does not.
    """
    if pieces:
        from onionmpc.names.evidence_files import check_about

        check_about(pieces, onion, datetime.now(UTC))


def load_people(trust: Path | None, typed: Collection[Onion], host: Onion | None = None) -> People:
    """Read the user's contacts and trust.

    Args:
        trust: the folder of trust; None for the user's own.
        typed, host: see `Acquaintance`.

    Raises:
        UsageError: one of the files is damaged, open to others, or cannot be read.
    """
    return People(Acquaintance(load_book().names(), frozenset(typed), host), load_trust(trust))
