"""Keys, and two ends of a Noise handshake."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from onionmpc.wire.noise import Initiator, Responder

P = 2**255 - 19
# Every u-coordinate of small order, canonical or not, with and without the ignored top bit: RFC 7748 section
# 6.1 and "May the Fourth Be With You" (Cremers, Jackson 2019), table 1.
LOW_ORDER = [
    value.to_bytes(32, "little")
    for base in (
        0,
        1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
        P - 1,
        P,
        P + 1,
    )
    for value in (base, base + 2**255)
]
INITIATOR_STATIC, RESPONDER_STATIC = bytes([1]) * 32, bytes([2]) * 32
INITIATOR_EPHEMERAL, RESPONDER_EPHEMERAL = bytes([3]) * 32, bytes([4]) * 32
PSK = bytes([5]) * 32


def public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def pair(**changes: bytes) -> tuple[Initiator, Responder]:
    """Two ends that match, except for `changes` to the prologue or remote_static of the initiator."""
    initiator = Initiator(
        prologue=changes.get("prologue", b"label"),
        static_private=INITIATOR_STATIC,
        ephemeral_private=INITIATOR_EPHEMERAL,
        remote_static=changes.get("remote_static", public(RESPONDER_STATIC)),
    )
    return initiator, responder()


def responder() -> Responder:
    return Responder(prologue=b"label", static_private=RESPONDER_STATIC, ephemeral_private=RESPONDER_EPHEMERAL)


def read_first(listener: Responder, message: bytes, psk: bytes = PSK) -> bytes:
    listener.read_static(message)
    return listener.read_payload(psk)
