"""The handshake of a stream: whom it authenticates, what it carries, and everything that must end it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onionmpc import __version__
from onionmpc.errors import AuthenticationFailed, VersionDiffers
from onionmpc.wire.handshake import (
    MESSAGE_1_BYTES,
    MESSAGE_2_BYTES,
    NO_PSK,
    REFUSAL,
    VERSION,
    Answer,
    DiallerHandshake,
    Hello,
    Purpose,
    Reply,
)
from onionmpc.wire.records import Records
from tests.support.handshakes import (
    ALICE,
    BOB,
    EVE,
    HELLO,
    LABEL,
    PSK,
    dialler,
    hear,
    listener,
    mirrored,
    raw_hello,
    raw_message,
)
from tests.support.keys import x25519_public

REPLY = Reply(Answer.ACCEPTED, b"and bob's own 16")


def shake(hello: Hello = HELLO, reply: Reply = REPLY) -> tuple[Reply, Records, Hello, Records]:
    """A handshake that nobody disturbs: what the dialler receives, then what the listener receives."""
    dialling, listening = dialler(hello=hello), listener()
    assert listening.read_static(dialling.message()) == x25519_public(ALICE)
    index, heard = listening.read_hello([PSK])
    assert index == 0
    message, listener_records = listening.answer(reply)
    answer, dialler_records = dialling.receive(message)
    return answer, dialler_records, heard, listener_records


def altered(message: bytes) -> list[bytes]:
    return [message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :] for at in range(len(message))]


def test_messages_have_the_sizes_of_the_protocol() -> None:
    assert len(dialler().message()) == MESSAGE_1_BYTES == 194
    listening = listener()
    listening.read_static(dialler().message())
    listening.read_hello([PSK])
    assert len(listening.answer(REPLY)[0]) == MESSAGE_2_BYTES == 82


def test_both_ends_give_a_stream_the_same_number_and_no_other_stream_has_it() -> None:
    numbers = []
    for ephemeral in (8, 9):
        dialling, listening = dialler(), listener(ephemeral=bytes([ephemeral]) * 32)
        listening.read_static(dialling.message())
        listening.read_hello([PSK])
        dialling.receive(listening.answer(REPLY)[0])
        assert dialling.stream == listening.stream
        numbers.append(dialling.stream)
    assert numbers[0] != numbers[1]
    assert 0 <= max(numbers) < 2**48


def test_records_flow_both_ways_after_the_handshake() -> None:
    _, ours, _, theirs = shake()
    assert list(theirs.decode(ours.encode(b"there"))) == [b"there"]
    assert list(ours.decode(theirs.encode(b"back"))) == [b"back"]


@pytest.mark.parametrize("purpose", Purpose)
def test_everything_in_the_hello_arrives(purpose: Purpose) -> None:
    hello = Hello(ALICE.public_key, purpose, bytes(range(16)), bytes(range(32)), (2**64 - 1, 7))
    assert shake(hello=hello)[2] == hello


@pytest.mark.parametrize("answer", Answer)
def test_everything_in_the_reply_arrives(answer: Answer) -> None:
    reply = Reply(answer, bytes(range(16)), (3, 2**64 - 1))
    assert shake(reply=reply)[0] == reply


def test_the_first_psk_that_opens_message_1_is_returned() -> None:
    psks = [bytes([number]) * 32 for number in range(5)] + [PSK, NO_PSK]
    listening = listener()
    listening.read_static(dialler().message())
    assert listening.read_hello(psks) == (5, HELLO)


@pytest.mark.parametrize("psks", [(), (NO_PSK,), (PSK[:-1] + b"\x00", NO_PSK)], ids=["none", "one", "two"])
def test_a_wrong_psk_is_refused(psks: tuple[bytes, ...]) -> None:
    with pytest.raises(AuthenticationFailed, match="none of our keys opens"):
        hear(dialler().message(), psks)


def test_a_message_for_another_listener_is_refused() -> None:
    with pytest.raises(AuthenticationFailed):
        hear(dialler(peer=EVE.public_key).message())


def test_a_message_for_the_mirror_image_of_the_listener_is_refused() -> None:
    # Its X25519 key is the same. Only the prologue distinguishes the two addresses.
    with pytest.raises(AuthenticationFailed):
        hear(dialler(peer=mirrored(BOB.public_key)).message())


@pytest.mark.parametrize(
    "prologue",
    [
        b"",
        LABEL,
        BOB.public_key,
        b"onionmpc/1" + BOB.public_key,
        LABEL + ALICE.public_key,
        LABEL + BOB.public_key + b"\x00",
    ],
    ids=["none", "no key", "no label", "another version", "the dialler's key", "a tail"],
)
def test_a_different_prologue_is_refused(prologue: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        hear(raw_message(raw_hello(), prologue))


def test_a_dialler_cannot_claim_the_address_of_another_key() -> None:
    message = dialler(identity=EVE, hello=replace(HELLO, public_key=ALICE.public_key)).message()
    with pytest.raises(AuthenticationFailed, match="claims an address whose key it does not hold"):
        hear(message)


def test_a_dialler_that_claims_the_mirror_image_of_its_address_is_reported_under_that() -> None:
    # The holder of A holds -A as well, so the claim is true. The gatekeeper sees that -A is not on the roster.
    claim = replace(HELLO, public_key=mirrored(ALICE.public_key))
    assert hear(dialler(hello=claim).message()).public_key == mirrored(ALICE.public_key) != ALICE.public_key


@pytest.mark.parametrize(
    "public_key",
    [bytes(32), bytes([1]) + bytes(31), b"\xff" * 32, bytes([2]) + bytes(31)],
    ids=["small order", "neutral", "not canonical", "not on the curve"],
)
def test_a_claimed_address_that_is_not_a_key_is_refused(public_key: bytes) -> None:
    with pytest.raises(AuthenticationFailed, match="malformed"):
        hear(raw_message(raw_hello(public_key)))


@pytest.mark.parametrize("purpose", [0, 5, 255])
def test_an_unknown_purpose_is_refused(purpose: int) -> None:
    assert hear(raw_message(raw_hello())).purpose is Purpose.MESH
    with pytest.raises(AuthenticationFailed, match="malformed"):
        hear(raw_message(raw_hello(purpose=purpose)))


def test_a_hello_of_the_wrong_size_is_refused() -> None:
    for payload in (raw_hello()[:-1], raw_hello() + b"\x00", b""):
        with pytest.raises(AuthenticationFailed):
            hear(raw_message(payload))


def test_message_1_cut_anywhere_or_with_a_tail_is_refused() -> None:
    message = dialler().message()
    for wrong in [*(message[:length] for length in range(len(message))), message + b"\x00"]:
        with pytest.raises(AuthenticationFailed, match="not a handshake of our version"):
            listener().read_static(wrong)


def test_message_1_altered_at_any_byte_is_refused() -> None:
    for wrong in altered(dialler().message()):
        with pytest.raises(AuthenticationFailed):
            hear(wrong)


def answered() -> tuple[DiallerHandshake, bytes]:
    dialling, listening = dialler(), listener()
    listening.read_static(dialling.message())
    listening.read_hello([PSK])
    return dialling, listening.answer(REPLY)[0]


def test_message_2_cut_anywhere_or_with_a_tail_is_refused() -> None:
    _, message = answered()
    for length in range(len(message)):
        dialling, _ = answered()
        with pytest.raises(AuthenticationFailed):
            dialling.receive(message[:length])
    dialling, _ = answered()
    with pytest.raises(AuthenticationFailed):
        dialling.receive(message + b"\x00")


def test_message_2_altered_at_any_byte_is_refused() -> None:
    for at, wrong in enumerate(altered(answered()[1])):
        dialling, _ = answered()
        with pytest.raises(AuthenticationFailed if at else VersionDiffers):
            dialling.receive(wrong)


def test_message_2_of_another_listener_is_refused() -> None:
    dialling, eve = dialler(), listener(EVE)
    other = dialler(peer=EVE.public_key)
    eve.read_static(other.message())
    eve.read_hello([PSK])
    dialling.message()
    with pytest.raises(AuthenticationFailed):
        dialling.receive(eve.answer(REPLY)[0])


def test_message_2_of_another_handshake_is_refused() -> None:
    _, message = answered()
    later = DiallerHandshake(ALICE, BOB.public_key, PSK, HELLO, ephemeral=bytes([9]) * 32)
    later.message()
    with pytest.raises(AuthenticationFailed):
        later.receive(message)


def test_neither_message_is_accepted_in_place_of_the_other() -> None:
    dialling = dialler()
    message = dialling.message()
    with pytest.raises(AuthenticationFailed):
        dialling.receive(message)
    with pytest.raises(AuthenticationFailed):
        listener().read_static(answered()[1])


def test_a_message_1_is_refused_by_its_own_sender() -> None:
    with pytest.raises(AuthenticationFailed):
        hear(dialler().message(), identity=ALICE)


def test_two_parties_that_dial_each_other_do_not_accept_message_1_as_an_answer() -> None:
    there = dialler()
    back = dialler(BOB, ALICE.public_key, hello=replace(HELLO, public_key=BOB.public_key))
    messages = there.message(), back.message()
    for dialling, message in ((there, messages[1]), (back, messages[0])):
        with pytest.raises(AuthenticationFailed):
            dialling.receive(message[:MESSAGE_2_BYTES])


def test_an_answer_to_the_crossing_dial_is_not_an_answer_to_our_own() -> None:
    there = dialler()
    there.message()
    alice = listener(ALICE)
    alice.read_static(dialler(BOB, ALICE.public_key, hello=replace(HELLO, public_key=BOB.public_key)).message())
    alice.read_hello([PSK])
    with pytest.raises(AuthenticationFailed):
        there.receive(alice.answer(REPLY)[0])


def test_an_end_in_the_wrong_role_decrypts_no_record() -> None:
    _, ours, _, theirs = shake()
    record = ours.encode(b"there")
    for swapped in (ours, Records(theirs._receiving, theirs._sending)):
        with pytest.raises(AuthenticationFailed):
            list(swapped.decode(record))
    assert list(theirs.decode(record)) == [b"there"]


def test_a_record_of_an_earlier_handshake_does_not_decrypt_in_a_later_one() -> None:
    _, earlier, _, _ = shake()
    recorded = earlier.encode(b"there")
    dialling, listening = dialler(), listener(ephemeral=bytes([10]) * 32)
    listening.read_static(dialling.message())
    listening.read_hello([PSK])
    _, later = listening.answer(REPLY)
    with pytest.raises(AuthenticationFailed):
        list(later.decode(recorded))


@pytest.mark.parametrize("version", [0, 1, VERSION - 1, VERSION + 1, 255])
def test_a_message_1_of_another_version_is_refused(version: int) -> None:
    with pytest.raises(AuthenticationFailed, match="not a handshake of our version"):
        listener().read_static(bytes([version]) + dialler().message()[1:])


@pytest.mark.parametrize("rest", [b"", bytes(81), bytes(200)])
def test_a_dialler_that_sees_another_version_names_both_and_accuses_nobody(rest: bytes) -> None:
    for theirs in (0, 1, VERSION - 1, VERSION + 1, 255):
        with pytest.raises(VersionDiffers) as raised:
            dialler().receive(bytes([theirs]) + rest)
        assert raised.value.message == (
            f"different versions of onionmpc: the peer speaks protocol {theirs}, this party (onionmpc {__version__}) "
            "protocol 5"
        )
        assert raised.value.exit_code == 5
        assert "newer release" in raised.value.hint


def test_a_refusal_is_the_version_byte_alone_and_is_reported_as_one() -> None:
    assert bytes([VERSION]) == REFUSAL
    with pytest.raises(AuthenticationFailed, match="refused the handshake"):
        dialler().receive(REFUSAL)


def test_a_stream_that_ends_without_an_answer_is_reported() -> None:
    with pytest.raises(AuthenticationFailed, match="before it answered"):
        dialler().receive(b"")


def test_an_unknown_answer_is_refused() -> None:
    dialling, listening = dialler(), listener()
    listening.read_static(dialling.message())
    listening.read_hello([PSK])
    message, _ = listening.answer(Reply(5, bytes(16)))  # type: ignore[arg-type]
    with pytest.raises(AuthenticationFailed, match="unknown answer code"):
        dialling.receive(message)


def test_a_replayed_message_1_is_answered_and_no_record_can_follow() -> None:
    dialling, first = dialler(), listener()
    message = dialling.message()
    first.read_static(message)
    first.read_hello([PSK])
    reply, _ = first.answer(REPLY)
    _, records = dialling.receive(reply)
    recorded = records.encode(b"the dialler's first record")

    # The listener cannot notice yet: the message is the dialler's own, byte for byte.
    second = listener(ephemeral=bytes([10]) * 32)
    second.read_static(message)
    assert second.read_hello([PSK]) == (0, HELLO)
    _, records = second.answer(REPLY)
    with pytest.raises(AuthenticationFailed):
        list(records.decode(recorded))
