"""`python -m benchmarks.link_cost`: what a link costs over one raw stream through tor, on the same circuit."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.links import RAW, SMALL_BYTES, Announced, LinkEnd, Listener, RawEnd, time_bulk, time_small
from benchmarks.tors import party_network, private_network
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.tor.network import TorNetwork

REGIONS = ("europe-central", "america-east")
TURNS = 5
BULK_BYTES = 2 * 2**20
SMALL_TURNS = 10
DIAL_TIMEOUT_S = 60.0
CIRCUIT_LIMIT_S = 300.0

LINK = "a link / one raw stream"
# By figure.
Ratios = dict[str, float]


async def one_circuit(
    network: TorNetwork, dialler: Identity, listener: Listener, links: asyncio.Queue[LinkEnd]
) -> list[Ratios]:
    """Take turns on one circuit; return the ratios of each turn."""
    user, onion = secrets.token_hex(16), listener.identity.onion
    stream = await Announced(network, RAW, user).dial(onion, DIAL_TIMEOUT_S)
    try:
        raw = RawEnd(stream), RawEnd(await listener.raws.get())
        async with Announced(network, user=user).link(dialler, onion) as (near, _):
            far = await links.get()
            await time_bulk(*raw, BULK_BYTES)  # congestion control finds its window
            found = []
            for _ in range(TURNS):
                raw_s = await time_bulk(*raw, BULK_BYTES)
                before_bytes = near.written_bytes + far.written_bytes
                link_s = await time_bulk(near, far, BULK_BYTES)
                written_bytes = near.written_bytes + far.written_bytes - before_bytes
                small = await time_small(near, far, SMALL_TURNS) / await time_small(*raw, SMALL_TURNS)
                # The answer is one byte.
                found.append({"bulk": link_s / raw_s, "small": small, "bytes": written_bytes / (BULK_BYTES + 1)})
            return found
    finally:
        await stream.close()


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network and two parties, an ocean apart."""
    links: asyncio.Queue[LinkEnd] = asyncio.Queue()
    dialler, listener = (Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(2))
    async with (
        private_network() as directory,
        party_network(directory, REGIONS[0], dialler) as near,
        party_network(directory, REGIONS[1], listener) as far,
    ):
        party = Listener(listener, far, links.put)
        await party.listen()

        async def take(turn: Turn) -> None:
            async with asyncio.timeout(CIRCUIT_LIMIT_S):
                for ratios in await one_circuit(near, dialler, party, links):
                    turn.note(LINK, **ratios)

        yield take


BENCHMARK = Benchmark(
    name="link_cost",
    question="What does a link cost over a raw stream?",
    turns=["circuit"],
    opened=opened,
    figures={
        "bulk": (f"time of {BULK_BYTES // 2**20} MiB", 3),
        "small": (f"time of {SMALL_TURNS} messages of {SMALL_BYTES} bytes there and back", 3),
        "bytes": (f"bytes of {BULK_BYTES // 2**20} MiB, acknowledgements included", 3),
    },
    aims=[
        Aim(f"{LINK}: bytes", LINK, "bytes", 1.03),
        Aim(f"{LINK}: time of large messages", LINK, "bulk", 1.05),
        Aim(f"{LINK}: time of small messages", LINK, "small", 1.05),
    ],
    repeats=2,
    networks=1,
)

if __name__ == "__main__":
    main(BENCHMARK)
