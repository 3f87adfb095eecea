"""What privacy_speed makes of what it measured, and its program without tor. What it measures is not looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import privacy_speed
from benchmarks.benchmark import Turn
from benchmarks.common import Failed
from benchmarks.privacy_speed import LOADS, check_links, run_session, times_of_loads
from benchmarks.processes import Process
from benchmarks.samples import Record
from benchmarks.settings import SETTINGS, Setting, check_promise, total
from onionmpc.errors import OnionMPCError
from onionmpc.levels import Level

NO_TOR, STANDARD = SETTINGS["no tor"], SETTINGS["standard"]
NOTES = [
    [{"began_s": 1.0, "ended_s": 5.0}, {"began_s": 6.0, "ended_s": 7.5}],
    [{"began_s": 2.0, "ended_s": 4.0}, {"began_s": 6.5, "ended_s": 9.0}],
    [{"began_s": 1.5, "ended_s": 4.5}, {"began_s": 6.0, "ended_s": 8.0}],
]


def party(number: int, *links: tuple[int, int | None, int | None]) -> Any:
    """A party that measured these links: the peer, own relays, claimed relays."""
    party = Process(SimpleNamespace(), lambda: None)  # type: ignore[arg-type]
    party.printed = [json.dumps({"loads": NOTES[number]})]
    party.events = [
        {"event": "link_measured", "party": peer, "own_relays": own, "claimed_relays": claimed}
        for peer, own, claimed in links
    ]
    return party


# --- Promises


def test_the_rendezvous_point_counts_once_and_no_tor_is_no_relay() -> None:
    assert (total(3, 4), total(3, 1), total(4, 5), total(None, None)) == (6, 3, 8, 0)


@pytest.mark.parametrize(
    ("name", "relays"),
    [("short", 3), ("standard", 6), ("long when dialling", 7), ("long when listening", 7), ("long", 8)],
)
def test_settings_promise_the_relays_of_their_levels(name: str, relays: int) -> None:
    dialler, _, listener = SETTINGS[name].levels
    promised = (dialler.promise.dialled, listener.promise.accepted)
    assert total(*promised) == relays
    check_promise(dialler, listener, *promised)


def test_what_is_longer_than_promised_counts() -> None:
    check_promise(Level.LONG, Level.LONG, 4, 5)
    check_promise(Level.SHORT, Level.SHORT, 3, 4)


@pytest.mark.parametrize(("own", "accepted"), [(3, 5), (4, 4), (None, 5), (4, None)])
def test_what_is_shorter_than_promised_or_was_not_counted_fails(own: int | None, accepted: int | None) -> None:
    with pytest.raises(Failed, match="expected 4 and 5 or more"):
        check_promise(Level.LONG, Level.LONG, own, accepted)


def test_a_load_takes_from_the_last_start_to_the_last_end() -> None:
    assert times_of_loads([party(number) for number in range(3)]) == {"rounds_s": 3.0, "large_s": 2.5}


def test_links_are_counted_by_both_sides() -> None:
    first = party(0, (1, 3, None), (1, 3, 4), (2, 3, 4))
    check_links(STANDARD, [first, party(1, (0, 4, 3), (2, 3, 4)), party(2, (0, 4, 3), (1, 4, 3))])


@pytest.mark.parametrize(
    ("lie", "words"),
    [((0, 4, 4), "claim other relays"), ((0, 3, 3), "relays were counted"), ((2, 4, 3), "was not measured")],
)
def test_a_session_whose_counts_do_not_add_up_fails(lie: tuple[int, int, int], words: str) -> None:
    parties = [party(0, (1, 3, 4), (2, 3, 4)), party(1, lie, (2, 3, 4)), party(2, (0, 4, 3), (1, 4, 3))]
    with pytest.raises(Failed, match=words):
        check_links(STANDARD, parties)


# --- Turns


def test_guards_are_drawn_once_in_a_repeat_and_sessions_run_even_without_round_trips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    @contextlib.asynccontextmanager
    async def no_network() -> AsyncIterator[Path]:
        yield tmp_path

    async def fail_to_draw(testnet: Path) -> None:
        drawn.append(testnet)
        raise OnionMPCError("tor did not start")

    async def one_session(_setting: Setting, _testnet: Path) -> dict[str, float]:
        return dict.fromkeys(LOADS, 10.0)

    replacements = {"private_network": no_network, "draw_guards": fail_to_draw, "run_session": one_session}
    for name, replacement in replacements.items():
        monkeypatch.setattr(privacy_speed, name, replacement)
    record = Record()

    async def one_repeat() -> None:
        async with privacy_speed.opened() as take:
            for name in SETTINGS:
                await take(Turn(name, 0, 0, list(SETTINGS), record))

    asyncio.run(one_repeat())
    assert drawn == [tmp_path]
    assert record.failures == {"round trips of all settings": ["tor did not start"]}
    assert [sample.row for sample in record.samples] == list(SETTINGS)


# --- The program


def test_a_session_without_tor_does_both_loads(tmp_path: Path) -> None:
    took_s = asyncio.run(run_session(NO_TOR, tmp_path))
    assert list(took_s) == list(LOADS)
    assert all(seconds > 0 for seconds in took_s.values())
