"""Version 5 of the protocol, byte for byte, by another implementation that knew only docs/PROTOCOL.md and Noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from onionmpc.identity import Identity, x25519_public_from_ed25519
from onionmpc.session.invite import Invite, format_invite, parse_invite
from onionmpc.wire.frames import Channel, Data, Padding, Ping, decode_frames
from onionmpc.wire.handshake import Answer, DiallerHandshake, Hello, ListenerHandshake, Purpose, Reply, link_id
from onionmpc.wire.records import FILLED_RECORD_BYTES, Records
from tests.support.keys import x25519_public

VECTOR: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "onionmpc-5.json").read_text())


def value(name: str) -> bytes:
    return bytes.fromhex(VECTOR[name])


DIALLER, LISTENER = Identity(value("dialler_seed")), Identity(value("listener_seed"))
HELLO = Hello(
    DIALLER.public_key,
    Purpose(VECTOR["purpose"]),
    value("dialler_nonce"),
    value("link_id"),
    tuple(VECTOR["dialler_offsets"]),
)
REPLY = Reply(Answer(VECTOR["answer"]), value("listener_nonce"), tuple(VECTOR["listener_offsets"]))


def dialling() -> DiallerHandshake:
    peer = LISTENER.public_key
    return DiallerHandshake(DIALLER, peer, value("psk"), HELLO, ephemeral=value("dialler_ephemeral"))


def listening() -> ListenerHandshake:
    return ListenerHandshake(LISTENER, ephemeral=value("listener_ephemeral"))


def shake() -> dict[str, Records]:
    """Check the handshake, and return the records of both ends."""
    dialler, listener = dialling(), listening()
    assert dialler.message() == value("message_1")
    assert listener.read_static(value("message_1")) == value("dialler_x25519")
    assert listener.read_hello([value("psk")]) == (0, HELLO)
    message, listener_records = listener.answer(REPLY)
    assert message == value("message_2")
    reply, dialler_records = dialler.receive(message)
    assert reply == REPLY
    assert dialler.stream == listener.stream == VECTOR["stream"]
    return {"dialler": dialler_records, "listener": listener_records}


def test_identities() -> None:
    for role, one in (("dialler", DIALLER), ("listener", LISTENER)):
        assert one.onion == VECTOR[f"{role}_onion"]
        assert x25519_public(one) == x25519_public_from_ed25519(one.public_key) == value(f"{role}_x25519")


def test_link_id_hashes_the_lower_partys_nonce_first() -> None:
    nonces = {DIALLER.onion: HELLO.nonce, LISTENER.onion: REPLY.nonce}
    lower, higher = (nonces[onion] for onion in sorted(nonces))
    assert link_id(lower, higher) == value("link_id")
    # The ids of another session, and with the nonces swapped, differ.
    assert value("link_id") not in (link_id(higher, lower), link_id(lower, bytes(16)), link_id(bytes(16), higher))


def test_handshake_and_records() -> None:
    ends = shake()
    for said in VECTOR["records"]:
        plaintext, record = bytes.fromhex(said["plaintext"]), bytes.fromhex(said["record"])
        (hearer,) = (role for role in ends if role != said["from"])
        assert ends[said["from"]].encode(plaintext) == record
        assert list(ends[hearer].decode(record)) == [plaintext]


def test_content_of_the_records() -> None:
    frames = [list(decode_frames(bytes.fromhex(said["plaintext"]))) for said in VECTOR["records"]]
    hello = Data(Channel.DATA, 2, b"hello")
    assert frames == [[Ping(7)], [hello, Padding(480 - 17)], [hello]]
    assert len(bytes.fromhex(VECTOR["records"][1]["record"])) == FILLED_RECORD_BYTES


def test_invite() -> None:
    invite = Invite(LISTENER.onion, value("seat_secret"))
    assert format_invite(invite) == VECTOR["invite"]
    assert parse_invite(VECTOR["invite"]) == invite
    assert invite.psk() == value("seat_psk")
