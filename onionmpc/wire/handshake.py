"""The handshake of a stream: authenticates both parties and yields the keys for its records.

The caller decides which pre-shared keys to try and which parties to accept. Rules: docs/PROTOCOL.md section 2.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from onionmpc.errors import AuthenticationFailed, InvalidAddress, VersionDiffers
from onionmpc.identity import Identity, x25519_public_from_ed25519
from onionmpc.wire.noise import Initiator, Responder
from onionmpc.wire.records import Records

VERSION = 5
LABEL = b"onionmpc/%d" % VERSION
# Other labels keep their own numbers: each changes only with what it labels (PROTOCOL 2).
LINK_LABEL = b"onionmpc/1 link"
NO_PSK = bytes(32)
HELLO_NONCE_BYTES = 16
NO_LINK = bytes(32)

_HELLO = struct.Struct(">32sB16s32sQQ")
_ANSWER = struct.Struct(">B16sQQ")
# version, e, s and its tag, payload and its tag
MESSAGE_1_BYTES = 1 + 32 + 48 + _HELLO.size + 16
# version, e, payload and its tag
MESSAGE_2_BYTES = 1 + 32 + _ANSWER.size + 16

# The reply to every error before the dialler is authenticated: a stranger learns our version, and no more.
REFUSAL = bytes([VERSION])
# A stream's number appears in JSON, and every JSON reader keeps it exact below 2**53.
STREAM_NUMBER_BYTES = 6


class Purpose(enum.IntEnum):
    """What a stream is for."""

    GATHER = 1
    MESH = 2
    RESUME = 3
    # MESH from a party at circuit length short, whose service shows its IP address anyway. So the listener dials it
    # back, unless the listener is at short as well.
    MESH_OR_DIAL_BACK = 4


class Answer(enum.IntEnum):
    """The listener's answer to an authenticated dialler."""

    ACCEPTED = 0
    NOT_NOW = 1
    UNKNOWN_SESSION = 2
    NO_SEAT = 3
    # The listener will dial the dialler instead, as soon as the dialler has shown the final keys.
    DIAL_BACK = 4


@dataclass(frozen=True, slots=True)
class Hello:
    """Payload 1, from the dialler.

    Attributes:
        public_key: Ed25519, 32 bytes.
        nonce: 16 bytes, this party's contribution to the session id.
        link: `link_id` of the link to resume, 32 bytes; zero unless the purpose is RESUME.
        offsets: how many bytes have arrived on the control channel, and how many the program has taken from the data
            channel.
    """

    public_key: bytes
    purpose: Purpose
    nonce: bytes
    link: bytes = NO_LINK
    offsets: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """Payload 2, from the listener."""

    answer: Answer
    nonce: bytes
    offsets: tuple[int, int] = (0, 0)


def link_id(lower_nonce: bytes, higher_nonce: bytes) -> bytes:
    """Return the id of a link in a resume handshake, 32 bytes.

    Both nonces are fresh in each session, so no link of another session has this id.

    Args:
        lower_nonce: the contribution of the lower party to the session id, 16 bytes.
        higher_nonce: that of the higher party.
    """
    return hashlib.sha256(LINK_LABEL + lower_nonce + higher_nonce).digest()


def stream_number(handshake_hash: bytes) -> int:
    """Return the number of a stream, the same at both ends.

    Neither side can choose it, since the hash covers the fresh keys of both.

    Args:
        handshake_hash: of the Noise handshake, 32 bytes.
    """
    return int.from_bytes(handshake_hash[:STREAM_NUMBER_BYTES])


class DiallerHandshake:
    """The dialler's side: `message`, then `receive`.

    Args:
        identity: this party's identity.
        peer: Ed25519 public key of the party that we dial, 32 bytes.
        psk: the pre-shared key, 32 bytes.
        hello: the payload of message 1.
        ephemeral: a fresh X25519 private key, 32 random bytes.
    """

    def __init__(self, identity: Identity, peer: bytes, psk: bytes, hello: Hello, ephemeral: bytes) -> None:
        # The prologue binds the handshake to one address: A and -A are two addresses with the same X25519 key.
        self._noise = Initiator(
            prologue=LABEL + peer,
            static_private=identity.x25519_private,
            ephemeral_private=ephemeral,
            remote_static=x25519_public_from_ed25519(peer),
        )
        self._psk = psk
        self._hello = hello

    def message(self) -> bytes:
        """Return message 1."""
        hello = self._hello
        payload = _HELLO.pack(hello.public_key, hello.purpose, hello.nonce, hello.link, *hello.offsets)
        return bytes([VERSION]) + self._noise.write_first(payload, self._psk)

    def receive(self, message: bytes) -> tuple[Reply, Records]:
        """Read message 2.

        Raises:
            AuthenticationFailed: the peer refused, or does not hold the key of the address that we dialled.
            VersionDiffers: it speaks another version.
        """
        if not message:
            raise AuthenticationFailed("the peer ended the stream before it answered")
        # The version before the length: the messages of other versions may have other lengths.
        if message[0] != VERSION:
            raise VersionDiffers(message[0], VERSION)
        if len(message) != MESSAGE_2_BYTES:
            raise AuthenticationFailed("the peer refused the handshake")
        try:
            answer, nonce, control, data = _ANSWER.unpack(self._noise.read_second(message[1:]))
            reply = Reply(Answer(answer), nonce, (control, data))
        except ValueError as error:
            raise AuthenticationFailed("the peer sent an unknown answer code") from error
        sending, receiving = self._noise.split()
        return reply, Records(sending, receiving)

    @property
    def stream(self) -> int:
        """The stream's number, known after `receive`."""
        return stream_number(self._noise.handshake_hash)


class ListenerHandshake:
    """The listener's side: `read_static`, `read_hello`, then `answer`.

    Args:
        identity: ours.
        ephemeral: a fresh X25519 private key, 32 random bytes.
    """

    def __init__(self, identity: Identity, ephemeral: bytes) -> None:
        self._noise = Responder(
            prologue=LABEL + identity.public_key,
            static_private=identity.x25519_private,
            ephemeral_private=ephemeral,
        )
        self._static = b""

    def read_static(self, message: bytes) -> bytes:
        """Read message 1 up to the dialler's X25519 key, and return the key. It is not authenticated yet.

        Raises:
            AuthenticationFailed: the message has another version or length, or is not meant for us.
        """
        if len(message) != MESSAGE_1_BYTES or message[0] != VERSION:
            raise AuthenticationFailed("a stranger's first message is not a handshake of our version")
        self._static = self._noise.read_static(message[1:])
        return self._static

    def read_hello(self, psks: Sequence[bytes]) -> tuple[int, Hello]:
        """Read the rest of message 1 under the first psk that opens it.

        Returns:
            The index of that psk, and the dialler's payload.

        Raises:
            AuthenticationFailed: no psk opens it, or the dialler claims an address whose key it does not hold.
        """
        for index, psk in enumerate(psks):
            try:
                payload = self._noise.read_payload(psk)
            except AuthenticationFailed:
                continue
            return index, self._parse_hello(payload)
        raise AuthenticationFailed("none of our keys opens a stranger's first message")

    def _parse_hello(self, payload: bytes) -> Hello:
        try:
            public_key, purpose, nonce, link, control, data = _HELLO.unpack(payload)
            hello = Hello(public_key, Purpose(purpose), nonce, link, (control, data))
            claimed = x25519_public_from_ed25519(public_key)
        except (ValueError, InvalidAddress) as error:
            raise AuthenticationFailed("a dialler's hello is malformed") from error
        # Noise proved only the X25519 key. Without this check, anyone could take part under another party's address.
        if claimed != self._static:
            raise AuthenticationFailed("a dialler claims an address whose key it does not hold")
        return hello

    def answer(self, reply: Reply) -> tuple[bytes, Records]:
        """Return message 2, and the codec of the records that follow it."""
        payload = _ANSWER.pack(reply.answer, reply.nonce, *reply.offsets)
        message = bytes([VERSION]) + self._noise.write_second(payload)
        receiving, sending = self._noise.split()  # the dialler's direction comes first
        return message, Records(sending, receiving)

    @property
    def stream(self) -> int:
        """The stream's number, known after `answer`."""
        return stream_number(self._noise.handshake_hash)
