"""The listener's side of every stream: strangers in, authenticated peers out.

It limits what a stranger can cost. Its gatekeeper, which changes during a session, decides who may come in.
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

# What counts as a version of our protocol. Text and TLS begin with a higher byte.
VERSIONS = range(1, 16)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DoorLimits:
    """What strangers may cost.

    Attributes:
        handshake_s: how long a handshake may take: three of the slowest round trips through tor that we know of.
        at_once: how many may be served. There is no queue, which 32 silent strangers could block. Every stranger is
            served at once, and when there are too many, the oldest is cut. So strangers keep a party out only if this
            many come during one handshake. Each costs a descriptor and up to 80 kB.
        linger_bytes: how much we still read, and ignore, from a stranger that is refused: more than any message 1. If
            we close a socket that holds unread bytes, the kernel resets it, and our refusal may be lost.
        linger_s: for how long we do so: about a round trip through tor.
    """

    handshake_s: float = 30.0
    at_once: int = 128
    linger_bytes: int = 2**16
    linger_s: float = 2.0


DEFAULT_DOOR_LIMITS = DoorLimits()


def ignore_version(_version: int) -> None:
    """Ignore the version: the default for `on_version`."""


class Gatekeeper(Protocol):
    """Decides who may come in. It must not change any state before `welcome`, since message 1 can be replayed."""

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """Return the psks to try on a dialler that claims this X25519 key."""

    def judge(self, hello: Hello, psk: bytes) -> Answer:
        """Return the answer to an authenticated dialler."""

    def offsets_for(self, hello: Hello) -> tuple[int, int]:
        """Return how much of each channel of an accepted dialler's link has arrived."""

    async def welcome(self, visitor: SecureStream, hello: Hello, psk: bytes) -> None:
        """Take a stream whose dialler has shown the final keys, and was accepted or will be dialled back.

        Returns when the stream is no longer needed.
        """


class SpentPsks(Protocol):
    """Knows the psks that admit only the party that used them first, and notes when another one tries them."""

    def spent_psks(self) -> Sequence[bytes]:
        """Return the psks that are, or may be, used up."""

    def note_spent(self, psk: bytes, hello: Hello) -> None:
        """Note that someone tried one of them. Message 1 may be a replay."""


class Door:
    """Serves the streams of one onion service.

    Attributes:
        gatekeeper: decides who may come in now; None before anyone may.
        spent: is notified of diallers that are refused because their psk is used up. They get the same refusal as
            everyone else.

    Args:
        identity: ours.
        nonce: our contribution to the session id, 16 bytes.
        on_version: called with the version that a stranger seems to speak, if it is not ours. It is one byte, which
            anyone can send.
    """

    def __init__(
        self,
        identity: Identity,
        nonce: bytes,
        on_version: Callable[[int], None] = ignore_version,
        *,
        limits: DoorLimits = DEFAULT_DOOR_LIMITS,
    ) -> None:
        self._identity = identity
        self._nonce = nonce
        self._on_version = on_version
        self._limits = limits
        # In the order in which they are cut if there are too many: refused ones first, then the oldest.
        self._strangers: collections.OrderedDict[Stream, None] = collections.OrderedDict()
        self.gatekeeper: Gatekeeper | None = None
        self.spent: SpentPsks | None = None

    async def serve(self, stream: Stream) -> None:
        """Serve one stream to its end. Never raises because of what a stranger does."""
        try:
            async with self._as_stranger(stream):
                try:
                    async with asyncio.timeout(self._limits.handshake_s):
                        arrival = await self._authenticate(stream)
                except (OSError, asyncio.IncompleteReadError, RemoteProtocolError):
                    await self._linger(stream)
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
        """Count a stream as a stranger's, and cut another one if there are too many."""
        if len(self._strangers) >= self._limits.at_once:
            longest = next(iter(self._strangers))
            del self._strangers[longest]
            # Without a refusal: this may be a party on a slow circuit, and it should dial again.
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
            # Every error, a timeout included, gets the same reply (PROTOCOL 2), so that strangers learn nothing from
            # it.
            stream.writer.write(REFUSAL)
            raise
        answer = gatekeeper.judge(hello, psk)
        offsets = gatekeeper.offsets_for(hello) if answer is Answer.ACCEPTED else (0, 0)
        reply, records = handshake.answer(Reply(answer, self._nonce, offsets))
        stream.writer.write(reply)
        await stream.writer.drain()
        if answer not in (Answer.ACCEPTED, Answer.DIAL_BACK):
            await self._linger(stream)
            return None
        peer = onion_from_public_key(hello.public_key)
        visitor = SecureStream(stream, records, peer, hello.nonce, handshake.stream)
        # Message 1 may be a replay. Only a record under the final keys shows that the dialler is there now.
        return (visitor, hello, psk, gatekeeper) if await visitor.wait_for_first() else None

    async def _linger(self, stream: Stream) -> None:
        """Let the refusal reach a stranger. If there are too many strangers, this stream is cut first."""
        if stream in self._strangers:
            self._strangers.move_to_end(stream, last=False)
        left = self._limits.linger_bytes
        with contextlib.suppress(OSError):  # the stranger is gone, or time is up
            async with asyncio.timeout(self._limits.linger_s):
                stream.writer.write_eof()
                while left > 0 and (heard := await stream.reader.read(left)):
                    left -= len(heard)
        await stream.close()
        # If the stranger hung up first, `wait_closed` raises that. Nobody else retrieves it, so asyncio would log it.
        with contextlib.suppress(OSError):
            async with asyncio.timeout(self._limits.linger_s):
                await stream.writer.wait_closed()

    async def _recognise(self, stream: Stream) -> tuple[ListenerHandshake, Hello, bytes, Gatekeeper]:
        # One byte first: another version's message may be shorter than ours, and we would wait in vain (PROTOCOL 2).
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
