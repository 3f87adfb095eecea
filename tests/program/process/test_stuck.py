"""Programs count as stuck only if all have waited for long enough and no byte is on its way."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.process.stuck import USUAL_CAUSES, Standstill, describe_all, describe_wait, likely_cause
from onionmpc.program.spec import Place, Wait

QUIET = Wait((), (), ending=False, failed=False, sent=("0",) * 3, received=("0",) * 3)


def wait(**changes: Any) -> Wait:
    """Return a wait with its counts given as numbers, None for not connected."""
    for way in {"sent", "received"} & set(changes):
        changes[way] = tuple("" if count is None else f"{count:x}" for count in changes[way])
    return msgspec.structs.replace(QUIET, **changes)


def standing(*waits: Wait, after_s: float = 30.0) -> Standstill:
    standstill = Standstill(3, after_s)
    for number, one in enumerate(waits):
        standstill.note(number, one)
    return standstill


# -- when


def test_all_must_wait_for_long_enough() -> None:
    standstill = standing(QUIET, QUIET, QUIET)
    assert standstill.stuck_s(100.0, connected=True) is None
    assert standstill.stuck_s(129.9, connected=True) is None
    assert standstill.stuck_s(130.0, connected=True) == 30.0
    assert standstill.stuck_s(160.0, connected=True) == 60.0


def test_a_party_that_reports_nothing_may_be_computing() -> None:
    standstill = standing(QUIET, QUIET)
    assert not standstill.all_wait()
    assert standstill.stuck_s(0.0, connected=True) is None
    assert standstill.stuck_s(1000.0, connected=True) is None


def test_a_program_that_moves_restarts_the_time() -> None:
    standstill = standing(QUIET, QUIET, QUIET)
    standstill.stuck_s(0.0, connected=True)
    standstill.note(1, None)
    assert standstill.stuck_s(30.0, connected=True) is None
    standstill.note(1, QUIET)
    assert standstill.stuck_s(31.0, connected=True) is None
    assert standstill.stuck_s(60.0, connected=True) is None
    assert standstill.stuck_s(61.0, connected=True) == 30.0


def test_a_broken_link_restarts_the_time() -> None:
    standstill = standing(QUIET, QUIET, QUIET)
    standstill.stuck_s(0.0, connected=True)
    assert standstill.stuck_s(40.0, connected=False) is None
    assert standstill.stuck_s(41.0, connected=True) is None
    assert standstill.stuck_s(71.0, connected=True) == 30.0


def test_a_byte_on_its_way_may_wake_its_receiver() -> None:
    sender = wait(sent=(0, 8, 0))
    assert not standing(sender, QUIET, QUIET).all_wait()
    assert not standing(sender, wait(received=(7, 0, 0)), QUIET).all_wait()
    assert standing(sender, wait(received=(8, 0, 0)), QUIET).all_wait()


def test_bytes_to_a_program_that_has_not_connected_wake_nobody() -> None:
    assert standing(wait(sent=(0, 8, 0)), wait(received=(None, 0, 0)), QUIET).all_wait()


class Program:
    """Receives messages in random order and answers some. Waits when it has received all of them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = [0, 0, 0]
        self.received = [0, 0, 0]


@given(st.randoms(use_true_random=False), st.integers(0, 12))
def test_late_reports_never_make_a_program_stuck_that_will_move(chance: random.Random, messages: int) -> None:
    """Bytes and reports arrive in order but at any time. While a message is under way, no program is called stuck."""
    programs = [Program(number) for number in range(3)]
    ways: dict[tuple[int, int], list[int]] = {(one, other): [] for one in range(3) for other in range(3)}
    said: list[list[Wait | None]] = [[], [], []]
    standstill = Standstill(3)
    left = messages

    def send(program: Program) -> None:
        nonlocal left
        left -= 1
        other = chance.choice([number for number in range(3) if number != program.number])
        program.sent[other] += 1
        ways[program.number, other].append(1)

    def say(program: Program) -> None:
        said[program.number].append(wait(sent=tuple(program.sent), received=tuple(program.received)))

    if left:
        send(programs[0])
    for program in programs:
        say(program)
    while any(ways.values()) or any(said):
        moves = [("byte", way) for way, bytes_ in ways.items() if bytes_]
        moves += [("word", (number, number)) for number in range(3) if said[number]]
        kind, (one, other) = chance.choice(moves)
        if kind == "word":
            standstill.note(one, said[one].pop(0))
        else:
            ways[one, other].pop()
            programs[other].received[one] += 1
            said[other].append(None)
            if left:
                send(programs[other])
            say(programs[other])
        assert not (standstill.all_wait() and any(ways.values()))
    assert standstill.all_wait()


@pytest.mark.parametrize(
    "said",
    [
        wait(sent=(0, 0)),
        wait(received=(0, 0, 0, 0)),
        wait(sent=(0, 5, 0)),
        wait(received=(0, None, 0)),
        wait(sent=(0, None, 0)),
        wait(awaited=(1,)),
        wait(awaited=(3,)),
    ],
)
def test_an_impossible_wait_breaks_the_rules(said: Wait) -> None:
    with pytest.raises(RemoteProtocolError):
        Standstill(3).note(1, said)


# -- words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (wait(awaited=(1,)), "party 0 waits for party 1"),
        (wait(awaited=(2, 1), places=(Place("a.py", 7),)), "party 0 waits for parties 1 and 2 at a.py line 7"),
        (wait(awaited=(1,), ending=True), "party 0 is shutting down and waits for party 1"),
        (wait(awaited=(1,), failed=True), "party 0 (whose program reported an error) waits for party 1"),
        (
            wait(awaited=(1, 2, 3), sent=(0, 0, 0, 0)),
            "party 0 waits for all other parties",
        ),
        (wait(), "party 0 waits for a value that no message can bring"),
        (
            wait(places=(Place("\x1b[2J.py", 1),)),
            "party 0 waits for a value that no message can bring at \\x1b[2J.py line 1",
        ),
    ],
)
def test_words(said: Wait, words: str) -> None:
    assert describe_wait(0, said) == words


def test_the_description_fits_into_a_report_for_any_number_of_parties() -> None:
    long = wait(awaited=tuple(range(200)), places=(Place("a" * 200, 1),) * 3)
    assert describe_all([long] * 3) == "3 more wait too"
    assert describe_all([wait(awaited=(1,))] * 256).endswith("; party 15 waits for party 1; 240 more wait too")
    assert len(describe_all([wait(awaited=(1,))] * 256)) <= 500


def test_an_error_is_the_likely_cause_and_only_its_own_party_can_see_it_above() -> None:
    waits = [QUIET, wait(failed=True), wait(failed=True)]
    assert (
        likely_cause(waits, 1)
        == "likely cause: an error in party 1's program (see above), an error in party 2's program"
    )
    assert likely_cause([QUIET] * 3, 1) == USUAL_CAUSES
