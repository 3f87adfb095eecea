"""`python -m benchmarks.privacy_speed`: what each circuit length costs, from one run on one private Tor network.

Three parties stand in three regions. In each repeat they draw fresh guards, the same ones for all settings; then links
of all settings are pinged in turns (round_trips.py), and a session of each setting runs the same program by the real
commands. Believe the ratios within a repeat before any number of seconds. Knows what a setting promises, and what tor
says that it built.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.common import Failed
from benchmarks.processes import Process, running
from benchmarks.round_trips import draw_guards, ping_all
from benchmarks.sessions import ONIONMPC, WORKLOAD, direct, keep_identities, listed, scratch
from benchmarks.settings import PAIRS, PARTIES, REGIONS, SETTINGS, Setting, check_promise, profile
from benchmarks.tors import private_network
from onionmpc.files import private_directory, socket_directory
from onionmpc.levels import Level

# What the program does, one after the other: the figure, and the load. Of the elements, of 16 bytes each, half a MiB
# goes to each of the two other parties, and as much comes from it.
LOADS = {"rounds_s": "rounds=50", "large_s": f"array={2**15}"}
SESSION_LIMIT_S = 240.0


def way_of(setting: Setting, number: int, testnet: Path) -> list[str]:
    """Return a party's options of `onionmpc join`."""
    if not setting.levels:
        return []
    level = setting.levels[number]
    return [
        *("--testnet", str(testnet), "--region", REGIONS[number], "--profile", profile(number, level)),
        *("--circuit-length", level.value, "--min-circuit-length", Level.SHORT.value),
        *(["--show-my-ip"] if level is Level.SHORT else []),
        *([f"--padding={setting.padding}"] if setting.padding else []),
    ]


async def run_session(setting: Setting, testnet: Path) -> dict[str, float]:
    """Run one session by the real commands; return what `times_of_loads` does.

    Raises:
        Failed: it did not end well within SESSION_LIMIT_S, or built less than its levels promise.
    """
    ways = [way_of(setting, number, testnet) for number in PARTIES]
    with scratch() as folder, socket_directory() as sockets:
        state = private_directory(folder / "state")
        onions = keep_identities(state, len(PARTIES), exposed=Level.SHORT in setting.levels)
        async with running(SESSION_LIMIT_S, ONIONMPC_STATE=state) as processes:
            for words in listed(onions, [WORKLOAD], ways, list(LOADS.values())):
                await processes.start(*(ONIONMPC if setting.levels else direct(sockets)), *words)
            parties = processes.all
            ending = asyncio.create_task(processes.ended(parties, allowed=is_done))
            # A padded session goes on to the full minute; we leave it when all have their results.
            leaving = asyncio.create_task(processes.hears(lambda: all(map(is_done, parties))))
            await asyncio.wait({ending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done() and not leaving.exception():
                for party in parties:
                    with contextlib.suppress(ProcessLookupError):
                        party.process.send_signal(signal.SIGINT)
            leaving.cancel()
            await ending
            check_links(setting, parties)
            return times_of_loads(parties)


def is_done(party: Process) -> bool:
    """Whether a party has its result, and only waits for the full minute."""
    return bool(party.heard("rounding"))


def times_of_loads(parties: Sequence[Process]) -> dict[str, float]:
    """Return how long each of LOADS took, from the last party's start to the last party's end."""
    of_loads = zip(*(party.results["loads"] for party in parties), strict=True)
    return {
        figure: max(load["ended_s"] for load in loads) - max(load["began_s"] for load in loads)
        for figure, loads in zip(LOADS, of_loads, strict=True)
    }


def check_links(setting: Setting, parties: Sequence[Process]) -> None:
    """Check that the parties measured links as long as promised, and claimed what they measured.

    Raises:
        Failed: they did not.
    """
    for low, high in PAIRS if setting.levels else ():
        dialled, accepted = link_of(parties[low], high), link_of(parties[high], low)
        check_promise(setting.levels[low], setting.levels[high], dialled["own_relays"], accepted["own_relays"])
        claimed = (accepted["claimed_relays"], dialled["claimed_relays"])
        if claimed != (dialled["own_relays"], accepted["own_relays"]):
            raise Failed(f"parties {low} and {high} claim other relays than they measured")


def link_of(party: Process, peer: int) -> Mapping[str, Any]:
    """Return what a party measured last of its link to a peer."""
    measured = [event for event in party.heard("link_measured") if event["party"] == peer]
    if not measured:
        raise Failed(f"the link to party {peer} was not measured")
    return measured[-1]


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network."""
    async with private_network() as testnet:

        async def take(turn: Turn) -> None:
            if turn.name == turn.order[0]:
                with turn.record.attempt("round trips of all settings"):
                    await draw_guards(testnet)
                    await ping_all(turn.order, testnet, turn)
            turn.note(turn.name, **await run_session(SETTINGS[turn.name], testnet))

        yield take


BENCHMARK = Benchmark(
    name="privacy_speed",
    question="What does each circuit length cost, and padding?",
    turns=list(SETTINGS),
    opened=opened,
    figures={
        "relays": ("relays", 0),
        "round_trip_ms": ("round trip, ms", 0),
        "rounds_s": ("50 rounds, s", 1),
        "large_s": ("half a MiB to each, s", 1),
    },
    ratios=[(name, "standard") for name in SETTINGS if name != "standard"],
    aims=[
        Aim(f"50 rounds: {name} / standard", f"{name} / standard", "rounds_s")
        for name in ("short", "long", "standard, padded")
    ],
    repeats=2,
    networks=1,
)

if __name__ == "__main__":
    main(BENCHMARK)
