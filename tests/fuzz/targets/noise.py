"""Noise messages: one refusal in the same words, or the message that the holder of the key wrote, byte for byte."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import strategies as st

from onionmpc.errors import AuthenticationFailed
from onionmpc.wire import noise
from onionmpc.wire.noise import Initiator
from tests.fuzz.mutations import mutated
from tests.support.noise_pairs import (
    INITIATOR_EPHEMERAL,
    INITIATOR_STATIC,
    LOW_ORDER,
    PSK,
    RESPONDER_STATIC,
    pair,
    public,
    read_first,
    responder,
)

STRANGER_STATIC = bytes([9]) * 32


def written_by(static: bytes) -> Initiator:
    return Initiator(
        prologue=b"label",
        static_private=static,
        ephemeral_private=INITIATOR_EPHEMERAL,
        remote_static=public(RESPONDER_STATIC),
    )


def forged(static: bytes, ephemeral: bytes | None = None) -> bytes:
    """Message 1 of somebody who knows the psk but not this static key, and takes what it gives for zero.

    The ephemeral key is in order, or it is one that gives zero as well.
    """
    private = X25519PrivateKey.from_private_bytes(INITIATOR_EPHEMERAL)
    secret = private.exchange(X25519PublicKey.from_public_bytes(public(RESPONDER_STATIC)))
    symmetric = noise.SymmetricState(noise.PROTOCOL_NAME, "sha256")
    for mixed in (b"label", public(RESPONDER_STATIC), ephemeral or public(INITIATOR_EPHEMERAL)):
        symmetric.mix_hash(mixed)
    symmetric.mix_key(ephemeral or public(INITIATOR_EPHEMERAL))
    symmetric.mix_key(bytes(32) if ephemeral else secret)
    sealed = symmetric.encrypt_and_hash(static)
    symmetric.mix_key(bytes(32))
    symmetric.mix_key_and_hash(PSK)
    return (ephemeral or public(INITIATOR_EPHEMERAL)) + sealed + symmetric.encrypt_and_hash(b"payload")


def second(first: bytes) -> bytes:
    answering = responder()
    read_first(answering, first)
    return answering.write_second(b"payload")


# A stranger with a key of its own and the psk is as good as any, as far as Noise goes.
FIRST = [pair()[0].write_first(b"", PSK), written_by(STRANGER_STATIC).write_first(b"payload", PSK)]
SECOND = second(FIRST[0])
HOSTILE = [forged(point) for point in [*LOW_ORDER, public(INITIATOR_STATIC), bytes([255]) * 32]]
HOSTILE += [forged(point, point) for point in LOW_ORDER]
OTHERS = [written_by(STRANGER_STATIC).write_first(b"", bytes(32)), second(FIRST[1])]
TRUE = [*(b"\1" + message for message in FIRST), b"\2" + SECOND]
FALSE = [b"\1" + message for message in HOSTILE + OTHERS] + [b"\2" + OTHERS[1]]
INPUTS = mutated(st.sampled_from(TRUE) | st.sampled_from(FALSE), LOW_ORDER)
REFUSALS = (AuthenticationFailed,)


def check(data: bytes) -> str:
    """The first byte says whether the others are message 2."""
    message = data[1:]
    try:
        if data[:1] == b"\2":
            dialling = pair()[0]
            dialling.write_first(b"", PSK)
            assert dialling.read_second(message) == b"payload"
            assert message == SECOND
            return "answered"
        read_first(responder(), message)
        assert message in FIRST
    except AuthenticationFailed as error:
        assert str(error) == noise.FAILED
        assert data not in TRUE
        raise
    return "heard"
