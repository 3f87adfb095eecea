"""A stream after its handshake: records in and out, with a peer that has proved its key.

It does not know about links or rosters.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from typing import cast

from onionmpc.errors import PeerUnreachable, RemoteProtocolError
from onionmpc.identity import Identity, Onion, public_keys_from_onion
from onionmpc.machine import READ_BYTES
from onionmpc.mesh.network import Network, Stream
from onionmpc.wire.handshake import MESSAGE_2_BYTES, DiallerHandshake, Hello, Reply
from onionmpc.wire.records import Records

EPHEMERAL_BYTES = 32
# Small, because bytes in a socket can no longer go over another stream, and urgent ones wait behind them.
HELD_BYTES = 2**15


def nothing() -> None:
    """Ignore the event."""


class SecureStream(asyncio.BufferedProtocol):
    """Records over one stream.

    After the handshake it is the transport's protocol, so that it handles bytes in the turn of the loop that read them,
    and no task has to wake up.

    Attributes:
        stream: the connection below.
        peer: the address whose key the other side has proved.
        nonce: the peer's contribution to the session id, 16 bytes.
        number: the stream's number, the same at both ends.
        dialled_in_s: seconds from our dial to the end of the handshake; 0 if the peer dialled.
        takes_more: whether bytes that are sent now would leave soon.
    """

    def __init__(
        self, stream: Stream, records: Records, peer: Onion, nonce: bytes, number: int, *, dialled_in_s: float = 0.0
    ) -> None:
        self.stream = stream
        self.peer = peer
        self.nonce = nonce
        self.number = number
        self.dialled_in_s = dialled_in_s
        self._records = records
        # Our own buffer: asyncio would allocate one four times as large for each read, which alone took 10 us.
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._early: list[bytes] = []
        self._on_record: Callable[[bytes], None] = self._keep
        self._on_room: Callable[[], None] = nothing
        self._arrived = asyncio.Event()
        self._over = asyncio.Event()
        self._break: Exception | None = None
        self.takes_more = True
        self._room = asyncio.Event()
        self._room.set()
        self._transport = cast(asyncio.Transport, stream.writer.transport)
        self._transport.set_write_buffer_limits(high=HELD_BYTES)
        with contextlib.suppress(OSError):  # the stream is broken already, which its user will notice
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        # If the StreamReader has seen the end of the stream already, we see it again when reading resumes.
        self._transport.pause_reading()
        self._transport.set_protocol(self)
        stream.reader.feed_eof()  # so that `_read_on` gets the bytes that it holds

    async def wait_for_first(self) -> bool:
        """Wait for the first record under the final keys, keep it for `begin`, and return whether one came.

        Raises:
            RemoteProtocolError: it did not decrypt.
        """
        await self._read_on()
        await self._arrived.wait()
        if isinstance(self._break, RemoteProtocolError):
            raise self._break
        return bool(self._early)

    async def begin(self, on_record: Callable[[bytes], None], on_room: Callable[[], None] = nothing) -> None:
        """Pass on the plaintext of each record from now on.

        Args:
            on_record: called with each; what it raises ends the stream.
            on_room: called when the stream takes more again.
        """
        self._on_room = on_room
        self._on_record = on_record
        while self._early:
            on_record(self._early.pop(0))
        await self._read_on()

    async def ended(self) -> None:
        """Wait until the stream ends.

        Raises:
            OSError: the stream broke. A record that does not decrypt counts as that too: someone on the path altered
                it, not the peer.
        """
        await self._over.wait()
        if isinstance(self._break, RemoteProtocolError):
            raise ConnectionAbortedError(None, self._break.message) from self._break
        if self._break is not None:
            raise self._break

    def send(self, plaintexts: Iterable[bytes]) -> None:
        """Send records, all in one write."""
        self.stream.writer.write(b"".join(map(self._records.encode, plaintexts)))

    async def drain(self) -> None:
        """Wait until the stream takes more, or has ended."""
        await self._room.wait()

    async def flush(self, timeout_s: float) -> None:
        """Wait until everything that was sent has left this process, at most `timeout_s` seconds. Never raises."""
        self._transport.set_write_buffer_limits(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self.drain()

    async def close(self) -> None:
        """Close the stream."""
        await self.stream.close()

    def abort(self) -> None:
        """Close the stream at once, from code that cannot await."""
        self.stream.abort()

    async def _read_on(self) -> None:
        """Take the bytes that arrived before we became the protocol, then resume reading."""
        try:
            if early := await self.stream.reader.read():
                self._take(early)
        except OSError as error:
            self._end(error)
        if self._transport.is_closing():
            self._end(None)
        self._transport.resume_reading()

    # -- asyncio.BufferedProtocol

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 (asyncio's words)
        """Return the buffer to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take the bytes that were read."""
        self._take(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        """Note the end. Return True to keep the other direction open: we may still have to send a CLOSE."""
        self._end(None)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the stream broke."""
        self._end(exc)  # an error other than OSError comes from `on_record`, and `ended` raises it again
        self.takes_more = False
        self._room.set()

    def pause_writing(self) -> None:
        """Note that the write buffer is full."""
        self.takes_more = False
        self._room.clear()

    def resume_writing(self) -> None:
        """Note that the write buffer has room again."""
        self.takes_more = True
        self._room.set()
        self._on_room()

    def _take(self, received: bytes | memoryview) -> None:
        try:
            for plaintext in self._records.decode(received):
                self._on_record(plaintext)
        except RemoteProtocolError as error:
            self._end(error)

    def _keep(self, plaintext: bytes) -> None:
        self._early.append(plaintext)
        self._arrived.set()
        self._transport.pause_reading()

    def _end(self, error: Exception | None) -> None:
        if not self._over.is_set():
            self._break = error
            self._over.set()
            self._arrived.set()


async def dial(
    network: Network, identity: Identity, peer: Onion, psk: bytes, hello: Hello, *, timeout_s: float
) -> tuple[Reply, SecureStream]:
    """Dial a peer and finish the handshake.

    Raises:
        PeerUnreachable: nobody answered in time.
        AuthenticationFailed: the peer refused us, or does not hold the key of this address.
        VersionDiffers: it speaks another version of the protocol.
    """
    began_s = time.monotonic()
    public_key = public_keys_from_onion(peer).ed25519
    handshake = DiallerHandshake(identity, public_key, psk, hello, secrets.token_bytes(EPHEMERAL_BYTES))
    try:
        # Not within our timeout: the network bounds its own part, and can explain a silence better.
        stream = await network.dial(peer, timeout_s)
        try:
            async with asyncio.timeout(began_s + timeout_s - time.monotonic()):
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
            # tor opened the stream, and nobody behind it answered. Usually the service is shutting down.
            raise PeerUnreachable("the stream ended before an answer came") from error
        message = error.partial
    return handshake.receive(message)
