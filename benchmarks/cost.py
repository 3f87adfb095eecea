"""`python -m benchmarks.cost`: the price of each protection, by doing the same without it. No tor.

No option of onionmpc switches any of them off: here stand-ins do what they do and protect nothing. Knows one way to
take each protection away, and measures both ways in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
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

import msgspec
import numpy as np

from benchmarks.common import Spread, options_of, report, run, say, table
from benchmarks.links import SMALL_BYTES, LinkEnd, carried, time_bulk, time_small
from benchmarks.overhead import Case, compare, example, summarise
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import EPHEMERAL_BYTES, SecureStream
from onionmpc.program.code.catalogue import code_of, find_program
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.process.launch import start_program
from onionmpc.program.rehearsal import evenly, rehearse
from onionmpc.program.spec import ProgramSpec
from onionmpc.session.agreed_options import default_threshold
from onionmpc.wire.handshake import (
    MESSAGE_1_BYTES,
    MESSAGE_2_BYTES,
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

ONE_WAY_S = 0.05  # a fifth of what tor takes
BULK_BYTES = 16 * 2**20
SMALL_TURNS = 500
HANDSHAKES = 50
CALLS_S = 0.02
PADDING_RATE = 20
PARTIES = 3
ROUNDS = 20
# A share of 20 bytes and MPyC's header.
ROUND_BYTES = 32
LIMIT_S = 60.0
PROGRAM = Case("secret_santa", example("secret_santa"))


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
    return Pair().shake()


def copying_records() -> tuple[Records, Records]:
    """Return both ends' records without encryption."""
    return Records(Copying(), Copying()), Records(Copying(), Copying())  # type: ignore[arg-type]


# -- the handshake


class Pair:
    """A dialler and a listener, who shake hands as onionmpc.mesh does."""

    def __init__(self) -> None:
        dialler, listener = (Identity(secrets.token_bytes(SEED_BYTES)) for _ in range(2))
        hello = Hello(dialler.public_key, Purpose.MESH, bytes(16))
        ephemeral = secrets.token_bytes(EPHEMERAL_BYTES)
        self._dialler = DiallerHandshake(dialler, listener.public_key, NO_PSK, hello, ephemeral)
        self._listener = ListenerHandshake(listener, secrets.token_bytes(EPHEMERAL_BYTES))

    def ask(self) -> bytes:
        """Return message 1."""
        return self._dialler.message()

    def answer(self, message: bytes) -> tuple[bytes, Records]:
        """Take message 1; return message 2, and the listener's records."""
        self._listener.read_static(message)
        self._listener.read_hello([NO_PSK])
        return self._listener.answer(Reply(Answer.ACCEPTED, bytes(16)))

    def finish(self, message: bytes) -> Records:
        """Take message 2; return the dialler's records."""
        return self._dialler.receive(message)[1]

    def shake(self) -> tuple[Records, Records]:
        """Return the records of both."""
        message, far = self.answer(self.ask())
        return self.finish(message), far


def handshake_cpu_ms() -> float:
    """Return the processor time of one handshake at both ends together."""
    pairs = [Pair() for _ in range(HANDSHAKES)]
    before_s = time.process_time()
    for pair in pairs:
        pair.shake()
    return (time.process_time() - before_s) / HANDSHAKES * 1000


async def handshake_ms() -> float:
    """Return how long a dialler waits for the end of its handshake, when each way takes ONE_WAY_S."""
    pair = Pair()
    async with joined(ONE_WAY_S) as (near, far):

        async def listen() -> None:
            answer, _ = pair.answer(await far.reader.readexactly(MESSAGE_1_BYTES))
            far.writer.write(answer)

        before_s = time.monotonic()
        listening = asyncio.create_task(listen())
        near.writer.write(pair.ask())
        pair.finish(await near.reader.readexactly(MESSAGE_2_BYTES))
        took_s = time.monotonic() - before_s
        await listening
    return took_s * 1000


# -- links on local sockets


def delay_writes(stream: Stream, delay_s: float) -> None:
    """Let all that is written wait, as on a long way."""
    loop, write = asyncio.get_running_loop(), stream.writer.write

    def arrive(data: bytes) -> None:
        if not stream.writer.is_closing():
            write(data)

    def later(data: bytes) -> None:
        loop.call_later(delay_s, arrive, data)

    stream.writer.write = later  # type: ignore[method-assign,assignment]


@contextlib.asynccontextmanager
async def joined(delay_s: float = 0.0) -> AsyncIterator[tuple[Stream, Stream]]:
    """Two ends of a local stream, `delay_s` apart."""
    one, other = [Stream(*await asyncio.open_unix_connection(sock=end)) for end in socket.socketpair()]
    try:
        for stream in (one, other):
            if delay_s:
                delay_writes(stream, delay_s)
        yield one, other
    finally:
        for stream in (one, other):
            await stream.close()


@contextlib.asynccontextmanager
async def linked(
    records: Iterable[Records], *, delay_s: float = 0.0, rate: int = 0
) -> AsyncIterator[tuple[LinkEnd, LinkEnd]]:
    """Two ends of a link; the ticks of a rate begin at times of their own."""
    onion = Identity(bytes(SEED_BYTES)).onion
    async with joined(delay_s) as streams, contextlib.AsyncExitStack() as stack:
        ends = []
        for stream, of_end in zip(streams, records, strict=True):
            await asyncio.sleep(random.random() / rate if rate else 0)
            ends.append(LinkEnd(stream, rate))
            secure = SecureStream(stream, of_end, onion, bytes(16), 0)
            await stack.enter_async_context(carried(ends[-1], secure))
        yield ends[0], ends[1]


# -- padding


async def rounds(rate: int) -> tuple[float, float]:
    """Let parties exchange a share in each of some rounds, each with each; return ms and kB on all wires per round."""
    async with contextlib.AsyncExitStack() as stack:
        ends: dict[int, list[LinkEnd]] = {number: [] for number in range(PARTIES)}
        for low, high in itertools.combinations(range(PARTIES), 2):
            two = await stack.enter_async_context(linked(sealed_records(), delay_s=ONE_WAY_S, rate=rate))
            for number, end in zip((low, high), two, strict=True):
                ends[number].append(end)

        def written() -> int:
            return sum(end.written_bytes for peers in ends.values() for end in peers)

        async def compute(peers: list[LinkEnd], count: int) -> None:
            for _ in range(count):
                for peer in peers:
                    await peer.send(ROUND_BYTES)
                for peer in peers:
                    await peer.receive(ROUND_BYTES)

        # The first one finds all links up.
        await asyncio.gather(*(compute(peers, 1) for peers in ends.values()))
        before_s, before_bytes = time.monotonic(), written()
        await asyncio.gather(*(compute(peers, ROUNDS) for peers in ends.values()))
        took_s, sent = time.monotonic() - before_s, written() - before_bytes
    return took_s / ROUNDS * 1000, sent / ROUNDS / 1000


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
    found = find_program(WALLED)
    runs = ProgramSpec(
        *(str(found.path), str(found.folder), WALLED_ARGUMENTS, 0, PARTIES, default_threshold(PARTIES), (), {}),
        code=code_of(found),
    )
    measured: dict[tuple[str, bool], list[float]] = {}
    usual = os.environ.get("PYTHONPATH")
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(NO_WALLS_AT_START)
        (Path(name) / "script.py").write_text(STARTED_AND_ENDED)
        ends = find_program(f"{name}/script.py")
        ends_at_once = msgspec.structs.replace(
            runs, script=str(ends.path), folder=str(ends.folder), parties=1, threshold=0, code=code_of(ends)
        )
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


# -- all of it


async def local_prices(repeats: int) -> list[Price]:
    """Measure handshake, records and padding, with and without in turns."""
    measured: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        measured.setdefault(name, []).append(value)

    for _ in range(repeats):
        async with asyncio.timeout(LIMIT_S):
            note("cpu", handshake_cpu_ms())
            note("wait", await handshake_ms())
            for name, records in (("on", sealed_records), ("off", copying_records)):
                async with linked(records()) as ends:
                    note(f"bulk {name}", await time_bulk(*ends, BULK_BYTES))
                    note(f"small {name}", await time_small(*ends, SMALL_TURNS) / SMALL_TURNS * 1e6)
            for rate in (0, PADDING_RATE):
                round_ms, round_kb = await rounds(rate)
                note(f"round {rate}", round_ms)
                note(f"bytes {rate}", round_kb)
    spread = {name: Spread.of(values) for name, values in measured.items()}
    way = f"{ONE_WAY_S * 1000:.0f} ms each way"
    padded = f"padding ({PADDING_RATE} records a second)"
    bulk, small = f"{BULK_BYTES // 2**20} MiB over a link", f"{SMALL_BYTES} bytes over a link and back"
    round_of = f"a round of {PARTIES} parties, {way}"
    on = PADDING_RATE
    return [
        Price("handshake", "processor time of both ends, for each stream", "ms", spread["cpu"]),
        Price("handshake", f"until a stream is ready, {way}", "ms", spread["wait"]),
        Price("records", bulk, "s", spread["bulk on"], spread["bulk off"]),
        Price("records", small, "us", spread["small on"], spread["small off"]),
        Price(padded, round_of, "ms", spread[f"round {on}"], spread["round 0"]),
        Price(padded, "all that they write in it", "kB", spread[f"bytes {on}"], spread["bytes 0"]),
    ]


async def isolation_prices(repeats: int) -> list[Price]:
    """Measure a program in a process of its own, with links between supervisors, against MPyC that has the sockets.

    Raises:
        Failed: a run failed.
    """
    result = summarise((await compare([PROGRAM], PARTIES, repeats, LIMIT_S))[PROGRAM.name])
    return [
        Price("own process, with links and records", f"{PROGRAM.name}, {words}", "s", spans["onionmpc"], spans["plain"])
        for words, spans in (("computing", result["compute_s"]), ("processor time of all", result["cpu_s"]))
    ]


def main() -> None:
    """Measure, print and write."""
    options = options_of("cost", __doc__, repeats=5).parse_args()
    say("handshake, records and padding")
    prices = run(local_prices(options.repeats))
    say("walls")
    prices += walls_prices(options.repeats)
    say("unpickler")
    prices += unpickler_prices(options.repeats)
    prices += run(isolation_prices(options.repeats))
    shown = table(["protection", "what", "with", "without", "ratio"], [price.row() for price in prices])
    data = {"prices": [price.data() for price in prices]}
    report("cost", "The price of each protection", [shown], data, options.output)


if __name__ == "__main__":
    main()
