"""The adapter of stem: its parser of control events."""

from __future__ import annotations

import logging

import pytest

from onionmpc.tor.adapters.stem import parse_event

LINE = "33 BUILT $230F6CC65F6AADC4B0C6489632144C8F2C77B543~relay PURPOSE={} REND_QUERY={}"
SERVICE = "a" * 56


def test_an_unknown_purpose_is_accepted_and_stem_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        event = parse_event("CIRC", LINE.format("OF_A_LATER_TOR", SERVICE))
    assert event is not None
    assert (event.purpose, event.rend_query) == ("OF_A_LATER_TOR", SERVICE)
    assert caplog.text == ""


@pytest.mark.parametrize("line", ["", "33 BUILT $not~one"])
def test_a_line_that_stem_cannot_read_is_not_an_event(line: str) -> None:
    assert parse_event("CIRC", line) is None
