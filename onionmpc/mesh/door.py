"""The listener's side of every stream: strangers in, authenticated peers out.

It limits what a stranger can cost. Its gatekeeper, which changes as the session goes on, decides who may come in.
Rules: docs/PROTOCOL.md section 2.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from onionmpc.errors import AuthenticationFailed, RemoteProtocolError
from onionmpc.identity import Identity, onion_from_public_key
from onionmpc.mesh.network import Stream
from onionmpc.mesh.secure import EPHEMERAL_BYTES, SecureStream
from onionmpc.wire.handshake import (
    MESSAGE_1_BYTES,
    REFUSAL,
    VERSION,
    Answer,
    Hello,
    ListenerHandshake,
    Reply,
)

# Text and TLS begin with a higher byte.
VERSIONS = range(1, 16)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What strangers may cost.

    Attributes:
        handshake_s: how long a handshake may take. Three of the slowest round trips that we know of through tor.
        at_once: how many may be served. Nobody waits: each visitor is read at once, and the one that has been here
            longest goes when there are too many. So strangers do not keep a party out, unless so many come during one
            handshake. Each costs a descriptor and up to 80 kB.
        parting_bytes: a socket that is closed with bytes unread is reset, which may take along what was said last. So a
            stranger that is turned away is read and ignored up to these two limits: more than any message 1,
        parting_s: and a round trip through tor.
    """

    handshake_s: float = 30.0
    at_once: int = 128
    parting_bytes: int = 2**16
    parting_s: float = 2.0


DEFAULT_DOOR_LIMITS = DoorLimits()


def unheard(_version: int) -> None:
    """Ignore the version: the default for `on_version`."""


class Gatekeeper(Protocol):
    """Decides who may come in. Nothing may change before `welcome`, since message 1 can be replayed."""

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """Return the psks to try on a dialler that holds (not yet proved) this X25519 key."""

    def judge(self, hello: Hello, psk: bytes) -> Answer:
        """Return the answer to an authenticated dialler."""

    def offsets_for(self, hello: Hello) -> tuple[int, int]:
        """Return how much of each channel of an accepted dialler's link has arrived."""

    async def welcome(self, visitor: SecureStream, hello: Hello, psk: bytes) -> None:
        """Take a stream whose dialler has proved the final keys, and was accepted or is to be dialled back.

        Returns when done with it.
        """


class SpentPsks(Protocol):
    """Knows psks that let in those alone who used them first, and hears of everybody else who tries one."""

    def spent_psks(self) -> Sequence[bytes]:
        """Return the psks that are, or may be, spent."""

    def note_spent(self, psk: bytes, hello: Hello) -> None:
        """Take note that somebody tried one; message 1 may be a replay."""


class Door:
    """Serves the streams of one onion service.

    Attributes:
        gatekeeper: says who may come in now; None before anyone may.
        spent: hears of those who are refused since their psk is spent. They get the same refusal as everybody.

    Args:
        identity: ours.
        nonce: our contribution to the session id, 16 bytes.
        on_version: called with another version of the protocol when somebody speaks that. Anybody can say one byte.
    """

    def __init__(
        self,
        identity: Identity,
        nonce: bytes,
        on_version: Callable[[int], None] = unheard,
        *,
        limits: DoorLimits = DEFAULT_DOOR_LIMITS,
    ) -> None:
        self._identity = identity
        self._nonce = nonce
        self._on_version = on_version
        self._limits = limits
        # In the order in which they go if there are too many: those that were turned away, then as they came.
        self._strangers: collections.OrderedDict[Stream, None] = collections.OrderedDict()
        self.gatekeeper: Gatekeeper | None = None
        self.spent: SpentPsks | None = None

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end; never raises for what a stranger did."""
        try:
            async with self._as_stranger(stream):
                try:
                    async with asyncio.timeout(self._limits.handshake_s):
                        arrival = await self._authenticate(stream)
                except (OSError, asyncio.IncompleteReadError, RemoteProtocolError):
                    await self._part(stream)
                    raise
        except (OSError, asyncio.IncompleteReadError):
            log.debug("a stranger's stream ended before its handshake did")
        except RemoteProtocolError as error:
            log.info("a stranger was turned away: %s", error)
        else:
            if arrival is not None:
                visitor, hello, psk, gatekeeper = arrival
                await gatekeeper.welcome(visitor, hello, psk)
        finally:
            await stream.close()

    @contextlib.asynccontextmanager
    async def _as_stranger(self, stream: Stream) -> AsyncIterator[None]:
        """Count a stream among the strangers, and cut another if there are too many."""
        if len(self._strangers) >= self._limits.at_once:
            longest = next(iter(self._strangers))
            del self._strangers[longest]
            # Not even a refusal: should it be a party after all, that is to dial again.
            await longest.close()
        self._strangers[stream] = None
        try:
            yield
        finally:
            self._strangers.pop(stream, None)

    async def _authenticate(self, stream: Stream) -> tuple[SecureStream, Hello, bytes, Gatekeeper] | None:
        try:
            handshake, hello, psk, gatekeeper = await self._recognise(stream)
        except BaseException:
            # Whatever is wrong, and if it is that nothing came in time, gets one reply (PROTOCOL 2).
            stream.writer.write(REFUSAL)
            raise
        answer = gatekeeper.judge(hello, psk)
        offsets = gatekeeper.offsets_for(hello) if answer is Answer.ACCEPTED else (0, 0)
        reply, records = handshake.answer(Reply(answer, self._nonce, offsets))
        stream.writer.write(reply)
        await stream.writer.drain()
        if answer not in (Answer.ACCEPTED, Answer.DIAL_BACK):
            await self._part(stream)
            return None
        peer = onion_from_public_key(hello.public_key)
        visitor = SecureStream(stream, records, peer, hello.nonce, handshake.stream)
        # Message 1 may be a replay; only a record under the final keys shows that the dialler is here now.
        return (visitor, hello, psk, gatekeeper) if await visitor.wait_for_first() else None

    async def _part(self, stream: Stream) -> None:
        """Let the refusal reach a stranger. Such a stream is the first to go if there are too many."""
        if stream in self._strangers:
            self._strangers.move_to_end(stream, last=False)
        left = self._limits.parting_bytes
        with contextlib.suppress(OSError):  # it is gone, or time is over
            async with asyncio.timeout(self._limits.parting_s):
                stream.writer.write_eof()
                while left > 0 and (heard := await stream.reader.read(left)):
                    left -= len(heard)
        await stream.close()
        # That it left before it was answered is an error, which nobody else asks for.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._limits.parting_s):
                await stream.writer.wait_closed()

    async def _recognise(self, stream: Stream) -> tuple[ListenerHandshake, Hello, bytes, Gatekeeper]:
        # At once, since the rest of another version's message may be shorter (PROTOCOL 2).
        version = await stream.reader.readexactly(1)
        if version[0] != VERSION:
            if version[0] in VERSIONS:
                self._on_version(version[0])
            raise AuthenticationFailed("a stranger speaks another version of the protocol, or another protocol")
        message = version + await stream.reader.readexactly(MESSAGE_1_BYTES - 1)
        handshake = ListenerHandshake(self._identity, secrets.token_bytes(EPHEMERAL_BYTES))
        static_key = handshake.read_static(message)
        gatekeeper = self.gatekeeper
        if gatekeeper is None:
            raise AuthenticationFailed("someone dialled before anyone was expected")
        psks = gatekeeper.psks_for(static_key)
        spent = self.spent.spent_psks() if self.spent is not None else ()
        index, hello = handshake.read_hello([*psks, *spent])
        if self.spent is not None and index >= len(psks):
            self.spent.note_spent(spent[index - len(psks)], hello)
            raise AuthenticationFailed("a stranger's first message uses an invite that is already used")
        return handshake, hello, psks[index], gatekeeper
