"""Start tokens and sessions, with a clock of the test's."""

from __future__ import annotations

import pytest

from onionmpc.app.tokens import MAX_SESSIONS, MAX_STARTS, START_LIFE_S, PageSession, StartRefused, Tokens, Why


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def refused(tokens: Tokens, token: str) -> Why:
    with pytest.raises(StartRefused) as refusal:
        tokens.exchange(token)
    assert token == "" or token not in f"{refusal.value!r} {refusal.value.message} {refusal.value.hint}"
    return refusal.value.why


def test_a_start_token_opens_one_session() -> None:
    tokens = Tokens()
    session = tokens.exchange(tokens.new_start())
    assert tokens.session_of(session.token) is session
    assert tokens.session_of("") is None
    assert tokens.session_of(session.token[:-1]) is None
    assert tokens.session_of("\udcff\u00e9") is None


def test_a_start_token_that_comes_twice_ends_the_session_that_it_opened_and_no_other() -> None:
    tokens = Tokens()
    other = tokens.exchange(tokens.new_start())
    start = tokens.new_start()
    session = tokens.exchange(start)
    assert refused(tokens, start) is Why.USED_TWICE
    assert tokens.session_of(session.token) is None
    assert tokens.session_of(other.token) is other


def test_what_ended_for_its_second_use_is_unknown_at_the_third() -> None:
    tokens = Tokens()
    start = tokens.new_start()
    tokens.exchange(start)
    assert [refused(tokens, start) for _ in range(3)] == [Why.USED_TWICE, Why.UNKNOWN, Why.UNKNOWN]


def test_a_start_token_that_comes_twice_is_noticed_long_after_it_would_have_expired() -> None:
    tokens = Tokens(clock := Clock())
    start = tokens.new_start()
    session = tokens.exchange(start)
    clock.now_s += 100 * START_LIFE_S
    assert refused(tokens, start) is Why.USED_TWICE
    assert tokens.session_of(session.token) is None


def test_a_start_token_expires() -> None:
    tokens = Tokens(clock := Clock())
    last, late = tokens.new_start(), tokens.new_start()
    clock.now_s += START_LIFE_S
    tokens.exchange(last)
    clock.now_s += 0.001
    assert refused(tokens, late) is Why.EXPIRED


def test_tokens_of_another_run_and_session_tokens_start_nothing() -> None:
    tokens = Tokens()
    session = tokens.exchange(tokens.new_start())
    for token in (Tokens().new_start(), session.token, session.proof_key, "", "é", "\ud800"):
        assert refused(tokens, token) is Why.UNKNOWN


def test_of_too_many_start_tokens_the_oldest_ends() -> None:
    tokens = Tokens()
    first, *others = [tokens.new_start() for _ in range(MAX_STARTS + 1)]
    assert refused(tokens, first) is Why.UNKNOWN
    for start in others:
        tokens.exchange(start)


def test_of_too_many_sessions_the_oldest_ends() -> None:
    tokens = Tokens()
    first, *others = [tokens.exchange(tokens.new_start()) for _ in range(MAX_SESSIONS + 1)]
    assert tokens.session_of(first.token) is None
    assert all(tokens.session_of(session.token) is session for session in others)


def test_no_repr_shows_a_token() -> None:
    tokens = Tokens()
    outstanding, used = tokens.new_start(), tokens.new_start()
    session = tokens.exchange(used)
    shown = repr([tokens, vars(tokens), session])
    for secret in (outstanding, used, session.token, session.proof_key):
        assert secret not in shown


def test_each_token_has_256_bits_and_comes_once() -> None:
    tokens = Tokens()
    starts = {tokens.new_start() for _ in range(100)}
    assert len(starts) == 100
    assert {len(start) for start in starts} == {43}


def test_a_proof_is_of_its_session_and_of_its_nonce() -> None:
    # RFC 4231, test case 2.
    session = PageSession("token", "Jefe")
    assert session.proof("what do ya want for nothing?") == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )
