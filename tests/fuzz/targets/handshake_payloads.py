"""Hello and answer: AuthenticationFailed, or the one encoding of what was read; a hello names its sender's key.

Whatever an authenticated party may put into the two payloads of a handshake.
"""

from __future__ import annotations

from hypothesis import strategies as st

from onionmpc.errors import AuthenticationFailed
from onionmpc.identity import curve, x25519_public_from_ed25519
from onionmpc.wire import handshake
from onionmpc.wire.handshake import LABEL, VERSION, Answer, Purpose
from onionmpc.wire.noise import Responder
from tests.fuzz.mutations import mutated
from tests.support.handshakes import ALICE, BOB, EVE, PSK, dialler, hear, mirrored, raw_hello, raw_message
from tests.support.identities import SMALL_ORDER, key_of, point_of
from tests.support.keys import x25519_public

WITH_TORSION = [
    key_of(curve._add(point_of(ALICE.public_key), point_of(bytes.fromhex(point)))) for point in SMALL_ORDER[1:]
]
KEYS = [ALICE.public_key, mirrored(ALICE.public_key), BOB.public_key, EVE.public_key, *WITH_TORSION]
KEYS += map(bytes.fromhex, SMALL_ORDER)
HELLOS = st.builds(
    lambda key, purpose: b"\1" + raw_hello(key, purpose), st.sampled_from(KEYS), st.sampled_from(Purpose)
)
ANSWERS = st.builds(
    lambda answer, rest: bytes([2, answer]) + rest, st.sampled_from(Answer), st.binary(min_size=32, max_size=32)
)
INPUTS = mutated(HELLOS | ANSWERS, KEYS)
REFUSALS = (AuthenticationFailed,)


def answered(payload: bytes) -> tuple[handshake.DiallerHandshake, bytes]:
    """A dialler, and message 2 of a listener that says whatever it likes."""
    noise = Responder(
        prologue=LABEL + BOB.public_key, static_private=BOB.x25519_private, ephemeral_private=bytes([8]) * 32
    )
    dialling = dialler()
    noise.read_static(dialling.message()[1:])
    noise.read_payload(PSK)
    return dialling, bytes([VERSION]) + noise.write_second(payload)


def check(data: bytes) -> object:
    """The first byte says whether the others are an answer."""
    payload = data[1:]
    if data[:1] == b"\2":
        dialling, message = answered(payload)
        reply, _ = dialling.receive(message)
        assert handshake._ANSWER.pack(reply.answer, reply.nonce, *reply.offsets) == payload
        return reply.answer
    hello = hear(raw_message(payload))
    said = (hello.public_key, hello.purpose, hello.nonce, hello.link, *hello.offsets)
    assert handshake._HELLO.pack(*said) == payload
    assert hello.public_key in (ALICE.public_key, mirrored(ALICE.public_key))
    assert x25519_public_from_ed25519(hello.public_key) == x25519_public(ALICE)
    return hello.purpose
