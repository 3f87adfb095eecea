"""The handshake: its published vectors, and everything that a peer may do to it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from onionmpc.errors import AuthenticationFailed, LocalProtocolError
from onionmpc.wire import noise
from onionmpc.wire.noise import CipherState, Initiator, Responder
from tests.support.noise_pairs import (
    INITIATOR_EPHEMERAL,
    INITIATOR_STATIC,
    LOW_ORDER,
    PSK,
    RESPONDER_EPHEMERAL,
    RESPONDER_STATIC,
    pair,
    public,
    read_first,
    responder,
)

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors" / "noise-ik.json").read_text())


def alterations(message: bytes) -> list[bytes]:
    """The message with each byte changed in turn, cut at each length, and with a tail."""
    changed = [message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :] for at in range(len(message))]
    return [*changed, *(message[:length] for length in range(len(message))), message + b"\x00"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["protocol_name"])
def test_published_vector(vector: dict[str, Any]) -> None:
    def value(name: str) -> bytes:
        return bytes.fromhex(vector[name])

    initiator = Initiator(
        prologue=value("init_prologue"),
        static_private=value("init_static"),
        ephemeral_private=value("init_ephemeral"),
        remote_static=value("init_remote_static"),
        protocol_name=vector["protocol_name"],
    )
    listener = Responder(
        prologue=value("resp_prologue"),
        static_private=value("resp_static"),
        ephemeral_private=value("resp_ephemeral"),
        protocol_name=vector["protocol_name"],
    )
    initiator_psk, responder_psk = (
        bytes.fromhex(vector[name][0]) if name in vector else None for name in ("init_psks", "resp_psks")
    )
    messages = [(bytes.fromhex(m["payload"]), bytes.fromhex(m["ciphertext"])) for m in vector["messages"]]

    payload, ciphertext = messages[0]
    assert initiator.write_first(payload, initiator_psk) == ciphertext
    assert listener.read_static(ciphertext) == public(value("init_static"))
    assert listener.read_payload(responder_psk) == payload
    payload, ciphertext = messages[1]
    assert listener.write_second(payload) == ciphertext
    assert initiator.read_second(ciphertext) == payload
    assert initiator.handshake_hash == listener.handshake_hash == value("handshake_hash")

    ours, theirs = initiator.split(), listener.split()
    assert len(messages) > 2
    for index, (payload, ciphertext) in enumerate(messages[2:]):
        direction = index % 2
        assert ours[direction].encrypt(payload) == ciphertext
        assert theirs[direction].decrypt(ciphertext) == payload


def test_vectors_cover_both_patterns_and_all_hashes() -> None:
    assert {vector["protocol_name"] for vector in VECTORS} == {
        f"Noise_{pattern}_25519_ChaChaPoly_{name}" for pattern in ("IK", "IKpsk1") for name in noise.HASHES
    }


@given(first=st.binary(max_size=300), second=st.binary(max_size=300), records=st.lists(st.binary(max_size=300)))
def test_one_end_reads_what_the_other_writes(first: bytes, second: bytes, records: list[bytes]) -> None:
    initiator, listener = pair()
    assert read_first(listener, initiator.write_first(first, PSK)) == first
    assert initiator.read_second(listener.write_second(second)) == second
    (a_sends, a_reads), (b_reads, b_sends) = initiator.split(), listener.split()
    for record in records:
        assert b_reads.decrypt(a_sends.encrypt(record)) == record
        assert a_reads.decrypt(b_sends.encrypt(record)) == record


@settings(max_examples=20)
@given(keys=st.lists(st.binary(min_size=32, max_size=32), min_size=5, max_size=5))
def test_any_five_keys_complete_a_handshake(keys: list[bytes]) -> None:
    prologue = keys[4]
    initiator = Initiator(
        prologue=prologue, static_private=keys[0], ephemeral_private=keys[1], remote_static=public(keys[2])
    )
    listener = Responder(prologue=prologue, static_private=keys[2], ephemeral_private=keys[3])
    read_first(listener, initiator.write_first(b"", keys[4]), keys[4])
    initiator.read_second(listener.write_second(b""))
    assert initiator.handshake_hash == listener.handshake_hash


def test_first_message_hides_the_initiator_and_its_payload() -> None:
    message = pair()[0].write_first(b"a payload that is long enough to find", PSK)
    assert public(INITIATOR_STATIC) not in message
    assert b"payload" not in message


def test_second_cipher_is_for_the_other_direction() -> None:
    first, second = complete()[0].split()
    assert first.encrypt(b"x") != second.encrypt(b"x")


def complete() -> tuple[Initiator, Responder]:
    initiator, listener = pair()
    read_first(listener, initiator.write_first(b"", PSK))
    initiator.read_second(listener.write_second(b""))
    return initiator, listener


# --- What a peer may do ------------------------------------------------------------------------------------


def test_wrong_prologue_is_refused() -> None:
    initiator, listener = pair(prologue=b"other")
    with pytest.raises(AuthenticationFailed):
        listener.read_static(initiator.write_first(b"", PSK))


def test_first_message_for_another_static_key_is_refused() -> None:
    initiator, listener = pair(remote_static=public(bytes([9]) * 32))
    with pytest.raises(AuthenticationFailed):
        listener.read_static(initiator.write_first(b"", PSK))


def test_first_message_is_refused_by_its_own_initiator() -> None:
    initiator, _ = pair()
    reflected = Responder(prologue=b"label", static_private=INITIATOR_STATIC, ephemeral_private=RESPONDER_EPHEMERAL)
    with pytest.raises(AuthenticationFailed):
        reflected.read_static(initiator.write_first(b"", PSK))


def test_each_message_belongs_to_one_role() -> None:
    initiator, listener = pair()
    first = initiator.write_first(b"", PSK)
    read_first(listener, first)
    second = listener.write_second(bytes(64))
    with pytest.raises(AuthenticationFailed):
        responder().read_static(second)
    with pytest.raises(AuthenticationFailed):
        initiator.read_second(first)


def test_responder_without_the_static_key_cannot_answer() -> None:
    initiator, listener = pair()
    read_first(listener, initiator.write_first(b"", PSK))
    other = Initiator(
        prologue=b"label",
        static_private=bytes([8]) * 32,
        ephemeral_private=INITIATOR_EPHEMERAL,
        remote_static=public(RESPONDER_STATIC),
    )
    other.write_first(b"", PSK)
    with pytest.raises(AuthenticationFailed):
        other.read_second(listener.write_second(b""))


def test_right_psk_is_found_after_wrong_ones() -> None:
    initiator, listener = pair()
    listener.read_static(initiator.write_first(b"hello", PSK))
    for wrong in (bytes(32), secrets.token_bytes(32), PSK[:31] + b"\x00"):
        with pytest.raises(AuthenticationFailed):
            listener.read_payload(wrong)
    assert listener.read_payload(PSK) == b"hello"
    assert initiator.read_second(listener.write_second(b"welcome")) == b"welcome"
    assert initiator.handshake_hash == listener.handshake_hash


def test_psk_may_be_chosen_by_the_static_key() -> None:
    initiator, listener = pair()
    psk_of = {public(INITIATOR_STATIC): PSK}
    static = listener.read_static(initiator.write_first(b"hello", PSK))
    assert listener.read_payload(psk_of[static]) == b"hello"


def test_first_message_altered_anywhere_is_refused() -> None:
    for altered in alterations(pair()[0].write_first(b"payload", PSK)):
        with pytest.raises(AuthenticationFailed, match=f"^{noise.FAILED}$"):
            read_first(responder(), altered)


def test_second_message_altered_anywhere_is_refused() -> None:
    def answered() -> tuple[Initiator, bytes]:
        initiator, listener = pair()
        read_first(listener, initiator.write_first(b"", PSK))
        return initiator, listener.write_second(b"payload")

    for altered in alterations(answered()[1]):
        with pytest.raises(AuthenticationFailed, match=f"^{noise.FAILED}$"):
            answered()[0].read_second(altered)


def test_message_beyond_the_limit_is_refused() -> None:
    initiator, listener = pair()
    largest = noise.MAX_MESSAGE_BYTES - 32 - 48 - 16
    assert len(read_first(listener, initiator.write_first(bytes(largest), PSK))) == largest
    assert len(listener.write_second(bytes(noise.MAX_MESSAGE_BYTES - 32 - 16))) == noise.MAX_MESSAGE_BYTES
    with pytest.raises(AuthenticationFailed):
        responder().read_static(bytes(noise.MAX_MESSAGE_BYTES + 1))
    with pytest.raises(LocalProtocolError, match="65536 bytes"):
        pair()[0].write_first(bytes(largest + 1), PSK)


def test_first_message_replayed_gives_its_sender_nothing() -> None:
    message = pair()[0].write_first(b"", PSK)
    answers = []
    for ephemeral in (bytes([6]) * 32, bytes([7]) * 32):
        listener = Responder(prologue=b"label", static_private=RESPONDER_STATIC, ephemeral_private=ephemeral)
        read_first(listener, message)
        answers.append(listener.write_second(b"")[32:])
    assert answers[0] != answers[1]


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_low_order_remote_static_is_refused_when_dialling(point: bytes) -> None:
    with pytest.raises(AuthenticationFailed, match=noise.FAILED):
        pair(remote_static=point)[0].write_first(b"", PSK)


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_low_order_ephemeral_is_refused_in_either_message(point: bytes) -> None:
    initiator, listener = pair()
    first = initiator.write_first(b"", PSK)
    with pytest.raises(AuthenticationFailed, match=noise.FAILED):
        listener.read_static(point + first[32:])
    with pytest.raises(AuthenticationFailed, match=noise.FAILED):
        initiator.read_second(point + bytes(16))


@pytest.mark.parametrize("point", LOW_ORDER, ids=bytes.hex)
def test_low_order_static_of_the_initiator_is_refused(point: bytes) -> None:
    # A hostile initiator sends a properly encrypted message 1 up to a static key for which "ss" is always zero.
    ephemeral = X25519PrivateKey.from_private_bytes(INITIATOR_EPHEMERAL)
    symmetric = noise.SymmetricState(noise.PROTOCOL_NAME, "sha256")
    symmetric.mix_hash(b"label")
    symmetric.mix_hash(public(RESPONDER_STATIC))
    symmetric.mix_hash(public(INITIATOR_EPHEMERAL))
    symmetric.mix_key(public(INITIATOR_EPHEMERAL))
    symmetric.mix_key(ephemeral.exchange(X25519PrivateKey.from_private_bytes(RESPONDER_STATIC).public_key()))
    message = public(INITIATOR_EPHEMERAL) + symmetric.encrypt_and_hash(point) + bytes(16)
    listener = responder()
    with pytest.raises(AuthenticationFailed, match=noise.FAILED) as caught:
        listener.read_static(message)
    assert isinstance(caught.value.__cause__, ValueError)


# --- What our own side may do ------------------------------------------------------------------------------


def test_handshake_out_of_turn_is_our_bug() -> None:
    initiator, listener = pair()
    for act in (initiator.split, lambda: initiator.read_second(bytes(48)), lambda: listener.write_second(b"")):
        with pytest.raises(LocalProtocolError, match="at step NEW"):
            act()
    with pytest.raises(LocalProtocolError, match="at step NEW"):
        listener.read_payload(PSK)
    with pytest.raises(LocalProtocolError, match="no handshake hash at step NEW"):
        _ = initiator.handshake_hash


def test_first_message_is_written_once() -> None:
    initiator, _ = pair()
    initiator.write_first(b"", PSK)
    with pytest.raises(LocalProtocolError, match="at step FIRST_SENT"):
        initiator.write_first(b"another payload under the same nonce", PSK)


def test_handshake_is_split_once() -> None:
    for end in complete():
        end.split()
        with pytest.raises(LocalProtocolError, match="at step SPLIT"):
            end.split()


def test_failed_handshake_stays_failed() -> None:
    initiator, listener = pair()
    first = initiator.write_first(b"", PSK)
    with pytest.raises(AuthenticationFailed):
        listener.read_static(bytes(96))
    with pytest.raises(LocalProtocolError, match="at step ERROR"):
        listener.read_static(first)
    with pytest.raises(AuthenticationFailed):
        initiator.read_second(bytes(48))
    with pytest.raises(LocalProtocolError, match="at step ERROR"):
        initiator.read_second(bytes(48))


def test_psk_is_required_by_the_pattern_or_refused() -> None:
    for wrong in (None, b"", bytes(31), bytes(33)):
        with pytest.raises(LocalProtocolError, match="32 bytes"):
            pair()[0].write_first(b"", wrong)
    without = Initiator(
        prologue=b"",
        static_private=INITIATOR_STATIC,
        ephemeral_private=INITIATOR_EPHEMERAL,
        remote_static=public(RESPONDER_STATIC),
        protocol_name="Noise_IK_25519_ChaChaPoly_SHA256",
    )
    with pytest.raises(LocalProtocolError, match="IK takes none"):
        without.write_first(b"", PSK)


@pytest.mark.parametrize(
    "name",
    ["", "Noise_XX_25519_ChaChaPoly_SHA256", "Noise_IK_448_ChaChaPoly_SHA256", "Noise_IK_25519_ChaChaPoly_MD5"],
)
def test_other_protocol_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot speak"):
        Responder(prologue=b"", static_private=PSK, ephemeral_private=PSK, protocol_name=name)


def test_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="33 bytes"):
        pair(remote_static=bytes(33))
    with pytest.raises(ValueError, match="32 bytes"):
        Responder(prologue=b"", static_private=bytes(31), ephemeral_private=PSK)


def test_repr_shows_no_key() -> None:
    initiator, listener = pair()
    assert repr(initiator) == "Initiator(<hidden>, NEW)"
    assert repr(listener) == "Responder(<hidden>, NEW)"
    assert repr(initiator._symmetric) == "SymmetricState(<hidden>)"
    assert repr(CipherState(PSK)) == "CipherState(<hidden>, nonce=0)"


# --- Records -----------------------------------------------------------------------------------------------


def test_record_altered_anywhere_is_refused_and_the_true_one_still_read() -> None:
    record = CipherState(PSK).encrypt(b"record")
    reader = CipherState(PSK)
    for altered in alterations(record):
        with pytest.raises(AuthenticationFailed):
            reader.decrypt(altered)
    assert reader.decrypt(record) == b"record"


def test_record_is_read_once_and_in_order() -> None:
    writer, reader = CipherState(PSK), CipherState(PSK)
    first, second = writer.encrypt(b"1"), writer.encrypt(b"2")
    with pytest.raises(AuthenticationFailed):
        reader.decrypt(second)
    assert reader.decrypt(first) == b"1"
    with pytest.raises(AuthenticationFailed):
        reader.decrypt(first)
    assert reader.decrypt(second) == b"2"


def test_last_nonce_is_used_and_none_after_it() -> None:
    writer, reader = CipherState(PSK, 2**64 - 2), CipherState(PSK, 2**64 - 2)
    assert reader.decrypt(writer.encrypt(b"last")) == b"last"
    with pytest.raises(LocalProtocolError, match="the limit"):
        writer.encrypt(b"one more")
    with pytest.raises(LocalProtocolError, match="the limit"):
        reader.decrypt(bytes(16))


def test_record_of_65535_bytes_passes_and_a_longer_one_does_not() -> None:
    record = CipherState(PSK).encrypt(bytes(65519))
    assert len(record) == 65535
    assert CipherState(PSK).decrypt(record) == bytes(65519)
    with pytest.raises(LocalProtocolError, match="65520 bytes"):
        CipherState(PSK).encrypt(bytes(65520))
    with pytest.raises(AuthenticationFailed):
        CipherState(PSK).decrypt(bytes(65536))
