"""Plain local sockets fulfil the contract of a Network."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from onionmpc.files import socket_directory
from onionmpc.identity import Onion
from onionmpc.mesh.network import Stream
from tests.support.direct import DirectNetwork
from tests.support.network_contract import (
    FACTS,
    Fact,
    Pair,
    a_later_session_has_keys_and_streams_of_its_own,
    strangers_do_not_find_the_listener_until_it_admits_them,
)

ALICE = Onion("a" * 56 + ".onion")
BOB = Onion("b" * 56 + ".onion")
CAROL = Onion("c" * 56 + ".onion")
NOBODY = Onion("n" * 56 + ".onion")


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_contract(fact: Fact) -> None:
    async def main(directory: Path) -> None:
        async with DirectNetwork(directory, ALICE) as alice, DirectNetwork(directory, BOB) as bob:
            pair = Pair(alice, bob, BOB, NOBODY, deadline_s=5)
            await pair.listen()
            await fact(pair)

    with socket_directory() as directory:
        asyncio.run(main(directory))


def test_strangers_cannot_find_the_listener_until_it_admits_them() -> None:
    async def main(directory: Path) -> None:
        networks = (DirectNetwork(directory, onion) for onion in (ALICE, BOB, CAROL))
        async with contextlib.AsyncExitStack() as stack:
            alice, bob, carol = [await stack.enter_async_context(network) for network in networks]
            pair = Pair(alice, bob, BOB, NOBODY, deadline_s=5)
            await pair.listen()
            await strangers_do_not_find_the_listener_until_it_admits_them(pair, carol)
            await a_later_session_has_keys_and_streams_of_its_own(pair, carol)

    with socket_directory() as directory:
        asyncio.run(main(directory))


def test_leaving_cuts_accepted_streams_and_ends_their_tasks() -> None:
    ended = []

    async def main(directory: Path) -> None:
        started = asyncio.Event()

        async def serve(stream: Stream) -> None:
            started.set()
            try:
                await stream.reader.read()
            finally:
                ended.append(stream)

        async with DirectNetwork(directory, ALICE) as alice:
            async with DirectNetwork(directory, BOB) as bob:
                await bob.listen(serve)
                stream = await alice.dial(BOB, 5)
                await started.wait()
            async with asyncio.timeout(5):
                assert await stream.reader.read() == b""
            await stream.close()

    with socket_directory() as directory:
        asyncio.run(main(directory))
        assert list(directory.iterdir()) == []
    assert len(ended) == 1


def test_a_bug_while_serving_cuts_that_stream_and_is_reported() -> None:
    reported = []

    async def serve(stream: Stream) -> None:
        raise ZeroDivisionError

    async def main(directory: Path) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what["exception"]))
        async with DirectNetwork(directory, ALICE) as alice, DirectNetwork(directory, BOB) as bob:
            await bob.listen(serve)
            for _ in range(2):
                stream = await alice.dial(BOB, 5)
                assert await stream.reader.read() == b""
                await stream.close()

    with socket_directory() as directory:
        asyncio.run(main(directory))
    assert [type(error) for error in reported] == [ZeroDivisionError, ZeroDivisionError]
