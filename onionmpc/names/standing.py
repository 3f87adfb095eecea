"""What each other party is to this user, and the rule that refuses a session with too many strangers.

Each party decides this for itself, by its own files. Nothing here is sent, except for the message of a refusal, which
names nobody. Rules: docs/PROTOCOL.md section 4, "Strangers".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from onionmpc.errors import AgreementError
from onionmpc.identity import Onion
from onionmpc.names.findings import Finding, Grade

LIFTED_HINT = "strangers_may_read_everything=True computes all the same"


class Standing(Enum):
    """How a party is known to this user."""

    KNOWN = "known"  # by evidence, as a contact, or since this user gave its address
    VOUCHED = "vouched"  # an issuer that this user trusts says that it is a member, without a name
    INTRODUCED = "introduced"  # the host brought it: by an invite, or since it expects it
    STRANGER = "stranger"  # it took a seat that was open to anyone


@dataclass(frozen=True, slots=True)
class Seat:
    """Another party, as this user knows it.

    Attributes:
        number: its number among the parties.
        names: what this user calls it: the contact's name first, then each name that evidence proves. All come from
            this user's own files.
        words: how it is known, the best reason first; then why evidence counts for nothing. Safe to print.
    """

    number: int
    onion: Onion
    standing: Standing
    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """What this user knows of addresses before anyone shows evidence.

    Attributes:
        contacts: the user's names for addresses.
        typed: addresses that the user gave for this session.
        host: the session's host, if that is another party. None at the host itself, and in a full list.
    """

    contacts: Mapping[Onion, str] = field(default_factory=dict)
    typed: frozenset[Onion] = frozenset()
    host: Onion | None = None

    def seat(self, number: int, onion: Onion, findings: Sequence[Finding], *, invited: bool) -> Seat:
        """Return what a party is.

        Args:
            findings: what its evidence proves.
            invited: whether the host says that it brought this party.
        """
        contact = self.contacts.get(onion)
        names = [contact] if contact is not None else []
        names += [finding.name for finding in findings if finding.grade is Grade.NAMES]
        by_grade = {grade: [finding.words for finding in findings if finding.grade is grade] for grade in Grade}
        words = []
        if contact is not None:
            words.append("your contact")
        elif onion in self.typed:
            words.append("you gave its address")
        words += by_grade[Grade.NAMES] + by_grade[Grade.VOUCHES]
        if names or onion in self.typed:
            standing = Standing.KNOWN
        elif by_grade[Grade.VOUCHES]:
            standing = Standing.VOUCHED
        else:
            standing = Standing.INTRODUCED if invited else Standing.STRANGER
            words.append(self._brought(onion, invited=invited))
        words += [f"its evidence counts for nothing: {why}" for why in by_grade[Grade.NOTHING]]
        return Seat(number, onion, standing, tuple(dict.fromkeys(names)), tuple(words))

    def _brought(self, onion: Onion, *, invited: bool) -> str:
        if not invited:
            return "it came without an invite"
        if self.host is None:
            return "your invite brought it"
        return "its invite brought you" if onion == self.host else "only your host vouches for it"


def seats_of(
    addresses: Sequence[Onion],
    own_number: int,
    known: Acquaintance,
    uninvited: Collection[str],
    findings: Mapping[int, Sequence[Finding]],
) -> tuple[Seat, ...]:
    """Return what each other party is, in party order.

    Args:
        addresses: of all parties, in party order.
        uninvited: the addresses that took an open seat, as the host says.
        findings: what the evidence of each party proves, by its number.
    """
    return tuple(
        known.seat(number, onion, findings.get(number, ()), invited=onion not in uninvited)
        for number, onion in enumerate(addresses)
        if number != own_number
    )


@dataclass(frozen=True, slots=True)
class StrangersRule:
    """Which parties this user computes with.

    Attributes:
        strangers_may_read_everything: lifts what protects from one person behind too many seats.
        max_unknown: how many seats may be strangers or introduced; None for any number.
        allow_no_privacy: whether a threshold of 0 was accepted. With two parties nothing is left to protect then.
    """

    strangers_may_read_everything: bool = False
    max_unknown: int | None = None
    allow_no_privacy: bool = False

    def check(self, seats: Sequence[Seat], threshold: int) -> None:
        """Check the other parties of a session.

        Raises:
            AgreementError: one person could read everything, or too many seats are unknown. All parties learn the
                message; only the hint has names.
        """
        parties = len(seats) + 1
        unknown = _count(seats, Standing.STRANGER, Standing.INTRODUCED)
        if self.max_unknown is not None and unknown > self.max_unknown:
            raise AgreementError(
                f"{_seats(unknown, parties)} not known to it, and it accepts {self.max_unknown}",
                hint="ask them for evidence, or for addresses to add to your contacts; max_unknown= accepts more",
            )
        if self.strangers_may_read_everything or (parties == 2 and self.allow_no_privacy):
            return
        strangers = _count(seats, Standing.STRANGER)
        if strangers > threshold:
            raise AgreementError(
                f"{_seats(strangers, parties)} {_strangers(strangers)} to it, and the threshold is {threshold}: "
                "one person behind them could read every input",
                hint=f"invite them, or ask them for evidence; {LIFTED_HINT}",
            )
        for name, held in _held_by_one(seats):
            if len(held) > threshold:
                raise AgreementError(
                    f"{_seats(len(held), parties)} held under one name that it knows, and the threshold is "
                    f"{threshold}: one person could read every input",
                    hint=f"{name} holds parties {_listed(held)}; {LIFTED_HINT}",
                )


def sentences(seats: Sequence[Seat], threshold: int) -> Iterator[str]:
    """Yield what those who are not known could do together, and which name holds several seats.

    Args:
        threshold: 1 or more: without one, any party alone reads everything.
    """
    parties = len(seats) + 1
    unknown = len(seats) - _count(seats, Standing.KNOWN)
    if unknown:
        what = _strangers(unknown) if unknown == _count(seats, Standing.STRANGER) else "not known"
        yield f"{_seats(unknown, parties)} {what} to you; T is {threshold}: {_together(unknown, threshold)}."
    for name, held in _held_by_one(seats):
        can = "can read your input alone" if len(held) > threshold else "counts as one person"
        yield f"{name} holds {len(held)} of {parties} seats, and {can}."


def _together(unknown: int, threshold: int) -> str:
    """Say what these parties could do if they were one person."""
    if unknown == 1:
        return "it cannot read your input alone"
    number = min(unknown, threshold + 1)
    who = ("both" if unknown == 2 else f"all {unknown}") if number == unknown else f"{number} of them"
    if unknown > threshold:
        return f"if {who} are one person, that person can read your input"
    return f"even if {who} are one person, they cannot read your input alone"


def _held_by_one(seats: Sequence[Seat]) -> Iterator[tuple[str, list[int]]]:
    """Yield each name that several seats have, and their numbers."""
    held: dict[str, list[int]] = {}
    shown: dict[str, str] = {}
    for seat in seats:
        # The user wrote the names in several files, perhaps not in the same case.
        for name in {each.casefold(): each for each in seat.names}.values():
            shown.setdefault(name.casefold(), name)
            held.setdefault(name.casefold(), []).append(seat.number)
    return ((shown[name], numbers) for name, numbers in held.items() if len(numbers) > 1)


def _count(seats: Sequence[Seat], *standings: Standing) -> int:
    return sum(seat.standing in standings for seat in seats)


def _seats(number: int, parties: int) -> str:
    return f"{number} of {parties} seats {'is' if number == 1 else 'are'}"


def _strangers(number: int) -> str:
    return "a stranger" if number == 1 else "strangers"


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}"
