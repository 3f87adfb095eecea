"""What a page may ask for, and what is refused without a word of it in the error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.app.intents import (
    MAX_INTENT_BYTES,
    AnswerAgreement,
    AnswerJoiner,
    AnyIntent,
    ClearSession,
    ComputeAgain,
    GiveInputs,
    LeaveSession,
    MarkCopied,
    StartHosting,
    StartJoining,
    parse_intent,
)
from onionmpc.errors import UsageError

INTENTS: list[AnyIntent] = [
    StartHosting("average-salary", 3, {"currency": "EUR"}),
    StartJoining("onionmpc1secret"),
    MarkCopied(1),
    AnswerJoiner(2, "a" * 56 + ".onion", admit=False),
    AnswerAgreement("5a" * 32, agree=True),
    GiveInputs({"salary": "4200"}, ("salary",)),
    ComputeAgain("sort"),
    ComputeAgain(),
    LeaveSession(),
    ClearSession(),
]


@pytest.mark.parametrize("intent", INTENTS, ids=lambda intent: type(intent).__name__)
def test_each_intent_comes_back_from_its_json(intent: AnyIntent) -> None:
    assert parse_intent(msgspec.json.encode(intent)) == intent
    assert repr(intent) == f"<{type(intent).__name__}>"


def test_every_kind_of_intent_is_tried_here() -> None:
    assert {type(intent) for intent in INTENTS} == set(AnyIntent.__args__)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"intent":"hosts"}',
        b'{"intent":"secret-4200"}',
        b'{"intent":"leave","more":1}',
        b'{"intent":"host","program":"","parties":3}',
        b'{"intent":"host","program":"sum","parties":1}',
        b'{"intent":"host","program":"sum","parties":"3"}',
        b'{"intent":"host","program":"sum","parties":66}',
        b'{"intent":"consent","shown":"secret-4200","agree":true}',
        b'{"intent":"consent","shown":"' + b"5a" * 32 + b'","agree":1}',
        b'{"intent":"give","values":{"salary":4200}}',
        b'{"intent":"give","values":{"salary":"' + b"9" * 20_001 + b'"}}',
        b'{"intent":"copied","seat":0}',
        b'{"intent":"join","text":"' + b"[" * 20_001 + b'"}',
        b'{"intent":"give","values":' + b"[" * 60_000,
        b" " * (MAX_INTENT_BYTES + 1),
    ],
    ids=range(19),
)
def test_what_is_no_intent_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(UsageError) as raised:
        parse_intent(body)
    assert "4200" not in str(raised.value)
    assert raised.value.__cause__ is None


@given(st.binary(max_size=80))
def test_random_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(UsageError):
        parse_intent(body)
