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
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Spread, options_of, report, run, say, table
from benchmarks.links import SMALL_BYTES, LinkEnd, carried, time_bulk, time_small
from benchmarks.sessions import direct_spec
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

BULK_BYTES = 16 * 2**20
SMALL_TURNS = 500
HANDSHAKES = 50
CALLS_S = 0.02
PARTIES = 3
LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Price:
    """What something took with a protection, and without.

    Attributes:
        without: None where there is nothing to compare with: all of it is the price.
    """

    protection: str
    what: str
    unit: str
    with_it: Spread
    without: Spread | None = None

    @property
    def ratio(self) -> float | None:
        """With over without."""
        return self.with_it.median / self.without.median if self.without else None

    def row(self) -> list[str]:
        """Show it."""
        without = "" if self.without is None else self.without.show(2)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return [self.protection, f"{self.what}, {self.unit}", self.with_it.show(2), without, ratio]

    def data(self) -> dict[str, Any]:
        """Return it for JSON."""
        ratio = None if self.ratio is None else round(self.ratio, 3)
        words = {"protection": self.protection, "what": self.what, "unit": self.unit}
        return words | {"with": self.with_it, "without": self.without, "ratio": ratio}


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


def handshake_cpu_ms() -> float:
    """Return the processor time of one handshake at both ends together."""
    pairs = [new_pair() for _ in range(HANDSHAKES)]
    before_s = time.process_time()
    for pair in pairs:
        shake_hands(pair)
    return (time.process_time() - before_s) / HANDSHAKES * 1000


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


async def records_prices(repeats: int) -> list[Price]:
    """Measure a link with records that seal, and with records that copy, in turns."""
    bulk_s: dict[str, list[float]] = {"sealed": [], "copied": []}
    small_us: dict[str, list[float]] = {"sealed": [], "copied": []}
    for _ in range(repeats):
        for name, records in (("sealed", sealed_records), ("copied", copying_records)):
            async with asyncio.timeout(LIMIT_S), linked(records()) as ends:
                bulk_s[name].append(await time_bulk(*ends, BULK_BYTES))
                small_us[name].append(await time_small(*ends, SMALL_TURNS) / SMALL_TURNS * 1e6)
    return [
        Price("records", f"{BULK_BYTES // 2**20} MiB over a link", "s", *map(Spread.of, bulk_s.values())),
        Price("records", f"{SMALL_BYTES} bytes over a link and back", "us", *map(Spread.of, small_us.values())),
    ]


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


def call_us(call: Callable[[], object], repeats: int) -> Spread:
    """Return how long a call takes."""
    timer = timeit.Timer(call)
    number = 1
    while timer.timeit(number) < CALLS_S:
        number *= 2
    return Spread.of(seconds / number * 1e6 for seconds in timer.repeat(repeats, number))


def unpickler_prices(repeats: int) -> list[Price]:
    """Measure what reading a message takes, and writing it."""
    ours = RestrictedPickle()
    prices = []
    for name, message in messages().items():
        reading = [
            call_us(functools.partial(loads, dumps(message)), repeats)
            for loads, dumps in ((ours.loads, ours.dumps), (pickle.loads, pickle.dumps))
        ]
        writing = [call_us(functools.partial(dumps, message), repeats) for dumps in (ours.dumps, pickle.dumps)]
        prices += [
            Price("unpickler", f"reading {name}", "us", *reading),
            Price("unpickler", f"writing {name}", "us", *writing),
        ]
    return prices


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


async def started_ms(spec: ProgramSpec) -> float:
    """Return how long it takes from starting a program to its end."""
    before_s = time.monotonic()
    async with asyncio.timeout(LIMIT_S), start_program(spec, []) as program:
        await program.wait()
    return (time.monotonic() - before_s) * 1000


def walls_prices(repeats: int) -> list[Price]:
    """Measure a program process inside its walls and outside, in turns."""
    runs = direct_spec(WALLED, WALLED_ARGUMENTS, PARTIES)
    measured: dict[tuple[str, bool], list[float]] = {}
    usual = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(NO_WALLS_AT_START)
        (Path(name) / "script.py").write_text(STARTED_AND_ENDED)
        ends_at_once = direct_spec(f"{name}/script.py", (), 1)
        for _ in range(repeats):
            for walled in (True, False):
                os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, ["" if walled else name, usual]))
                measured.setdefault(("start", walled), []).append(asyncio.run(started_ms(ends_at_once)))
                ran = asyncio.run(rehearse(runs, evenly(0.0)))
                measured.setdefault(("run", walled), []).append(ran.seconds * 1000)
    if usual is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = usual
    spread = {key: Spread.of(values) for key, values in measured.items()}
    what = {"start": "a program that ends at once, from its start", "run": f"{WALLED}, computing"}
    return [Price("walls", words, "ms", spread[key, True], spread[key, False]) for key, words in what.items()]


def main() -> None:
    """Measure, print and write."""
    options = options_of("cost", __doc__, repeats=5).parse_args()
    say("handshake and records")
    handshakes_ms = Spread.of(handshake_cpu_ms() for _ in range(options.repeats))
    prices = [Price("handshake", "processor time of both ends, for each stream", "ms", handshakes_ms)]
    prices += run(records_prices(options.repeats))
    say("walls")
    prices += walls_prices(options.repeats)
    say("unpickler")
    prices += unpickler_prices(options.repeats)
    shown = table(["protection", "what", "with", "without", "ratio"], [price.row() for price in prices])
    data = {"prices": [price.data() for price in prices]}
    report("cost", "The price of each protection", [shown], data, options.output)


if __name__ == "__main__":
    main()
