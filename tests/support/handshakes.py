"""Two ends of a handshake, and the bytes that others would send."""

from __future__ import annotations

import struct

from onionmpc.identity import Identity
from onionmpc.wire.handshake import (
    VERSION,
    DiallerHandshake,
    Hello,
    ListenerHandshake,
    Purpose,
)
from onionmpc.wire.noise import Initiator
from tests.support.keys import x25519_public

LABEL = b"onionmpc/%d" % VERSION  # what a prologue begins with
ALICE, BOB, EVE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
PSK = bytes([5]) * 32
HELLO = Hello(ALICE.public_key, Purpose.MESH, b"alice's nonce 16")


def mirrored(public_key: bytes) -> bytes:
    """Return -A: the other Ed25519 key with the same X25519 key."""
    return public_key[:31] + bytes([public_key[31] ^ 0x80])


def dialler(
    identity: Identity = ALICE, peer: bytes = BOB.public_key, psk: bytes = PSK, hello: Hello = HELLO
) -> DiallerHandshake:
    return DiallerHandshake(identity, peer, psk, hello, ephemeral=bytes([7]) * 32)


def listener(identity: Identity = BOB, ephemeral: bytes = bytes([8]) * 32) -> ListenerHandshake:
    return ListenerHandshake(identity, ephemeral)


def hear(message: bytes, psks: tuple[bytes, ...] = (PSK,), identity: Identity = BOB) -> Hello:
    listening = listener(identity)
    listening.read_static(message)
    return listening.read_hello(psks)[1]


def raw_message(payload: bytes, prologue: bytes = LABEL + BOB.public_key) -> bytes:
    """Message 1 of a dialler that holds ALICE's key and sends any payload it likes."""
    noise = Initiator(
        prologue=prologue,
        static_private=ALICE.x25519_private,
        ephemeral_private=bytes([7]) * 32,
        remote_static=x25519_public(BOB),
    )
    return bytes([VERSION]) + noise.write_first(payload, PSK)


def raw_hello(public_key: bytes = ALICE.public_key, purpose: int = 2) -> bytes:
    return struct.pack(">32sB16s32sQQ", public_key, purpose, bytes(16), bytes(32), 0, 0)
