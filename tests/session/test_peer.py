"""A session with one peer: every message in every phase, and bytes that are no message."""

from __future__ import annotations

from typing import get_args

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.spec import Wait
from onionmpc.session.agreement import PartyTerms
from onionmpc.session.messages import (
    AnyMessage,
    Commit,
    Done,
    Moving,
    Offer,
    OwnSide,
    Refused,
    Rendezvous,
    Report,
    Seats,
    Signed,
    Terms,
    Verdict,
    Waiting,
    encode_message,
)
from onionmpc.session.peer import PeerSession, Phase
from tests.support.messages import COMMON

NONCE = bytes(range(16))
MESSAGES: list[AnyMessage] = [
    Seats(2, 3),
    Refused("no"),
    Terms(COMMON, "5e" * 32, {}),
    Offer(COMMON, PartyTerms()),
    Commit("00" * 32),
    Rendezvous(1, "A" * 40),
    OwnSide(1, 3),
    Waiting(Wait((1,), (), ending=False, failed=False, sent=("0", "1"), received=("0", "2"))),
    Moving(),
    Done(),
    Signed("00" * 32, "00" * 64),
    Report("a", "b", "lost", "run"),
    Verdict(()),
]
# What brings a peer to a phase.
STEPS: dict[Phase, list[type[AnyMessage]]] = {
    Phase.CONNECTED: [],
    Phase.OFFERED: [Offer],
    Phase.COMMITTED: [Offer, Commit],
    Phase.DONE: [Offer, Commit, Done],
    Phase.SIGNED: [Offer, Commit, Done, Signed],
}
ALWAYS = [Rendezvous, OwnSide, Report, Verdict]
# What it may say there, and where it is then.
LEGAL: dict[Phase, dict[type[AnyMessage], Phase]] = {
    Phase.CONNECTED: {Offer: Phase.OFFERED},
    Phase.OFFERED: {Commit: Phase.COMMITTED},
    Phase.COMMITTED: {Waiting: Phase.COMMITTED, Moving: Phase.COMMITTED, Done: Phase.DONE},
    Phase.DONE: {Signed: Phase.SIGNED},
    Phase.SIGNED: {},
}


def message(kind: type[AnyMessage]) -> AnyMessage:
    (found,) = (message for message in MESSAGES if type(message) is kind)
    return found


def peer_in(phase: Phase, *, receipt: bool = True) -> PeerSession:
    peer = PeerSession(NONCE, receipt=receipt)
    for kind in STEPS[phase]:
        assert list(peer.receive(encode_message(message(kind)))) == [message(kind)]
    assert peer.phase is phase
    return peer


def test_this_table_covers_every_message_and_every_phase() -> None:
    assert {type(message) for message in MESSAGES} == set(get_args(AnyMessage))
    assert {*LEGAL, Phase.ERROR} == set(Phase)


@pytest.mark.parametrize("said", MESSAGES, ids=lambda said: type(said).__name__)
@pytest.mark.parametrize("phase", STEPS, ids=lambda phase: phase.name)
def test_each_message_in_each_phase(phase: Phase, said: AnyMessage) -> None:
    peer = peer_in(phase)
    kind = type(said)
    after = phase if kind in ALWAYS else LEGAL[phase].get(kind)
    if after is None:
        with pytest.raises(RemoteProtocolError) as caught:
            list(peer.receive(encode_message(said)))
        assert caught.value.message == f"it sent {kind.__name__} when that was not expected"
        assert peer.phase is Phase.ERROR
    else:
        assert list(peer.receive(encode_message(said))) == [said]
        assert peer.phase is after


@pytest.mark.parametrize("phase", STEPS, ids=lambda phase: phase.name)
def test_a_signature_without_an_agreed_receipt_is_refused(phase: Phase) -> None:
    if phase is Phase.SIGNED:
        phase = Phase.DONE
    peer = peer_in(phase, receipt=False)
    with pytest.raises(RemoteProtocolError, match="it sent Signed when that was not expected"):
        list(peer.receive(encode_message(message(Signed))))


@pytest.mark.parametrize("said", MESSAGES, ids=lambda said: type(said).__name__)
def test_a_peer_that_broke_a_rule_is_ignored(said: AnyMessage) -> None:
    peer = peer_in(Phase.COMMITTED)
    peer.fail()
    assert list(peer.receive(encode_message(said))) == []
    assert peer.phase is Phase.ERROR


def test_messages_before_an_offence_count_and_none_after_it() -> None:
    peer = PeerSession(NONCE, receipt=True)
    offer, verdict = encode_message(message(Offer)), encode_message(message(Verdict))
    taken: list[AnyMessage] = []
    with pytest.raises(RemoteProtocolError, match="it sent Offer when that was not expected"):
        taken.extend(peer.receive(verdict + offer + offer + verdict))
    assert taken == [message(Verdict), message(Offer)]
    assert list(peer.receive(verdict)) == []


def test_bytes_that_are_not_a_message_are_an_offence() -> None:
    peer = PeerSession(NONCE, receipt=True)
    with pytest.raises(RemoteProtocolError, match="cannot be decoded"):
        list(peer.receive(b"\x00\x00\x00\x01{"))
    assert peer.phase is Phase.ERROR


def test_a_peer_remembers_what_it_offered_committed_to_and_signed() -> None:
    peer = peer_in(Phase.SIGNED)
    said = (message(Offer), message(Commit), message(Signed))
    assert (peer.nonce, peer.offer, peer.commit, peer.signed) == (NONCE, *said)
    fresh = peer_in(Phase.CONNECTED)
    assert (fresh.offer, fresh.commit, fresh.signed) == (None, None, None)


@pytest.mark.parametrize("phase", STEPS, ids=lambda phase: phase.name)
def test_a_peer_stays_done_until_it_breaks_a_rule(phase: Phase) -> None:
    peer = peer_in(phase)
    assert peer.is_done == (phase in (Phase.DONE, Phase.SIGNED))
    peer.fail()
    assert not peer.is_done


def test_messages_come_in_any_pieces() -> None:
    peer = PeerSession(NONCE, receipt=True)
    stream = b"".join(encode_message(message(kind)) for kind in STEPS[Phase.SIGNED])
    taken = [said for byte in stream for said in peer.receive(bytes([byte]))]
    assert taken == [message(kind) for kind in STEPS[Phase.SIGNED]]
