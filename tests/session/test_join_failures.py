"""What a joiner's user sees while it cannot reach its host, and when it gives up."""

from __future__ import annotations

import pytest

from onionmpc.errors import AuthenticationFailed, PeerUnreachable
from onionmpc.mesh.redial import DialFailed
from onionmpc.session.events import DialRetry
from onionmpc.session.join_failures import ADDRESS_HINT, INVITE_HINT, JoinFailures
from tests.support.session import Person

SEALED, AWAY = DialFailed("it is sealed", 1.0, not_expected=True), DialFailed("no answer", 1.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def hints(person: Person) -> list[str]:
    return [event.hint for event in person.heard(DialRetry)]


# Issue 12.
def test_a_joiner_with_an_invite_that_reaches_nobody_sees_within_a_minute_what_that_may_mean() -> None:
    person, clock = Person(), Clock()
    failures = JoinFailures(person, by_invite=True, clock=clock)
    for seconds in (1, 5, 25, 59):
        clock.now = 1000.0 + seconds
        failures.add(AWAY)
    assert hints(person) == ["", "", INVITE_HINT, INVITE_HINT]
    assert failures.hint == INVITE_HINT
    assert "probably used, or its session is over" in INVITE_HINT


# Issue 12: for some minutes the descriptor may be one that the host is replacing.
def test_an_invite_that_decrypts_no_descriptor_is_given_up_after_a_while_and_not_at_once() -> None:
    person, clock = Person(), Clock()
    failures = JoinFailures(person, by_invite=True, clock=clock)
    for seconds in (0, 100, 299):
        clock.now = 1000.0 + seconds
        failures.add(SEALED)
        failures.add(AWAY)  # tor says so once it has read the descriptor, which changes nothing
    assert failures.why == ": it is sealed"
    clock.now += 1
    with pytest.raises(PeerUnreachable, match="the host cannot be found with this invite: the invite is probably used"):
        failures.add(SEALED)


def test_a_joiner_with_an_address_alone_waits_for_a_host_that_may_expect_it_later() -> None:
    person, clock = Person(), Clock()
    failures = JoinFailures(person, by_invite=False)
    for seconds in (0, 100, 1000, 3000):
        clock.now = 1000.0 + seconds
        failures.add(SEALED)
        failures.add(AWAY)
    assert hints(person) == [ADDRESS_HINT, ""] * 4


# Issue 12.
@pytest.mark.parametrize("by_invite", [True, False])
def test_a_refusal_is_reported_with_what_it_may_mean(by_invite: bool) -> None:
    error = JoinFailures(Person(), by_invite=by_invite).refused(AuthenticationFailed("the peer refused the handshake"))
    assert error.message.startswith("the host does not let us in: the peer refused the handshake")
    assert ("probably used" in error.message) is by_invite
    assert error.hint.startswith("an invite works once" if by_invite else "ask the host for an invite")
