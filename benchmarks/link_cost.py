"""What a link costs over one raw stream through tor, in bytes and time, on one circuit. Part of `recovery`."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

from benchmarks.common import Spread, say
from benchmarks.links import RAW, SMALL_BYTES, Announced, LinkEnd, Listener, RawEnd, time_bulk, time_small
from benchmarks.tors import party_network
from onionmpc.errors import OnionMPCError
from onionmpc.identity import Identity
from onionmpc.tor.network import TorNetwork

CIRCUITS = 2
TURNS = 5
BULK_BYTES = 2 * 2**20
SMALL_TURNS = 10
DIAL_TIMEOUT_S = 60.0
CIRCUIT_LIMIT_S = 300.0

MEASURES = (
    f"time of {BULK_BYTES // 2**20} MiB",
    f"time of {SMALL_TURNS} messages of {SMALL_BYTES} bytes there and back",
    f"bytes of {BULK_BYTES // 2**20} MiB, acknowledgements included",
)
Ratios = list[tuple[float, ...]]


async def measure_cost(directory: Path, regions: tuple[str, str]) -> dict[str, Spread]:
    """Return ratios of a link to a raw stream, each a median over circuits and turns."""
    found: Ratios = []
    links: asyncio.Queue[LinkEnd] = asyncio.Queue()
    dialler, listener = (Identity(secrets.token_bytes(32)) for _ in range(2))
    async with (
        party_network(directory, regions[0], dialler) as near,
        party_network(directory, regions[1], listener) as far,
    ):
        party = Listener(listener, far, links.put)
        await party.listen()
        for number in range(CIRCUITS):
            try:
                async with asyncio.timeout(CIRCUIT_LIMIT_S):
                    ratios = await _one_circuit(near, dialler, party, links)
            except (OnionMPCError, TimeoutError) as error:
                say(f"link cost, circuit {number + 1}: {error!r}")
                continue
            say(f"link cost, circuit {number + 1} of {CIRCUITS}: {ratios}")
            found += ratios
    return {words: Spread.of(values) for words, values in zip(MEASURES, zip(*found, strict=True), strict=False)}


async def _one_circuit(
    network: TorNetwork, dialler: Identity, listener: Listener, links: asyncio.Queue[LinkEnd]
) -> Ratios:
    """Take turns on one circuit; return the ratios of each turn, in the order of MEASURES."""
    user, onion = secrets.token_hex(16), listener.identity.onion
    stream = await Announced(network, RAW, user).dial(onion, DIAL_TIMEOUT_S)
    try:
        raw = RawEnd(stream), RawEnd(await listener.raws.get())
        async with Announced(network, user=user).link(dialler, onion) as (near, _):
            far = await links.get()
            await time_bulk(*raw, BULK_BYTES)  # congestion control finds its window
            found: Ratios = []
            for _ in range(TURNS):
                raw_s = await time_bulk(*raw, BULK_BYTES)
                before_bytes = near.written_bytes + far.written_bytes
                link_s = await time_bulk(near, far, BULK_BYTES)
                written_bytes = near.written_bytes + far.written_bytes - before_bytes
                small = await time_small(near, far, SMALL_TURNS) / await time_small(*raw, SMALL_TURNS)
                # The answer is one byte.
                found.append((round(link_s / raw_s, 3), round(small, 3), written_bytes / (BULK_BYTES + 1)))
            return found
    finally:
        await stream.close()
