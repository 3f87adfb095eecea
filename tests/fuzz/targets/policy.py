"""Policies: UsageError in one printable line that names the file, or rules that are consistent and read the same again.

A policy is its user's own file. But what it misreads would consent to something else.
"""

from __future__ import annotations

import re

from hypothesis import strategies as st

from onionmpc.errors import UsageError
from onionmpc.session.policy import parse_policy
from tests.fuzz.mutations import mutated
from tests.support.policies import DIGEST, EVERY_KEY, RULE, toml_of

LINES = [line.encode() + b"\n" for line in EVERY_KEY.splitlines()]
TOKENS = [
    *LINES,
    *(b'"', b"'", b"[", b"]", b"{", b"}", b"=", b".", b",", b"\n", b"\r\n", b"#", b"\0", b"\xff", b"true", b"inf"),
    *(b"0", b"-1", b"1.0", b"256", b"[3, 7]", b"1e9", b"2026-12-01", b"{}", b'""', b'"@q"', b'"1/30d"', b"9" * 5000),
    *(b"[" * 2000, b"a={" * 1500, b'"\\u202e"', b'"\\u0000"', b'"\\uD800"', "\u0663".encode(), f'"{DIGEST}"'.encode()),
]
# Keys in any order, each one well-formed.
SHUFFLED = st.lists(st.sampled_from(LINES), max_size=10).map(lambda lines: RULE.encode() + b"".join(lines))
INPUTS = mutated(st.sampled_from([EVERY_KEY.encode(), RULE.encode()]) | SHUFFLED, TOKENS)
REFUSALS = (UsageError,)


def check(data: bytes) -> object:
    try:
        policy = parse_policy(data, "my.toml")
    except UsageError as error:
        assert (error.message + error.hint).isprintable()
        found = re.match(r"my\.toml(?:, line (\d+): | has more than )", error.message)
        assert found is not None
        assert found[1] is None or 1 <= int(found[1]) <= data.count(b"\n") + 2
        raise
    for rule in policy.rules:
        assert bool(rule.program) != bool(rule.reviewed_by)
        assert not rule.files or rule.limit is not None
        assert rule.seats[0] <= rule.seats[1]
        assert rule.parties.min_known < rule.seats[1]
        (again,) = parse_policy(toml_of(rule).encode(), "my.toml").rules
        assert (again, again.digest) == (rule, rule.digest)
    return tuple(sorted({bool(rule.files) for rule in policy.rules}))
