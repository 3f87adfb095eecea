"""`python -m benchmarks.recovery`: seconds from a fault to bytes flowing again, and what a link costs over raw bytes.

Two parties, each a process with a tor of its own, on a private Tor network with the delays of a world of regions, send
each other a tick all the time. Each kind of fault happens in turns, with raw dials between: believe the ratio to these.
Knows how to break things, and two kinds of that: `make soak` times the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, in_turns, options_of, report, run, say, table
from benchmarks.link_cost import measure_cost
from benchmarks.tors import party_network, private_network
from onionmpc.errors import OnionMPCError
from onionmpc.identity import Identity, Onion
from onionmpc.testnet.place import profiles_directory
from onionmpc.tor.control.login import open_control
from tests.support.party_tor import close_circuits, find_party_tor, open_circuits

# What takes longer has not recovered.
RECOVERY_LIMIT_S = 120.0
# Longer than anything that mends in the end: a question whose answer was not waited for would garble the next.
ANSWER_LIMIT_S = 600.0
SETTLE_S = 3.0
HEALTHY_LIMIT_S = 200.0
# Where the parties stand: an ocean between them.
REGIONS = ("europe-central", "america-east")


class BenchParty:
    """One party's process."""

    def __init__(self, process: asyncio.subprocess.Process, identity: Identity) -> None:
        self.process = process
        self.identity = identity

    async def ask(self, **question: str | float) -> dict[str, float]:
        """Ask one question and return the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(ANSWER_LIMIT_S):
            line = await self.process.stdout.readline()
        if not line:
            raise OnionMPCError("a party ended before its time")
        return dict(json.loads(line))

    async def time_dial(self) -> list[float]:
        """Return how long a raw dial took that got through, after those that did not; nothing if none does.

        While dials fail, tor is not over the fault before: after an outage it calls introduction points unusable for
        two minutes. The next fault would be blamed for it.
        """
        until_s = time.monotonic() + HEALTHY_LIMIT_S
        while time.monotonic() < until_s:
            answer = await self.ask(ask="dial")
            if "seconds" in answer:
                return [answer["seconds"]]
            await asyncio.sleep(SETTLE_S)
        return []

    async def link_path(self) -> tuple[str, ...]:
        """Return the relays on its side of the stream that it dialled, none if it was the other who dialled."""
        async with open_control(find_party_tor(self.process.pid).control) as control:
            return next((circuit.relays for circuit in await open_circuits(control) if circuit.dialled), ())

    async def close_circuits(self, rendezvous: str) -> None:
        """Close its circuits that join at this relay."""
        async with open_control(find_party_tor(self.process.pid).control) as control:
            found = await open_circuits(control)
            joined = [circuit for circuit in found if circuit.joined and circuit.relays[-1] == rendezvous]
            await close_circuits(control, joined)


# A fault does its harm to a link's parties, the one that dials first; it returns when it began.
Fault = Callable[[Sequence[BenchParty]], Awaitable[float]]


def circuit_closed(number: int) -> Fault:
    """Return the fault that closes the circuit of the link at a party."""

    async def close(parties: Sequence[BenchParty]) -> float:
        paths = [await party.link_path() for party in parties]
        if not any(paths):
            raise OnionMPCError("the link has no stream")
        rendezvous = next(path for path in paths if path)[-1]
        since_s = time.monotonic()
        await parties[number].close_circuits(rendezvous)
        return since_s

    return close


def tor_killed(number: int) -> Fault:
    """Return the fault that kills a party's own tor."""

    async def kill(parties: Sequence[BenchParty]) -> float:
        since_s = time.monotonic()
        os.kill(find_party_tor(parties[number].process.pid).process, signal.SIGKILL)
        return since_s

    return kill


FAULTS: dict[str, Fault] = {
    "circuit closed by the dialler": circuit_closed(0),
    "circuit closed by the listener": circuit_closed(1),
    "own tor killed (dialler)": tor_killed(0),
    "own tor killed (listener)": tor_killed(1),
}


async def time_recovery(parties: Sequence[BenchParty], fault: Fault) -> float:
    """Let a fault happen; return the seconds until ticks sent after it have arrived in both directions."""
    since_s = await fault(parties)
    arrivals = await asyncio.gather(*(party.ask(ask="first", after=since_s) for party in parties))
    return max(arrival["arrived_s"] for arrival in arrivals) - since_s


async def time_restart(directory: Path, region: str, peer: Onion) -> float:
    """Return how long a tor with kept guards and consensus takes from its start until one dial has got through."""
    identity = Identity(secrets.token_bytes(32))
    before_s = time.monotonic()
    async with party_network(directory, region, identity, profile="restart") as network:
        await (await network.dial(peer, RECOVERY_LIMIT_S)).close()
        return time.monotonic() - before_s


@contextlib.asynccontextmanager
async def two_parties(directory: Path) -> AsyncIterator[list[BenchParty]]:
    """Two parties whose link is up, the one that dials first."""
    identities = sorted((Identity(secrets.token_bytes(32)) for _ in range(2)), key=lambda identity: identity.onion)
    parties: list[BenchParty] = []
    try:
        for identity, other, region in zip(identities, reversed(identities), REGIONS, strict=True):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.recovery_party", str(directory), region),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            parties.append(BenchParty(process, identity))
            assert process.stdin is not None
            process.stdin.write(json.dumps({"seed": identity.seed.hex(), "peer": other.onion}).encode() + b"\n")
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await asyncio.gather(*(party.ask(ask="first", after=0.0) for party in parties))
        yield parties
    finally:
        for party in parties:
            if party.process.stdin is not None:
                party.process.stdin.close()
        for party in parties:
            try:
                async with asyncio.timeout(20):
                    await party.process.wait()
            except TimeoutError:
                party.process.kill()
                await party.process.wait()


async def measure(repeats: int, kinds: list[str], budget_s: float) -> dict[str, Any]:
    """Measure raw dials, restarts and every kind of fault in turns; return what it came to."""
    dials: dict[str, list[float]] = {"dialler": [], "listener": []}
    restarts: list[float] = []
    recoveries: dict[str, list[float]] = {kind: [] for kind in kinds}
    async with private_network() as (_, directory):
        async with two_parties(directory) as parties:
            profiles = profiles_directory(directory)
            shutil.copytree(profiles / parties[0].identity.onion[:16], profiles / "restart", symlinks=True)
            (profiles / "restart" / "data" / "lock").unlink(missing_ok=True)
            for _, kind in in_turns(kinds, repeats, budget_s):
                for of_party, party in zip(dials.values(), parties, strict=True):
                    of_party += await party.time_dial()
                if "tor killed" in kind or not restarts:
                    with contextlib.suppress(OnionMPCError, TimeoutError):
                        restarts.append(await time_restart(directory, REGIONS[0], parties[1].identity.onion))
                await asyncio.sleep(SETTLE_S)
                seconds = await time_recovery(parties, FAULTS[kind])
                recoveries[kind].append(seconds)
                say(f"{kind}: {seconds:.1f} s (a raw dial: {dials['dialler'][-1]:.1f} s)")
        cost = await measure_cost(directory, REGIONS)
    return summarise(dials, restarts, recoveries) | {"link_over_raw": cost}


def summarise(
    dials: Mapping[str, Sequence[float]], restarts: Sequence[float], recoveries: Mapping[str, Sequence[float]]
) -> dict[str, Any]:
    """Return medians, and ratios to what each kind is measured against."""
    dial = {who: Spread.of(values) for who, values in dials.items()}
    # A run of other kinds alone measures it once; it says nothing if even that dial failed.
    restart = Spread.of(restarts or [math.nan])
    faults = {}
    for kind, values in recoveries.items():
        unit = restart if "tor killed" in kind else dial["listener" if "listener" in kind else "dialler"]
        seconds = Spread.of(values)
        failed = sum(value > RECOVERY_LIMIT_S for value in values)
        faults[kind] = {"seconds": seconds, "ratio": round(seconds.median / unit.median, 3), "failed": failed}
    return {"dial_s": dial, "restart_s": restart, "faults": faults}


def tables(results: Mapping[str, Any]) -> list[str]:
    """Show the results to a person."""
    faults = [
        [kind, fault["seconds"].show(1), f"{fault['ratio']:.2f}", str(fault["failed"])]
        for kind, fault in results["faults"].items()
    ]
    dial = results["dial_s"]
    units = (
        f"One raw dial: {dial['dialler'].show(2)} s by the dialler, {dial['listener'].show(2)} s by the listener. "
        f"* For a killed tor, the unit is a tor's start and one dial: {results['restart_s'].show(2)} s."
    )
    return [
        table(["fault", "seconds", "ratio to one raw dial*", "never back"], faults),
        units,
        table(
            ["a link over one stream, against that stream raw", "ratio"],
            [[words, spread.show(3)] for words, spread in results["link_over_raw"].items()],
        ),
    ]


def main() -> None:
    """Measure, print and write."""
    parser = options_of("recovery", __doc__, repeats=5, budget_s=1200)
    parser.add_argument("--kind", action="append", choices=list(FAULTS), help="only this kind of fault; repeatable")
    options = parser.parse_args()
    results = run(measure(options.repeats, options.kind or list(FAULTS), options.budget))
    title = "From a fault to bytes flowing again in both directions"
    report("recovery", title, tables(results), results, options.output)


if __name__ == "__main__":
    main()
