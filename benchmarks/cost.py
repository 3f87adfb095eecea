"""`python -m benchmarks.cost`: the price of handshake, records, walls and unpickler, by doing without. No tor.

No option of onionmpc switches any of them off: here stand-ins do what they do and protect nothing. Knows one way to
take each protection away, and measures both ways in turns. `privacy_speed` has the price of padding and circuit
lengths, `overhead` that of a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pickle
import random
import secrets
import socket
import tempfile
import time
import timeit
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.benchmark import Benchmark, Turn, main, no_setup
from benchmarks.links import SMALL_BYTES, LinkEnd, carried, time_bulk, time_small
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import EPHEMERAL_BYTES, SecureStream
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.process.launch import start_program
from onionmpc.program.rehearsal import evenly, rehearse
from onionmpc.program.spec import ProgramSpec
from onionmpc.wire.handshake import (
    NO_PSK,
    Answer,
    DiallerHandshake,
    Hello,
    ListenerHandshake,
    Purpose,
    Reply,
)
from onionmpc.wire.noise import TAG_BYTES
from onionmpc.wire.records import Records
from tests.support.rehearsal import spec_of

BULK_BYTES = 16 * 2**20
SMALL_TURNS = 500
HANDSHAKES = 50
PARTIES = 3
LIMIT_S = 60.0
# What is done, by its protection.
HANDSHAKE = "handshake: both ends, processor time"
BULK = f"records: {BULK_BYTES // 2**20} MiB over a link"
SMALL = f"records: {SMALL_BYTES} bytes over a link and back"
START = "walls: a program that ends at once"
SORT = "walls: sort, computing"


def without(what: str) -> str:
    """Return what to call something without its protection."""
    return f"{what}, without"


class Copying:
    """Stands where a cipher state does: gives what it is given, and as many bytes more as a tag has."""

    def encrypt(self, plaintext: bytes) -> bytes:
        """Hide nothing."""
        return plaintext + bytes(TAG_BYTES)

    def decrypt(self, ciphertext: bytes) -> bytes:
        """Check nothing."""
        return ciphertext[:-TAG_BYTES]


def sealed_records() -> tuple[Records, Records]:
    """Return both ends' records, as a handshake leaves them."""
    return shake_hands(new_pair())


def copying_records() -> tuple[Records, Records]:
    """Return both ends' records without encryption."""
    return Records(Copying(), Copying()), Records(Copying(), Copying())  # type: ignore[arg-type]


# -- the handshake


def shake_hands(pair: tuple[DiallerHandshake, ListenerHandshake]) -> tuple[Records, Records]:
    """Do a whole handshake; return the records of both ends."""
    dialler, listener = pair
    listener.read_static(dialler.message())
    listener.read_hello([NO_PSK])
    answer, far = listener.answer(Reply(Answer.ACCEPTED, bytes(16)))
    return dialler.receive(answer)[1], far


def new_pair() -> tuple[DiallerHandshake, ListenerHandshake]:
    """Return a dialler and a listener who have not met."""
    dialler, listener = (Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(2))
    hello = Hello(dialler.public_key, Purpose.MESH, bytes(16))
    return (
        DiallerHandshake(dialler, listener.public_key, NO_PSK, hello, secrets.token_bytes(EPHEMERAL_BYTES)),
        ListenerHandshake(listener, secrets.token_bytes(EPHEMERAL_BYTES)),
    )


async def take_handshakes(turn: Turn) -> None:
    """Measure the processor time of one handshake at both ends together; nothing does the same without protection."""
    pairs = [new_pair() for _ in range(HANDSHAKES)]
    before_s = time.process_time()
    for pair in pairs:
        shake_hands(pair)
    turn.note(HANDSHAKE, microseconds=(time.process_time() - before_s) / HANDSHAKES * 1e6)


# -- links on local sockets


@contextlib.asynccontextmanager
async def linked(records: Iterable[Records]) -> AsyncIterator[tuple[LinkEnd, LinkEnd]]:
    """Two ends of a link over a local stream."""
    onion = Identity(bytes(SEED_BYTES)).onion
    async with contextlib.AsyncExitStack() as stack:
        ends = []
        for end, of_end in zip(socket.socketpair(), records, strict=True):
            stream = Stream(*await asyncio.open_unix_connection(sock=end))
            ends.append(LinkEnd(stream))
            await stack.enter_async_context(carried(ends[-1], SecureStream(stream, of_end, onion, bytes(16), 0)))
        yield ends[0], ends[1]


async def take_records(turn: Turn) -> None:
    """Measure a link with records that seal, and with records that copy."""
    for bulk, small, records in (
        (BULK, SMALL, sealed_records),
        (without(BULK), without(SMALL), copying_records),
    ):
        async with asyncio.timeout(LIMIT_S), linked(records()) as ends:
            turn.note(bulk, microseconds=await time_bulk(*ends, BULK_BYTES) * 1e6)
            turn.note(small, microseconds=await time_small(*ends, SMALL_TURNS) / SMALL_TURNS * 1e6)


# -- what MPyC is fed


def messages() -> dict[str, Any]:
    """Return messages such as MPyC programs pickle: what they transfer, and shares in arrays."""
    drawn = random.Random(5)
    return {
        "an integer": 12345,
        "a list of 1000 integers": [drawn.randrange(2**31) for _ in range(1000)],
        "a record of texts and numbers": {"name": "party 2", "choices": ["tea", "coffee"], "weights": [0.5, 1.5]},
        "an array of 1000 shares": np.array([drawn.randrange(2**61) for _ in range(1000)], dtype=object),
        "an array of 1000 x 8 numbers": np.array([[drawn.random() for _ in range(8)] for _ in range(1000)]),
    }


def call_us(call: Callable[[], object]) -> float:
    """Return how long a call takes, in microseconds."""
    number, seconds = timeit.Timer(call).autorange()
    return seconds / number * 1e6


def reading(name: str) -> str:
    """Return what to call the reading of a message."""
    return f"unpickler: {name}"


async def take_unpickler(turn: Turn) -> None:
    """Measure what reading each message takes."""
    ours = RestrictedPickle()
    for name, message in messages().items():
        pickled_by_us, pickled = ours.dumps(message), pickle.dumps(message)
        turn.note(reading(name), microseconds=call_us(functools.partial(ours.loads, pickled_by_us)))
        turn.note(without(reading(name)), microseconds=call_us(functools.partial(pickle.loads, pickled)))


# -- the walls around the program

# Takes the place of what builds them, in a program process whose Python starts with it.
NO_WALLS_AT_START = """
from onionmpc.program.walls import guard, build as walls
walls.build_walls = lambda spec: (spec.walls, ())
guard.set_guard = lambda **_: None
"""
STARTED_AND_ENDED = "pass"
# Half a second of it: more than what one start differs from the next.
WALLED, WALLED_ARGUMENTS = "sort", ("--count=24", "--demo")


async def run_to_end(spec: ProgramSpec) -> None:
    """Start a program without a network, and wait for its end."""
    async with asyncio.timeout(LIMIT_S), start_program(spec, []) as program:
        await program.wait()


async def take_walls(turn: Turn) -> None:
    """Measure a program process inside its walls and outside."""
    sorting = spec_of(WALLED, *WALLED_ARGUMENTS, parties=PARTIES)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(NO_WALLS_AT_START)
        (Path(name) / "script.py").write_text(STARTED_AND_ENDED)
        ends_at_once = spec_of(f"{name}/script.py", parties=1)
        usual = os.environ.get("PYTHONPATH", "")
        for start, sort, path in (
            (START, SORT, usual),
            (without(START), without(SORT), os.pathsep.join(filter(None, [name, usual]))),
        ):
            with patch.dict(os.environ, PYTHONPATH=path):
                before_s = time.monotonic()
                await run_to_end(ends_at_once)
                turn.note(start, microseconds=(time.monotonic() - before_s) * 1e6)
                turn.note(sort, microseconds=(await rehearse(sorting, evenly(0.0))).seconds * 1e6)


PROTECTIONS: dict[str, Callable[[Turn], Awaitable[None]]] = {
    "handshake": take_handshakes,
    "records": take_records,
    "walls": take_walls,
    "unpickler": take_unpickler,
}
COMPARED = (BULK, SMALL, START, SORT, *map(reading, messages()))


async def take(turn: Turn) -> None:
    """Measure what is done with a protection, and without it."""
    await PROTECTIONS[turn.name](turn)


BENCHMARK = Benchmark(
    name="cost",
    question="What does each protection cost? (no Tor)",
    turns=list(PROTECTIONS),
    opened=no_setup(take),
    figures={"microseconds": ("microseconds", 1)},
    ratios=[(what, without(what)) for what in COMPARED],
    repeats=5,
)

if __name__ == "__main__":
    main(BENCHMARK)
