"""A stream after its handshake: records in and out, with a peer whose key is proved.

Knows streams, handshakes and deadlines. Does not know links or rosters.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Iterable

from onionmpc.errors import PeerUnreachable, RemoteProtocolError
from onionmpc.identity import Identity, Onion, public_key_from_onion
from onionmpc.mesh.network import Network, Stream
from onionmpc.wire.handshake import MESSAGE_2_BYTES, DiallerHandshake, Hello, Reply
from onionmpc.wire.records import Records

READ_BYTES = 2**16
EPHEMERAL_BYTES = 32
# What a socket holds can go over no other stream any more, and what is urgent waits behind it.
HELD_BYTES = 2**15


class SecureStream:
    """Records over one stream.

    Attributes:
        stream: what carries them; the network can tell its circuit.
        peer: the address whose key the other side proved.
        nonce: the peer's contribution to the session id, 16 bytes.
        number: the stream's, by which both ends call it.
        dialled_in_s: seconds from our dial to the end of the handshake; 0 if it was the peer who dialled.
    """

    def __init__(
        self, stream: Stream, records: Records, peer: Onion, nonce: bytes, number: int, *, dialled_in_s: float = 0.0
    ) -> None:
        self.stream = stream
        self.peer = peer
        self.nonce = nonce
        self.number = number
        self.dialled_in_s = dialled_in_s
        stream.writer.transport.set_write_buffer_limits(high=HELD_BYTES)
        stream.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        self._records = records
        self._early: list[bytes] = []

    async def wait_for_first(self) -> bool:
        """Wait for the first record under the final keys, keep it for `receive`, and return whether one came."""
        while not self._early:
            received = await self.stream.reader.read(READ_BYTES)
            if not received:
                return False
            self._early += self._records.decode(received)
        return True

    async def receive(self) -> AsyncIterator[bytes]:
        """Yield the plaintext of each record until the stream ends.

        Raises:
            OSError: the stream broke. So does one whose record does not open: whoever altered it on the way, it was
                not the peer.
        """
        while self._early:
            yield self._early.pop(0)
        while received := await self.stream.reader.read(READ_BYTES):
            try:
                for plaintext in self._records.decode(received):
                    yield plaintext
            except RemoteProtocolError as error:
                raise ConnectionAbortedError(None, error.message) from error

    async def send(self, plaintexts: Iterable[bytes]) -> None:
        """Send records, all in one write.

        Raises:
            OSError: the stream broke.
        """
        self.stream.writer.write(b"".join(map(self._records.encode, plaintexts)))
        await self.stream.writer.drain()

    async def flush(self, timeout_s: float) -> None:
        """Wait until all that was sent has left this process, for at most `timeout_s` seconds; never raises."""
        self.stream.writer.transport.set_write_buffer_limits(0)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.stream.writer.drain()

    async def close(self) -> None:
        """Close the stream."""
        await self.stream.close()


async def dial(
    network: Network, identity: Identity, peer: Onion, psk: bytes, hello: Hello, *, timeout_s: float
) -> tuple[Reply, SecureStream]:
    """Dial a peer and finish the handshake.

    Raises:
        PeerUnreachable: nobody answered in time.
        AuthenticationFailed: the peer refused us, or is not who it should be.
    """
    began_s = time.monotonic()
    public_key = public_key_from_onion(peer)
    handshake = DiallerHandshake(identity, public_key, psk, hello, secrets.token_bytes(EPHEMERAL_BYTES))
    try:
        async with asyncio.timeout(timeout_s):
            stream = await network.dial(peer, timeout_s)
            try:
                reply, records = await _exchange(stream, handshake)
            except BaseException:
                await stream.close()
                raise
    except TimeoutError as error:
        raise PeerUnreachable(f"no answer within {timeout_s:.0f} s") from error
    except OSError as error:
        raise PeerUnreachable(f"the stream broke before an answer came ({error})") from error
    dialled_in_s = time.monotonic() - began_s
    return reply, SecureStream(stream, records, peer, reply.nonce, handshake.stream, dialled_in_s=dialled_in_s)


async def _exchange(stream: Stream, handshake: DiallerHandshake) -> tuple[Reply, Records]:
    stream.writer.write(handshake.message())
    await stream.writer.drain()
    try:
        message = await stream.reader.readexactly(MESSAGE_2_BYTES)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            # Tor opened the stream, and nobody behind it said a word: a service that is shutting down, most often.
            raise PeerUnreachable("the stream ended before an answer came") from error
        message = error.partial
    return handshake.receive(message)
