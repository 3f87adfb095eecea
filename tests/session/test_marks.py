"""Two marks are equal if their counts are, and reveal nothing to a third party."""

from __future__ import annotations

import pytest

from onionmpc.program.spec import NO_BYTES, NOT_CONNECTED, Wait
from onionmpc.session.marks import Marks
from tests.support.session import new_identities

IDENTITIES = new_identities(3)
ROSTER = [identity.onion for identity in IDENTITIES]
SESSION = bytes(32)


def marked(number: int, sent: tuple[str, ...], received: tuple[str, ...], session: bytes = SESSION) -> Wait:
    wait = Wait((), (), ending=False, failed=False, sent=sent, received=received)
    return Marks(IDENTITIES[number], ROSTER, session).of(wait)


# Issue 12.
@pytest.mark.parametrize(("sent", "received", "agree"), [("0", "0", True), ("1f4", "1f4", True), ("1f4", "1f3", False)])
def test_two_marks_are_equal_if_and_only_if_the_counts_are(sent: str, received: str, agree: bool) -> None:
    one = marked(0, (NO_BYTES, sent, "1"), (NO_BYTES, "7", "1"))
    other = marked(1, ("7", NO_BYTES, "2"), (received, NO_BYTES, "3"))
    assert (one.sent[1] == other.received[0]) == agree
    assert one.received[1] == other.sent[0]


def test_the_same_count_has_a_different_mark_per_direction_pair_and_session() -> None:
    same = ("9", "9", "9")
    waits = [marked(number, same, same) for number in range(3)] + [marked(0, same, same, bytes([1]) * 32)]
    marks = [mark for wait in waits for mark in (*wait.sent, *wait.received) if mark != same[0]]
    # Six ways between three parties, each marked by both its ends; and four of one end in another session.
    assert len(marks) == 16
    assert len(set(marks)) == 10


def test_values_that_are_not_counts_stay_unchanged() -> None:
    wait = marked(0, (NO_BYTES, "1", "1"), (NO_BYTES, NOT_CONNECTED, "1"))
    assert (wait.sent[0], wait.received[0], wait.received[1]) == (NO_BYTES, NO_BYTES, NOT_CONNECTED)
