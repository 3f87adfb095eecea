"""Parties of a mesh in one process, on local sockets that can be cut, and handshakes without a link behind them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from onionmpc.errors import (
    OnionMPCError,
    PeerUnreachable,
)
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion
from onionmpc.levels import Level
from onionmpc.mesh.door import DEFAULT_DOOR_LIMITS, Door, DoorLimits
from onionmpc.mesh.mesh import Mesh, MeshLink
from onionmpc.mesh.network import Stream
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.mesh.timings import MeshTimings
from onionmpc.wire.frames import Frame, decode_frames, encode_frame
from onionmpc.wire.handshake import (
    DiallerHandshake,
    Hello,
    Purpose,
    Reply,
    link_id,
)
from onionmpc.wire.limits import LinkLimits
from onionmpc.wire.link import (
    ControlBytes,
    Event,
    ProgramBytes,
    ProgramEnd,
)
from tests.support.direct import DirectNetwork

# Redials almost without delay, and leaves the first dial to the other party only for a moment.
QUICK = MeshTimings(retry_first_s=0.01, retry_last_s=0.05, grace_s=0.2)
# The same, and finds a stream suspicious after a moment.
ALERT = replace(QUICK, link=LinkLimits(ping_after_s=0.05, suspect_after_s=0.15, silence_limit_s=0.5))
# Far more than any test needs: a test that hangs must fail, and not stop the others.
DEADLINE_S = 30.0
PSK = bytes([5]) * 32
# Sorted as a roster is: IDENTITIES[0] has the lowest address.
IDENTITIES = sorted((Identity(bytes([number]) * 32) for number in range(1, 5)), key=lambda identity: identity.onion)
STRANGER = Identity(bytes([9]) * 32)
# What the two parties of a small mesh send in their handshakes.
LINK = link_id(bytes([0]) * 16, bytes([1]) * 16)
RESUME: dict[str, Any] = {"purpose": Purpose.RESUME, "nonce": bytes([0]) * 16, "link": LINK}

Test = Callable[..., Awaitable[None]]


def in_a_loop(test: Test) -> Callable[..., None]:
    """Run a test in its own event loop. Nothing may outlive it, and no task may fail unnoticed."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        async def bounded() -> None:
            unseen: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda loop, what: unseen.append(what))
            async with asyncio.timeout(DEADLINE_S):
                await test(**fixtures)
            assert unseen == []
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(bounded())

    return run


@pytest.fixture(name="directory")
def private_directory() -> Iterator[Path]:
    with socket_directory() as path:
        yield path


class Watcher:
    """An Observer that records what is reported, and takes data as it arrives while `taking`."""

    def __init__(self) -> None:
        self.up: dict[int, LinkRunner] = {}
        self.nonces: dict[int, bytes] = {}
        self.streams: dict[int, list[SecureStream]] = defaultdict(list)
        self.dialled: dict[int, list[bool]] = defaultdict(list)
        self.news: list[tuple[str, int]] = []
        self.races: list[tuple[int, int]] = []
        self.downs: list[tuple[int, OnionMPCError]] = []
        self.failures: list[DialFailed] = []
        self.events: list[tuple[int, Event]] = []
        self.control: dict[int, bytearray] = defaultdict(bytearray)
        self.data: dict[int, bytearray] = defaultdict(bytearray)
        self.taking = True
        self.changed = asyncio.Event()

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        self.failures.append(failure)
        self.changed.set()

    def link_up(self, party: int, link: MeshLink, nonce: bytes) -> None:
        assert party not in self.up
        self.up[party] = link.runner
        self.nonces[party] = nonce
        self.changed.set()

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        self.streams[party].append(secure)
        self.dialled[party].append(dialled)
        self.changed.set()

    def stream_down(self, party: int, secure: SecureStream) -> None:
        pass

    def link_broken(self, party: int, reason: str) -> None:
        assert "stream" in reason
        self._told("broken", party)

    def link_quiet(self, party: int, seconds: float) -> None:
        assert seconds > 0
        self._told("quiet", party)

    def link_resumed(self, party: int, seconds: float) -> None:
        assert seconds >= 0
        self._told("resumed", party)

    def link_raced(self, party: int, streams: int) -> None:
        self.races.append((party, streams))
        self.changed.set()

    def _told(self, what: str, party: int) -> None:
        self.news.append((what, party))
        self.changed.set()

    def link_event(self, party: int, event: Event) -> None:
        match event:
            case ControlBytes(payload):
                self.control[party] += payload
            case ProgramBytes(payload):
                self.data[party] += payload
                if self.taking:
                    self.up[party].consume(len(payload))
            case ProgramEnd():
                self.events.append((party, event))
                self.up[party].consume(1)
            case _:
                self.events.append((party, event))
        self.changed.set()

    def link_down(self, party: int, error: OnionMPCError) -> None:
        self.downs.append((party, error))
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def until_down(self, party: int, kind: type[OnionMPCError]) -> str:
        """Wait for the link's end, and return what was reported about it, once."""
        await self.until(lambda: self.downs)
        ((number, error),) = self.downs
        assert number == party
        assert type(error) is kind
        return error.message


class Network(DirectNetwork):
    """Local sockets that may fail for a while, and whose streams may be slow.

    Attributes:
        delays_s: how long a round trip over each stream takes that is dialled, the first one first; the last is for
            all further ones too, and none is no time.
    """

    def __init__(self, directory: Path, onion: Onion, level: Level = Level.STANDARD) -> None:
        super().__init__(directory, onion, level)
        self.out = False
        self.back = asyncio.Event()
        self.delays_s: list[float] = []
        self.dials = 0
        self._lines: set[asyncio.Task[None]] = set()
        self._ends: list[Stream] = []

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        for stream in self._ends:
            await stream.close()
        await super().__aexit__(kind, error, traceback)

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        if self.out:
            raise PeerUnreachable("the network is out")
        number = min(self.dials, len(self.delays_s) - 1)
        self.dials += 1
        stream = await super().dial(onion, timeout_s)
        if number < 0:
            return stream
        near, far = socket.socketpair()
        behind, before = Stream(*await asyncio.open_unix_connection(sock=far)), asyncio.open_unix_connection(sock=near)
        self._ends += behind, stream
        self._lines |= {
            asyncio.create_task(_hand_on(behind, stream, lambda: 0.0)),
            asyncio.create_task(_hand_on(stream, behind, lambda: self.delays_s[number])),
        }
        return Stream(*await before)

    async def restored(self) -> None:
        await self.back.wait()
        self.back.clear()


async def _hand_on(source: Stream, sink: Stream, delay_s: Callable[[], float]) -> None:
    """Pass on what arrives, with a delay: every round trip contains it, whichever side measures."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while chunk := await source.reader.read(2**16):
            loop.call_later(delay_s(), sink.writer.write, chunk)
    loop.call_later(delay_s(), sink.writer.transport.abort)


class Party:
    """One party, which accepts streams and dials during the block."""

    def __init__(
        self,
        directory: Path,
        number: int,
        count: int,
        *,
        psk: bytes = PSK,
        timeout_s: float = 60,
        patience_s: float = 60,
        nonce: bytes | None = None,
        level: Level = Level.STANDARD,
        padding_rate: int = 0,
        timings: MeshTimings = QUICK,
        limits: DoorLimits = DEFAULT_DOOR_LIMITS,
    ) -> None:
        self.number = number
        self.identity = IDENTITIES[number]
        self.watcher = Watcher()
        self.network = Network(directory, self.identity.onion, level)
        nonce = nonce or bytes([number]) * 16
        self.door = Door(self.identity, nonce, limits=limits)
        roster = [identity.onion for identity in IDENTITIES[:count]]
        self.mesh = Mesh(
            self.network, self.identity, roster, psk, nonce, self.watcher, patience_s, padding_rate, timings
        )
        self.door.gatekeeper = self.mesh
        self.arrived: list[Stream] = []
        self.served: list[Stream] = []
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        await self.network.listen(self._serve)
        self._running = self.mesh.running(self._timeout_s)
        await self._running.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._running.__aexit__(kind, error, traceback)
        finally:
            await self.network.__aexit__(kind, error, traceback)

    async def _serve(self, stream: Stream) -> None:
        self.arrived.append(stream)
        self.watcher.changed.set()
        await self.door.serve(stream)
        self.served.append(stream)
        self.watcher.changed.set()

    async def until_up(self, peer: int) -> LinkRunner:
        await self.watcher.until(lambda: peer in self.watcher.up)
        return self.watcher.up[peer]

    async def until_over(self, peer: int) -> None:
        with contextlib.suppress(OnionMPCError):
            await self.watcher.up[peer].run()

    async def cut(self, peer: int, which: Sequence[int] | None = None) -> None:
        """Cut all open streams of a link, or those at some positions, counted from the latest."""
        streams = [secure for secure in self.watcher.streams[peer] if not secure.stream.writer.transport.is_closing()]
        for number, secure in enumerate(reversed(streams)):
            if which is None or number in which:
                await secure.close()


@contextlib.asynccontextmanager
async def meshed(directory: Path, count: int, **settings: Any) -> AsyncIterator[list[Party]]:
    """Parties with all their links up."""
    async with contextlib.AsyncExitStack() as stack:
        parties = [
            await stack.enter_async_context(Party(directory, number, count, **settings)) for number in range(count)
        ]
        for party in parties:
            await party.watcher.until(lambda party=party: len(party.watcher.up) == count - 1)
        yield parties


def widen(parties: Iterable[Party], circuits: int) -> None:
    """Race all links of these parties."""
    for party in parties:
        for peer in party.watcher.up:
            party.mesh._links[peer].race.widen(circuits)


def stall(party: Party, peer: int) -> None:
    """Let a party's streams deliver nothing any more: they accept bytes, and keep them."""
    for secure in party.watcher.streams[peer]:
        transport: Any = secure.stream.writer.transport
        if not transport.is_closing():
            transport.pause_reading()


def resume(party: Party, peer: int) -> None:
    """Let streams that were stalled deliver again."""
    for secure in party.watcher.streams[peer]:
        transport: Any = secure.stream.writer.transport
        if not transport.is_closing():
            transport.resume_reading()


async def until_resumed(*parties: Party, times: int = 1) -> None:
    for party in parties:
        await party.watcher.until(lambda party=party: sum(what == "resumed" for what, _ in party.watcher.news) >= times)


async def still_flows(low: Party, high: Party) -> None:
    """Check that a message from each side arrives."""
    for sender, receiver in ((low, high), (high, low)):
        word = random.randbytes(8)
        sender.watcher.up[receiver.number].send_control(word)
        control = receiver.watcher.control[sender.number]
        await receiver.watcher.until(lambda control=control, word=word: control.endswith(word))
    assert low.watcher.downs == high.watcher.downs == []


def raw_dial(directory: Path, onion: Onion) -> Awaitable[Stream]:
    return DirectNetwork(directory, STRANGER.onion).dial(onion, DEADLINE_S)


def hello_of(
    identity: Identity,
    purpose: Purpose = Purpose.MESH,
    nonce: bytes = bytes(16),
    public_key: bytes | None = None,
    **more: Any,
) -> Hello:
    return Hello(public_key or identity.public_key, purpose, nonce, **more)


def handshake_with(
    listener: Identity, identity: Identity = IDENTITIES[0], psk: bytes = PSK, **changes: Any
) -> DiallerHandshake:
    hello = hello_of(identity, **changes)
    return DiallerHandshake(identity, listener.public_key, psk, hello, ephemeral=random.randbytes(32))


async def knock(directory: Path, listener: Identity, number: int = 0, **changes: Any) -> tuple[Reply, SecureStream]:
    """Complete a handshake as party `number`, without a link behind it."""
    identity = IDENTITIES[number]
    hello = hello_of(identity, **changes)
    network = DirectNetwork(directory, identity.onion)
    return await dial(network, identity, listener.onion, PSK, hello, timeout_s=DEADLINE_S)


async def say(secure: SecureStream, *frames: Frame) -> None:
    secure.send([b"".join(map(encode_frame, frames))])


async def hear_all(secure: SecureStream) -> list[Frame]:
    heard: list[Frame] = []
    await secure.begin(lambda plaintext: heard.extend(decode_frames(plaintext)))
    await secure.ended()
    return heard
