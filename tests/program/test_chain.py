"""The longest chain, read from what parties report of their messages."""

from __future__ import annotations

import pytest

from onionmpc.program.chain import by_line, longest_chain
from onionmpc.program.spec import Origin, Place, Sent, Trigger

Messages = dict[tuple[int, int], list[Sent]]


def at(line: int, call: int = 0) -> Origin:
    return Origin(Place("script.py", line), "output", 32, call)


def lines_of(messages: Messages) -> list[int | None]:
    return [hop.origin.place.line if hop.origin else None for hop in longest_chain(messages)]


def test_no_messages_have_no_chain() -> None:
    assert longest_chain({}) == []
    assert longest_chain({(0, 1): []}) == []


def test_messages_beside_one_another_are_one_hop() -> None:
    assert lines_of({(0, 1): [Sent(1, None, at(1)), Sent(1, None, at(1))]}) == [1]


def test_a_chain_goes_back_and_forth() -> None:
    messages = {
        (0, 1): [Sent(1, None, at(1)), Sent(1, Trigger(1, 0), at(3))],
        (1, 0): [Sent(0, Trigger(0, 0), at(2)), Sent(0, Trigger(0, 1), at(4))],
    }
    assert lines_of(messages) == [1, 2, 3, 4]
    assert [hop.sender for hop in longest_chain(messages)] == [0, 1, 0, 1]


def test_the_longer_of_two_branches_counts_whichever_ends_last() -> None:
    messages = {
        (0, 1): [Sent(1, None, at(1)), Sent(1, Trigger(1, 1), at(3))],
        (1, 0): [Sent(0, None, at(9)), Sent(0, Trigger(0, 0), at(2)), Sent(0, None, at(9))],
    }
    assert lines_of(messages) == [1, 2, 3]


def test_a_chain_goes_through_third_parties() -> None:
    messages = {
        (0, 1): [Sent(1, None, at(1))],
        (1, 2): [Sent(2, Trigger(0, 0), at(2))],
        (2, 0): [Sent(0, Trigger(1, 0), at(3))],
    }
    assert lines_of(messages) == [1, 2, 3]


def test_an_answer_that_no_line_asked_for_is_that_of_the_line_before() -> None:
    messages = {(0, 1): [Sent(1, None, at(1))], (1, 0): [Sent(0, Trigger(0, 0), None)]}
    assert lines_of(messages) == [1, 1]


def test_what_nothing_in_the_program_asked_for_has_no_line() -> None:
    messages: Messages = {(0, 1): [Sent(1, None, None)], (1, 0): [Sent(0, Trigger(0, 0), at(1))]}
    assert lines_of(messages) == [None, 1]
    assert [line.place for line in by_line(longest_chain(messages))] == [None, Place("script.py", 1)]


# A program that lies about itself: only its own figures suffer.
@pytest.mark.parametrize(
    "messages",
    [
        {(0, 1): [Sent(1, Trigger(1, 7), at(1))]},
        {(0, 1): [Sent(1, Trigger(0, 0), at(1))]},
        {(0, 1): [Sent(1, Trigger(5, 0), at(1))]},
    ],
)
def test_a_cause_that_was_never_sent_is_the_beginning(messages: Messages) -> None:
    assert lines_of(messages) == [1]


def test_causes_in_a_circle_are_no_endless_chain() -> None:
    messages = {(0, 1): [Sent(1, Trigger(1, 0), at(1))], (1, 0): [Sent(0, Trigger(0, 0), at(2))]}
    assert len(longest_chain(messages)) == 2


def test_a_long_chain_is_no_deep_recursion() -> None:
    count = 20_000
    messages = {
        (0, 1): [Sent(1, Trigger(1, index - 1) if index else None, at(1)) for index in range(count)],
        (1, 0): [Sent(0, Trigger(0, index), at(2)) for index in range(count)],
    }
    lines = by_line(longest_chain(messages))
    assert [(line.place.line, len(line.hops)) for line in lines if line.place] == [(1, count), (2, count)]


def test_lines_come_by_their_hops_and_then_in_order() -> None:
    messages = {
        (0, 1): [Sent(1, None, at(8)), Sent(1, Trigger(1, 0), at(3)), Sent(1, Trigger(1, 1), at(5))],
        (1, 0): [Sent(0, Trigger(0, 0), at(5)), Sent(0, Trigger(0, 1), at(4))],
    }
    lines = by_line(longest_chain(messages))
    assert [(line.place.line, len(line.hops)) for line in lines if line.place] == [(5, 2), (3, 1), (4, 1), (8, 1)]
