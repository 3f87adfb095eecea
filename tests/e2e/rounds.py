"""A long chain of secure computations whose result anyone can check: an MPyC script for `onionmpc`.

    onionmpc host rounds.py --public SEED --public ROUNDS -- [FILE]
    python rounds.py SEED ROUNDS

Multiplies, opens and inputs values that follow from SEED, single ones and arrays, for at least ROUNDS rounds of
communication, and until FILE is there if one is named. Prints a digest of all opened values with the number of rounds:
alone, without any network, it prints the same. Then a line of JSON: how many bytes, and which, it wrote to each peer
and read from it.
"""

# ruff: noqa: T201

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mpyc.asyncoro
from mpyc.runtime import mpc

PRIME = 2**61 - 1
STEPS_PER_BLOCK = 5
# Elements of an array: 8 bytes each, so that the largest fills a twentieth of a link's window (PROTOCOL 3).
SIZES = (10, 100, 1_000, 25_000)


class Tally:
    """The bytes that went one way over one link."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256()

    def add(self, data: bytes | bytearray) -> None:
        self.count += len(data)
        self._hash.update(data)

    def told(self) -> dict[str, int | str]:
        return {"bytes": self.count, "sha256": self._hash.hexdigest()}


class TalliedTransport:
    """MPyC's transport to one peer, which records what is written to it."""

    def __init__(self, transport: Any, written: Tally) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self._written.add(data)
        self._transport.write(data)

    def writelines(self, chunks: Iterable[bytes]) -> None:
        self.write(b"".join(chunks))

    def close(self) -> None:
        self._transport.close()


class Exchanger(mpyc.asyncoro.MessageExchanger):
    """MPyC's end of one link, which records what passes."""

    made: list[Exchanger] = []  # noqa: RUF012 (all of this process)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.written, self.read = Tally(), Tally()
        self.made.append(self)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(TalliedTransport(transport, self.written))

    def data_received(self, data: bytes) -> None:
        self.read.add(data)
        super().data_received(data)


mpyc.asyncoro.MessageExchanger = Exchanger


class Chain:
    """The computation: what it opened so far, and in how many rounds."""

    def __init__(self, seed: int) -> None:
        self.rounds = 0
        self._random = random.Random(seed)
        self._field = mpc.SecFld(modulus=PRIME)
        self._opened = hashlib.sha256()

    def digest(self) -> str:
        return self._opened.hexdigest()

    async def block(self) -> None:
        """Multiply a value on and on, opening it at each step; then once an array."""
        sender = self._random.randrange(2**16) % len(mpc.parties)
        x = self._input(self._draw(), sender)
        for _ in range(STEPS_PER_BLOCK):
            x = x * x + self._draw()
            self.rounds += 1
            await self._open(x)
        size = self._random.choice(SIZES)
        values = self._field.field.array([self._draw() for _ in range(size)])
        array = self._input(self._field.array(values), sender)
        self.rounds += 1
        await self._open(array * array)

    async def agree_to_end(self, wish: bool) -> bool:
        """Tell whether any party wishes to end."""
        self.rounds += 1
        return any(await mpc.transfer(wish))

    def _draw(self) -> int:
        return self._random.randrange(PRIME)

    def _input(self, value: Any, sender: int) -> Any:
        """Share a value that all know, as if the sender alone did."""
        self.rounds += 1
        return mpc.input(self._field(value) if isinstance(value, int) else value, senders=sender)

    async def _open(self, value: Any) -> None:
        self.rounds += 1
        opened = await mpc.output(value)
        numbers = [int(opened)] if opened.__class__ is self._field.field else [int(one) for one in opened]
        self._opened.update(json.dumps(numbers).encode())


def may_end(until: Iterable[str]) -> bool:
    return all(Path(name).exists() for name in until)


async def main() -> None:
    seed, rounds, *until = sys.argv[1:]
    chain = Chain(int(seed))
    async with mpc:
        print("running", flush=True)
        ended = False
        while not ended:
            await chain.block()
            ended = await chain.agree_to_end(chain.rounds >= int(rounds) - 1 and may_end(until))
    print(f"opened {chain.digest()} in {chain.rounds} rounds")
    links = {end.peer_pid: {"written": end.written.told(), "read": end.read.told()} for end in Exchanger.made}
    print(json.dumps(links))


mpc.run(main())
