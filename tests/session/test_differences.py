"""Whom two computations of a session may expose together: the rule alone, without a session."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from onionmpc.identity import Onion
from onionmpc.session.differences import Exposure, History
from tests.support.agreements import COMMON, change

ALL = ("a.onion", "b.onion", "c.onion", "d.onion")
FOUR = change(COMMON, addresses=ALL)
THREE = change(COMMON, addresses=ALL[:3])
C, D = Onion("c.onion"), Onion("d.onion")
OTHER = {"files": {"auction.py": "0c" * 32}}


def history(key: bytes = b"key") -> History:
    return History(key)


def digests(of: History, *inputs: bytes) -> set[bytes]:
    return {digest for one in inputs if (digest := of.digest([one])) is not None}


def test_the_same_program_on_another_roster_exposes_who_took_part_in_one_of_the_two() -> None:
    kept = history()
    kept.add(FOUR, digests(kept, b"1"))
    assert kept.exposures(THREE, digests(kept, b"2")) == (Exposure((1,), (D,), True, False),)


@pytest.mark.parametrize(("one", "other"), [*itertools.permutations(["abc", "abd", "ac", "abcd"], 2)])
def test_exactly_the_symmetric_difference_is_exposed(one: Sequence[str], other: Sequence[str]) -> None:
    kept = history()
    kept.add(change(COMMON, addresses=tuple(f"{name}.onion" for name in one)), set())
    (exposure,) = kept.exposures(change(COMMON, addresses=tuple(f"{name}.onion" for name in other)), set())
    assert exposure.onions == tuple(f"{name}.onion" for name in sorted(set(one) ^ set(other)))


@pytest.mark.parametrize(
    "changes", [{"public_arguments": ("other",)}, {"threshold": 0}, {"mpyc_options": ("-L64",)}, {"program": "renamed"}]
)
def test_the_same_files_are_the_same_program_whatever_else_is_agreed(changes: dict[str, object]) -> None:
    kept = history()
    kept.add(FOUR, set())
    assert kept.exposures(change(THREE, **changes), set())


def test_the_same_roster_exposes_nobody() -> None:
    kept = history()
    kept.add(FOUR, digests(kept, b"1"))
    assert kept.exposures(FOUR, digests(kept, b"1")) == ()


def test_another_program_exposes_only_with_an_input_that_is_given_again() -> None:
    kept = history()
    kept.add(FOUR, digests(kept, b"4200", b"30"))
    other = change(THREE, **OTHER)
    assert kept.exposures(other, digests(kept, b"4300", b"31")) == ()
    assert kept.exposures(other, set()) == ()
    assert kept.exposures(other, digests(kept, b"4300", b"30")) == (Exposure((1,), (D,), False, True),)


def test_each_earlier_computation_counts_and_equal_exposures_are_one() -> None:
    kept = history()
    for common in (FOUR, FOUR, THREE, change(FOUR, **OTHER)):
        kept.add(common, digests(kept, b"1"))
    two = change(COMMON, addresses=ALL[:2])
    assert kept.next_number == 5
    assert kept.exposures(two, digests(kept, b"1")) == (
        Exposure((1, 2), (C, D), True, True),
        Exposure((3,), (C,), True, True),
        Exposure((4,), (C, D), False, True),
    )


@pytest.mark.parametrize("empty", [[], [b""], [b"\n"], [b" ", b"\t\n"]])
def test_an_empty_input_is_the_same_as_none(empty: list[bytes]) -> None:
    assert history().digest(empty) is None


@pytest.mark.parametrize("pieces", [[b"42 00\n"], [b"42 ", b"00", b" \n"], [b"42", b" ", b"00"], [b"", b"42 00"]])
def test_a_digest_depends_on_the_content_alone(pieces: list[bytes]) -> None:
    assert history().digest(pieces) == history().digest([b"42 00"]) != history().digest([b"4200"])


def test_a_digest_says_nothing_without_the_key() -> None:
    kept = history()
    assert kept.digest([b"yes"]) != history(b"another").digest([b"yes"])
    kept.add(FOUR, digests(kept, b"yes"))
    assert "given" not in repr(kept._computed[0])


def test_a_long_session_keeps_one_copy_of_a_roster() -> None:
    kept = history()
    for number in range(3):
        kept.add(change(FOUR, addresses=tuple(map(str, FOUR.addresses)), files=dict(FOUR.files)), {bytes([number])})
    first, *others = kept._computed
    assert all(one.roster is first.roster and one.files is first.files for one in others)
