"""Round trips for `benchmarks.privacy_speed`: links of all settings, pinged in turns between all pairs of parties.

Knows how to give a party the same guard at all levels. Does not know sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import shutil
import statistics
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from benchmarks.benchmark import Turn
from benchmarks.links import DIAL_TIMEOUT_S, Announced, Listener, echo, ping
from benchmarks.settings import PAIRS, PARTIES, REGIONS, SETTINGS, check_promise, profile, total
from benchmarks.tors import party_network
from onionmpc.files import socket_directory
from onionmpc.identity import Identity
from onionmpc.levels import Level
from onionmpc.testnet.place import profiles_directory
from tests.support.direct import DirectNetwork

# Of each pair and setting, in each repeat: links at once, how often, and messages over each.
LINKS_AT_ONCE = 2
TURNS = 2
PINGS = 5
TOR_LIMIT_S = 60.0
PING_LIMIT_S = 120.0


async def draw_guards(testnet: Path) -> None:
    """Give each party a guard, the same at all levels: else we would compare where guards stand."""
    profiles = profiles_directory(testnet)
    shutil.rmtree(profiles, ignore_errors=True)
    for number in PARTIES:
        async with asyncio.timeout(TOR_LIMIT_S), _tor(testnet, number, Level.STANDARD):
            pass  # it has bootstrapped, and so chosen
        for level in (Level.SHORT, Level.LONG):
            copy = profiles / profile(number, level)
            shutil.copytree(profiles / profile(number, Level.STANDARD), copy, ignore=shutil.ignore_patterns("lock"))


@contextlib.asynccontextmanager
async def _tor(testnet: Path, number: int, level: Level) -> AsyncIterator[Listener]:
    """A party's tor, which has bootstrapped."""
    identity = Identity(secrets.token_bytes(32))
    of_level = profile(number, level)
    async with party_network(testnet, REGIONS[number], identity, profile=of_level, level=level) as network:
        yield Listener(identity, network, echo)


@contextlib.asynccontextmanager
async def _no_tor(sockets: Path) -> AsyncIterator[Listener]:
    identity = Identity(secrets.token_bytes(32))
    async with DirectNetwork(sockets, identity.onion) as network:
        yield Listener(identity, network, echo)


async def ping_all(names: Sequence[str], testnet: Path, turn: Turn) -> None:
    """Ping links of these settings in turns, between all pairs at once, and note what they took.

    Raises:
        OnionMPCError, TimeoutError: a tor did not start.
    """
    levels = sorted({level for name in names for level in SETTINGS[name].levels})
    keys = [(number, level) for number in PARTIES for level in levels]
    async with contextlib.AsyncExitStack() as stack:
        sockets = stack.enter_context(socket_directory())
        async with asyncio.timeout(len(keys) * TOR_LIMIT_S):
            tors = {key: await stack.enter_async_context(_tor(testnet, *key)) for key in keys}
            direct = [await stack.enter_async_context(_no_tor(sockets)) for _ in PARTIES]
            await asyncio.gather(*(party.listen() for party in [*tors.values(), *direct]))
        for _, name in itertools.product(range(TURNS), names):
            if own := SETTINGS[name].levels:
                pairs = [(tors[low, own[0]], tors[high, own[-1]]) for low, high in PAIRS]
            else:
                pairs = [(direct[low], direct[high]) for low, high in PAIRS]
            await asyncio.gather(*(_ping(name, *pair, turn) for pair in pairs for _ in range(LINKS_AT_ONCE)))


async def _ping(name: str, dialler: Listener, listener: Listener, turn: Turn) -> None:
    """Dial a circuit, send PINGS messages there and back, one after the other, and note their median."""
    setting = SETTINGS[name]
    link = Announced(dialler.network, setting.padding).link(dialler.identity, listener.identity.onion)
    with turn.record.attempt(name):
        async with asyncio.timeout(PING_LIMIT_S), link as (end, stream):
            path = stream.path
            accepted = None if path is None else await listener.network.accepted_path(path.rendezvous)
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                await ping(end)  # what the handshake left to do
                trips_s = [await ping(end) for _ in range(PINGS)]
        relays = (path.relays if path else None, accepted.relays if accepted else None)
        if setting.levels:
            check_promise(setting.levels[0], setting.levels[-1], *relays)
        turn.note(name, relays=total(*relays), round_trip_ms=statistics.median(trips_s) * 1000)
