"""Peers that leave, and parties that end, at every point in between: nothing that has to happen hangs on who left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from mesh_kit import (  # noqa: F401 (fixtures)
    Party,
    in_a_loop,
    knock,
    meshed,
    private_directory,
    still_flows,
    without_delay,
)

from onionmpc.errors import LinkExpired
from onionmpc.wire.frames import Ping, encode_frame

TURNS = 8  # of the loop: by then all that comes of a step has been done


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


# Issue 12: the bringing back of a link that is over began anew, where nothing could run it, and the mesh ended by that.
@pytest.mark.parametrize("after", range(TURNS))
@in_a_loop
async def test_a_network_that_is_back_brings_no_link_back_that_was_given_up(directory: Path, after: int) -> None:
    async with meshed(directory, 3) as (low, _, high):
        low.network.out = True
        await low.cut(1)
        await low.watcher.until(lambda: ("broken", 1) in low.watcher.news)
        low.watcher.up[1].fail(LinkExpired("it stays away"))
        await turns(after)
        low.network.out = False
        low.network.back.set()
        await turns(TURNS)
        assert await low.watcher.until_down(1, LinkExpired) == "it stays away"
        low.watcher.downs.clear()
        await still_flows(low, high)


# Issue 12: it was let in by a mesh whose tasks had ended, which failed as a bug of ours.
@pytest.mark.parametrize("after", range(-TURNS, TURNS))
@in_a_loop
async def test_a_peer_that_comes_as_the_session_ends_is_no_bug(directory: Path, after: int) -> None:
    async def lasts() -> None:
        async with party.mesh.running(60):
            await asyncio.Event().wait()

    party = Party(directory, 1, 2)
    await party.network.listen(party._serve)
    meshing = asyncio.create_task(lasts())
    try:
        _, secure = await knock(directory, party.identity)
        steps: list[Callable[[], object]] = [meshing.cancel, lambda: secure.send([encode_frame(Ping(0))])]
        for step in steps if after >= 0 else reversed(steps):
            step()
            await turns(abs(after))
        await asyncio.wait([meshing])
        assert meshing.cancelled()
        await secure.close()
        await party.watcher.until(lambda: party.served)
    finally:
        meshing.cancel()
        await party.network.__aexit__(None, None, None)
