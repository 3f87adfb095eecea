"""Finds the parties that two results of a session may expose together.

The average of four parties and then of three of them reveals what the fourth gave. Knows rosters, programs and keyed
digests of this party's inputs. Does not know what a program computes, so it can only say what two results may expose.
Its limits: docs/THREATS.md, "Differences expose".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from onionmpc.identity import Onion
from onionmpc.session.agreement import SharedTerms

INPUT_DIGEST_BYTES = 32


@dataclass(frozen=True, slots=True)
class Exposure:
    """Parties whose inputs a result may expose, together with the results of earlier computations.

    Attributes:
        computations: the numbers of these earlier computations of the session, from 1.
        onions: the addresses that take part in this computation or took part in those, but not both, sorted.
        same_program: whether all files of the program are the same.
        same_input: whether this party gave one of the same inputs.
    """

    computations: tuple[int, ...]
    onions: tuple[Onion, ...]
    same_program: bool
    same_input: bool


@dataclass(frozen=True, slots=True)
class _Computed:
    """What is kept of a computation. `given` has the digests of what this party gave."""

    roster: frozenset[str]
    files: dict[str, str]
    given: Set[bytes] = field(repr=False)


class History:
    """The computations of a session that a party has consented to.

    Args:
        key: random bytes, kept by nobody else. Without them, a digest of an input would be a guess away from the
            input.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._computed: list[_Computed] = []

    @property
    def next_number(self) -> int:
        """The number of the next computation, from 1."""
        return len(self._computed) + 1

    def digest(self, pieces: Iterable[bytes]) -> bytes | None:
        """Return the keyed digest of an input, or None if it is empty. White space at its end does not count.

        Args:
            pieces: the input in pieces, since a file may not fit into memory.
        """
        digest = hashlib.blake2b(key=self._key, digest_size=INPUT_DIGEST_BYTES)
        held, empty = b"", True
        for piece in pieces:
            content = (held + piece).rstrip()
            held = (held + piece)[len(content) :]
            empty = empty and not content
            digest.update(content)
        return None if empty else digest.digest()

    def exposures(self, common: SharedTerms, given: Set[bytes]) -> tuple[Exposure, ...]:
        """Return the parties that the next computation may expose.

        Args:
            common: its terms.
            given: the digests of what this party gives, as far as that is known.
        """
        roster = frozenset(common.addresses)
        found: dict[tuple[tuple[Onion, ...], bool, bool], list[int]] = {}
        for number, earlier in enumerate(self._computed, 1):
            # Public arguments do not count: a sum in cents says as much as one in euros.
            reasons = earlier.files == common.files, not earlier.given.isdisjoint(given)
            if earlier.roster != roster and any(reasons):
                onions = tuple(map(Onion, sorted(earlier.roster ^ roster)))
                found.setdefault((onions, *reasons), []).append(number)
        return tuple(Exposure(tuple(numbers), *what) for what, numbers in found.items())

    def add(self, common: SharedTerms, given: Set[bytes]) -> None:
        """Add a computation that this party consents to. If it fails, the session is over."""
        roster, files = frozenset(common.addresses), common.files
        for earlier in self._computed:  # most computations of a session have the same: keep one copy of each
            roster = earlier.roster if earlier.roster == roster else roster
            files = earlier.files if earlier.files == files else files
        self._computed.append(_Computed(roster, files, given))
