"""Noise messages: one refusal in the same words, or the message that the holder of the key wrote, byte for byte."""

from __future__ import annotations

from hypothesis import strategies as st
from mutations import mutated
from test_noise import (
    INITIATOR_EPHEMERAL,
    LOW_ORDER,
    PSK,
    RESPONDER_STATIC,
    pair,
    public,
    read_first,
    responder,
)

from onionmpc.errors import AuthenticationFailed
from onionmpc.wire import noise
from onionmpc.wire.noise import Initiator

STRANGER_STATIC = bytes([9]) * 32


def written_by(static: bytes) -> Initiator:
    return Initiator(
        prologue=b"label",
        static_private=static,
        ephemeral_private=INITIATOR_EPHEMERAL,
        remote_static=public(RESPONDER_STATIC),
    )


def claimed(static: bytes) -> bytes:
    """Message 1 that seals this static key as it should be, by somebody who does not hold it."""
    ephemeral = noise.X25519PrivateKey.from_private_bytes(INITIATOR_EPHEMERAL)
    symmetric = noise.SymmetricState(noise.PROTOCOL_NAME, "sha256")
    for mixed in (b"label", public(RESPONDER_STATIC), public(INITIATOR_EPHEMERAL)):
        symmetric.mix_hash(mixed)
    symmetric.mix_key(public(INITIATOR_EPHEMERAL))
    symmetric.mix_key(ephemeral.exchange(noise.X25519PublicKey.from_public_bytes(public(RESPONDER_STATIC))))
    return public(INITIATOR_EPHEMERAL) + symmetric.encrypt_and_hash(static) + bytes(16)


def second(first: bytes) -> bytes:
    answering = responder()
    read_first(answering, first)
    return answering.write_second(b"payload")


# To one who knows both keys: a stranger's message is as good as any, as far as Noise goes.
FIRST = [pair()[0].write_first(b"", PSK), written_by(STRANGER_STATIC).write_first(b"payload", PSK)]
SECOND = second(FIRST[0])
HOSTILE = [claimed(point) for point in [*LOW_ORDER, public(STRANGER_STATIC), bytes([255]) * 32]]
OTHERS = [written_by(STRANGER_STATIC).write_first(b"", bytes(32)), second(FIRST[1])]
MESSAGES = [b"\1" + message for message in [*FIRST, *HOSTILE, *OTHERS]] + [b"\2" + SECOND, b"\2" + OTHERS[1]]
INPUTS = mutated(st.sampled_from(MESSAGES), LOW_ORDER)
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
        raise
    return "heard"
