"""The roster in words: the published list, the derivation, and the work that a look-alike costs."""

from __future__ import annotations

import hashlib
import itertools
import math

from onionmpc.session.roster_words import ITERATIONS, roster_fingerprint, roster_lines, word_list

ROSTER = ("a.onion", "b.onion", "c.onion")


def test_the_list_is_the_published_one() -> None:
    words = word_list()
    assert hashlib.sha256("\n".join(words).encode()).hexdigest() == (
        "d67005b46eac4a51d2673416013484fd5afc2b84b0c9ea4515a18ec7c7c6ab31"
    )
    assert len(set(words)) == len(words) == 1626
    assert list(words) == sorted(words)
    assert all(word.isascii() and word.isalpha() and word.islower() and 4 <= len(word) <= 7 for word in words)


def test_words_of_a_known_roster() -> None:
    digest = hashlib.pbkdf2_hmac("sha256", b"a.onion\nb.onion\nc.onion", b"onionmpc/2 roster", 65536)
    number = int.from_bytes(digest, "big")
    words = roster_fingerprint(ROSTER).split(" ")
    assert words == [word_list()[number // 1626**place % 1626] for place in range(10)]
    assert " ".join(words) == "hydro picasso salad paper fire pixel museum opinion nato mayday"


def test_another_roster_has_other_words() -> None:
    rosters = [("a", "b"), ("b", "a"), ("a", "b", ""), ("ab",), ("a",)]
    shown = [set(roster_fingerprint(roster).split()) for roster in rosters]
    assert all(len(one & other) < 5 for one, other in itertools.combinations(shown, 2))


def test_two_rosters_with_the_same_words_cost_more_than_2_to_the_70_compressions() -> None:
    rosters = len(word_list()) ** (len(roster_fingerprint(ROSTER).split()) / 2)  # the birthday bound
    assert math.log2(rosters * 2 * ITERATIONS) > 70


def test_the_longest_words_fit_on_two_lines_of_80_columns() -> None:
    lines = roster_lines(" ".join(["academy"] * 10))
    assert len(lines) == 2
    assert all(len(line) + 15 < 80 for line in lines)
