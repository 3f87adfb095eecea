"""`python -m benchmarks.recovery`: seconds from a fault to bytes flowing again in both directions.

Two parties, each with a tor of its own, on a private Tor network with the delays of a world of regions, send each other
a tick all the time. Each kind of fault happens in turns, with raw dials between: believe the ratio to these. Knows how
to break things, and two kinds of that: `make soak` times the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.common import Failed
from benchmarks.ticks import Party, profile_of, two_parties
from benchmarks.tors import party_network, private_network
from onionmpc.errors import OnionMPCError
from onionmpc.identity import SEED_BYTES, Identity, Onion
from onionmpc.mesh.network import Network
from onionmpc.testnet.place import profiles_directory
from tests.support.party_tor import close_circuits, open_circuits

DIAL_LIMIT_S = 60.0
RECOVERY_LIMIT_S = 600.0
SETTLE_S = 3.0
HEALTHY_LIMIT_S = 200.0
# Where the parties stand: an ocean between them.
REGIONS = ("europe-central", "america-east")
# What a fault is compared with.
DIALS = ("a raw dial by the dialler", "a raw dial by the listener")
RESTART = "a tor's restart and one dial"


async def close_circuit(parties: Sequence[Party], number: int) -> float:
    """Close the circuit of the link at a party; return when that began."""
    circuits = [await open_circuits(party.control) for party in parties]
    rendezvous = [circuit.relays[-1] for of_party in circuits for circuit in of_party if circuit.dialled]
    if not rendezvous:
        raise Failed("the link has no stream")
    joined = [each for each in circuits[number] if each.joined and each.relays[-1] == rendezvous[0]]
    since_s = time.monotonic()
    await close_circuits(parties[number].control, joined)
    return since_s


async def kill_tor(parties: Sequence[Party], number: int) -> float:
    """Kill a party's own tor; return when that began."""
    process = int(await parties[number].control.get_info("process/pid"))
    since_s = time.monotonic()
    os.kill(process, signal.SIGKILL)
    return since_s


@dataclass(frozen=True, slots=True)
class Fault:
    """What breaks a link, and the aim for its return.

    Attributes:
        number: of the party that it happens to; 0 is the one that dials.
        unit: the row that it is compared with.
        limit: the most that the ratio may be.
    """

    harm: Callable[[Sequence[Party], int], Awaitable[float]]
    number: int
    unit: str
    limit: float


FAULTS = {
    "circuit closed by the dialler": Fault(close_circuit, 0, DIALS[0], 1.5),
    "circuit closed by the listener": Fault(close_circuit, 1, DIALS[1], 1.5),
    "own tor killed (dialler)": Fault(kill_tor, 0, RESTART, 1.2),
    "own tor killed (listener)": Fault(kill_tor, 1, RESTART, 1.2),
}


async def time_recovery(parties: Sequence[Party], fault: Fault) -> float:
    """Let a fault happen; return the seconds until ticks sent after it have arrived in both directions."""
    since_s = await fault.harm(parties, fault.number)
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        return max(await asyncio.gather(*(party.first_after(since_s) for party in parties))) - since_s


async def time_dial(network: Network, peer: Onion) -> float:
    """Return how long a raw dial took that got through, after those that did not.

    While dials fail, tor is not over the fault before: after an outage it calls introduction points unusable for two
    minutes. The next fault would be blamed for it.

    Raises:
        Failed: none gets through.
    """
    until_s = time.monotonic() + HEALTHY_LIMIT_S
    while time.monotonic() < until_s:
        before_s = time.monotonic()
        try:
            stream = await network.dial(peer, DIAL_LIMIT_S)
        except OnionMPCError:
            await asyncio.sleep(SETTLE_S)
        else:
            seconds = time.monotonic() - before_s
            await stream.close()
            return seconds
    raise Failed("tor is not over the fault before")


async def time_restart(directory: Path, peer: Onion) -> float:
    """Return how long a tor with kept guards and consensus takes from its start until one dial has got through."""
    identity = Identity(secrets.token_bytes(SEED_BYTES))
    before_s = time.monotonic()
    async with party_network(directory, REGIONS[0], identity, profile="restart") as network:
        await (await network.dial(peer, DIAL_LIMIT_S)).close()
        return time.monotonic() - before_s


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network and two parties in it, and keep what a tor needs to start later."""
    async with private_network() as directory, two_parties(directory, REGIONS) as (dialler, listener):
        profiles = profiles_directory(directory)
        shutil.copytree(profiles / profile_of(dialler.identity), profiles / "restart", symlinks=True)
        (profiles / "restart" / "data" / "lock").unlink(missing_ok=True)

        async def take(turn: Turn) -> None:
            turn.note(DIALS[0], seconds=await time_dial(dialler.network, listener.identity.onion))
            turn.note(DIALS[1], seconds=await time_dial(listener.network, dialler.identity.onion))
            fault = FAULTS[turn.name]
            if fault.unit == RESTART:
                turn.note(RESTART, seconds=await time_restart(directory, listener.identity.onion))
            await asyncio.sleep(SETTLE_S)
            turn.note(turn.name, seconds=await time_recovery([dialler, listener], fault))

        yield take


BENCHMARK = Benchmark(
    name="recovery",
    question="How long is a link away after a fault?",
    turns=list(FAULTS),
    opened=opened,
    figures={"seconds": ("seconds", 1)},
    ratios=[(name, fault.unit) for name, fault in FAULTS.items()],
    aims=[
        Aim(f"{name}: back / {fault.unit}", f"{name} / {fault.unit}", "seconds", fault.limit)
        for name, fault in FAULTS.items()
    ],
    repeats=4,
    networks=1,
)

if __name__ == "__main__":
    main(BENCHMARK)
