"""What a party's provider sees of its tor: with padding always the same, without it the program's traffic."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from onionmpc.wire.records import FILLED_RECORD_BYTES
from tests.e2e.kit import Party, Stage
from tests.support.faulty_network import FaultyNetwork
from tests.support.party_tor import find_party_tor

pytestmark = pytest.mark.tor

# Gateways, which see every byte, and as good as no delay: so a program that speaks at every chance speaks much.
LATENCY_MS = 2.0
RATE = 20
PARTIES = 3
SECONDS = 8.0
OPENINGS = {"quiet": 3, "busy": 300}
BIN_S = 1.0
# A tor cell and what TLS adds to one that is sent alone.
CELL_BYTES = 514 + 22
# Measured: a bin of 40 records holds 38 to 44 cells, some of which acknowledge 31 others each. In three runs no two
# bins were further apart than 4 cells, and no two sums than half a percent; without padding bins are 15 to 36 cells
# apart. More is allowed: a tor may build a circuit in reserve, and a machine may be late by a quarter of a second.
BIN_TOLERANCE_BYTES = 10 * CELL_BYTES
TOTAL_TOLERANCE = 0.02
SCRIPT = """
    import asyncio, sys, time
    from mpyc.runtime import mpc
    openings, seconds = int(sys.argv[1]), float(sys.argv[2])
    async def main():
        async with mpc:
            began = time.monotonic()
            total = mpc.sum(mpc.input(mpc.SecInt(32)(1)))
            for _ in range(openings):
                assert int(await mpc.output(total)) == len(mpc.parties)
            await asyncio.sleep(began + seconds - time.monotonic())
    mpc.run(main())
"""


@dataclass
class Watched:
    """A party, and when how many bytes went which way at its gateway.

    Attributes:
        agreed_s, ended_s: when its program started and ended; times are those of the event loop.
    """

    party: Party
    pieces: list[tuple[float, int, bool]] = field(default_factory=list)
    agreed_s: float = 0.0
    ended_s: float = 0.0

    def series(self, outward: bool, bins: int) -> list[int]:
        """Return how many bytes went this way in each bin from the agreement on."""
        found = [0] * bins
        for at_s, size, way in self.pieces:
            place = int((at_s - self.agreed_s) // BIN_S)
            if way == outward and 0 <= place < bins:
                found[place] += size
        return found

    def total(self, outward: bool) -> int:
        """Return how many bytes went this way while the program ran."""
        return sum(size for at_s, size, way in self.pieces if way == outward and self.agreed_s <= at_s < self.ended_s)


def watch(network: FaultyNetwork, party: Party) -> Watched:
    """Record from now on what passes the gateway of a party's tor."""
    assert network.state is not None
    place = find_party_tor(party.process_id).gateway
    (slot,) = (slot for slot in network.state.slots if (slot.address, slot.gateway_port) == place)
    watched, loop = Watched(party), asyncio.get_running_loop()
    network.gateway(slot).on_bytes = lambda size, outward: watched.pieces.append((loop.time(), size, outward))
    return watched


async def compute(network: FaultyNetwork, folder: Path, openings: int, options: Sequence[str]) -> list[Watched]:
    """Run a session to its end and watch all its parties."""
    stage = Stage(network.directory, folder)
    try:
        script = stage.script("opens.py", SCRIPT)
        public = [f"--public={openings}", f"--public={SECONDS}"]
        parties = await stage.gathered(script, *public, *options, parties=PARTIES)
        await asyncio.gather(*(party.hears("link_up", times=PARTIES - 1) for party in parties))
        watched = [watch(network, party) for party in parties]
        for one in watched:
            one.agreed_s = (await one.party.hears("agreed"))["heard_s"]
            one.ended_s = (await one.party.hears("program_ended"))["heard_s"]
        if options:
            await asyncio.gather(*(party.hears("rounding") for party in parties))
            for party in parties[1:]:
                party.interrupt()
        await stage.ended()
        return watched
    finally:
        await stage.close()


async def compute_all(folder: Path) -> dict[str, list[Watched]]:
    """The quiet and the busy program side by side, with padding and then without."""
    seen = {}
    async with FaultyNetwork(folder / "net", latency=LATENCY_MS) as network:
        for word, options in (("padded", ["--padding", str(RATE)]), ("unpadded", [])):
            sessions = []
            for kind, openings in OPENINGS.items():
                place = folder / f"{word}-{kind}"
                place.mkdir()
                sessions.append(compute(network, place, openings, options))
            for kind, watched in zip(OPENINGS, await asyncio.gather(*sessions), strict=True):
                seen[f"{word} {kind}"] = watched
    return seen


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, list[Watched]]]:
    with tempfile.TemporaryDirectory(prefix="onionmpc-padding-") as name:
        yield asyncio.run(compute_all(Path(name)))


def pairs(seen: dict[str, list[Watched]], word: str) -> Iterator[tuple[list[int], list[int]]]:
    """Yield what was seen in the quiet and in the busy session, for each party and direction."""
    sessions = [seen[f"{word} {kind}"] for kind in OPENINGS]
    bins = int(min(one.ended_s - one.agreed_s for watched in sessions for one in watched) // BIN_S)
    assert bins >= SECONDS - 1
    for quiet, busy in zip(*sessions, strict=True):
        for outward in (True, False):
            yield quiet.series(outward, bins), busy.series(outward, bins)


def far_apart(quiet: Sequence[int], busy: Sequence[int]) -> int:
    """Return how many bins differ by more than tor's own traffic."""
    return sum(abs(one - other) > BIN_TOLERANCE_BYTES for one, other in zip(quiet, busy, strict=True))


def test_padded_sessions_look_the_same_whatever_their_programs_say(seen: dict[str, list[Watched]]) -> None:
    for quiet, busy in pairs(seen, "padded"):
        assert far_apart(quiet, busy) == 0, (quiet, busy)
        assert sum(busy) == pytest.approx(sum(quiet), rel=TOTAL_TOLERANCE), (quiet, busy)
        # And it is the records that are seen.
        least = (PARTIES - 1) * RATE * FILLED_RECORD_BYTES * BIN_S * len(quiet)
        assert least < min(sum(quiet), sum(busy)) < 1.2 * least, (quiet, busy)


def test_without_padding_they_do_not(seen: dict[str, list[Watched]]) -> None:
    for quiet, busy in pairs(seen, "unpadded"):
        assert far_apart(quiet, busy) > len(quiet) / 2, (quiet, busy)
    # On a loaded machine the busy program outlasts the quiet one. So each is counted to its own end.
    for one, other in zip(seen["unpadded quiet"], seen["unpadded busy"], strict=True):
        for outward in (True, False):
            assert other.total(outward) > 2 * one.total(outward)


def test_a_padded_session_succeeds_and_ends_at_once_on_ctrl_c(seen: dict[str, list[Watched]]) -> None:
    for kind in OPENINGS:
        host, *joiners = (one.party for one in seen[f"padded {kind}"])
        assert [party.code for party in (host, *joiners)] == [0, 130, 130]
        (ended,) = host.heard("ended")
        links: list[dict[str, Any]] = list(ended["links"].values())
        assert [(link["gaps"], link["gap_s"]) for link in links] == [(0, 0)] * 2
        assert host.heard("agreement")[0]["padding_rate"] == RATE
