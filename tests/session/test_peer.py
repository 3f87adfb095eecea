"""A session with one peer: every message in every phase of a computation, and bytes that are no message.

Between two computations: tests/session/test_peer_between.py.
"""

from __future__ import annotations

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.session.messages import AnyMessage, Commit, Done, Leaving, Moving, Offer, Signed, Verdict, Waiting
from onionmpc.session.messages import encode_message as encode
from onionmpc.session.peer import PeerSession, Phase
from tests.support.messages import EXAMPLES, PROPOSAL
from tests.support.peers import ALWAYS, NONCE, a_message, in_first, in_further, name_of

# What brings a peer to a phase, with a receipt.
STEPS: dict[Phase, list[type[AnyMessage]]] = {
    Phase.CONNECTED: [],
    Phase.OFFERED: [Offer],
    Phase.COMMITTED: [Offer, Commit],
    Phase.DONE: [Offer, Commit, Done],
    Phase.SIGNED: [Offer, Commit, Done, Signed],
    Phase.LEFT: [Offer, Commit, Done, Signed, Leaving],
}
WITHOUT_RECEIPT = {phase: [kind for kind in kinds if kind is not Signed] for phase, kinds in STEPS.items()}
del WITHOUT_RECEIPT[Phase.SIGNED]
# What it may say there, and where it is then.
Legal = dict[Phase, dict[str, Phase]]
COMPUTING: Legal = {
    Phase.CONNECTED: {"Offer": Phase.OFFERED},
    Phase.OFFERED: {"Commit": Phase.COMMITTED},
    Phase.COMMITTED: {"Waiting": Phase.COMMITTED, "Moving": Phase.COMMITTED, "Done": Phase.DONE},
    Phase.DONE: {"Signed": Phase.SIGNED},
    Phase.SIGNED: {"next Offer": Phase.AHEAD, "lower Offer": Phase.AHEAD, "Leaving": Phase.LEFT},
    Phase.LEFT: {},
}
WITHOUT: Legal = {**COMPUTING, Phase.DONE: COMPUTING[Phase.SIGNED]}
del WITHOUT[Phase.SIGNED]
FURTHER: Legal = {
    Phase.CONNECTED: {"next Offer": Phase.OFFERED, "lower Offer": Phase.OFFERED, "Leaving": Phase.LEFT},
    Phase.OFFERED: {"lower Offer": Phase.OFFERED, "Commit": Phase.COMMITTED},
}
# The computation, whether there is a receipt, and what is legal.
CASES = {
    "first, receipt": (in_first, True, COMPUTING),
    "first": (in_first, False, WITHOUT),
    "further, receipt": (in_further, True, {**COMPUTING, **FURTHER}),
    "further": (in_further, False, {**WITHOUT, **FURTHER}),
}
EACH = [(case, phase) for case, (_, receipt, _) in CASES.items() for phase in (STEPS if receipt else WITHOUT_RECEIPT)]


def peer_in(case: str, phase: Phase) -> PeerSession:
    make, receipt, _ = CASES[case]
    peer = make(receipt=receipt)
    for kind in (STEPS if receipt else WITHOUT_RECEIPT)[phase]:
        said = PROPOSAL if kind is Offer and make is in_further else a_message(kind)
        assert list(peer.receive(encode(said))) == [said]
    assert peer.phase is phase
    return peer


def test_this_table_covers_every_phase() -> None:
    assert {*COMPUTING, Phase.AHEAD, Phase.ERROR} == set(Phase)


@pytest.mark.parametrize("said", EXAMPLES, ids=name_of)
@pytest.mark.parametrize(("case", "phase"), EACH, ids=lambda value: getattr(value, "name", value))
def test_each_message_in_each_phase(case: str, phase: Phase, said: AnyMessage) -> None:
    peer = peer_in(case, phase)
    after = phase if isinstance(said, ALWAYS) else CASES[case][2][phase].get(name_of(said))
    if after is None:
        with pytest.raises(RemoteProtocolError, match=r"it (sent|offered) .*(when that was not|another|again)"):
            list(peer.receive(encode(said)))
        assert peer.phase is Phase.ERROR
    else:
        assert list(peer.receive(encode(said))) == [said]
        assert peer.phase is after


@pytest.mark.parametrize("said", EXAMPLES, ids=name_of)
def test_a_peer_that_broke_a_rule_is_ignored(said: AnyMessage) -> None:
    peer = peer_in("first", Phase.COMMITTED)
    peer.fail()
    assert list(peer.receive(encode(said))) == []
    assert peer.phase is Phase.ERROR


def test_messages_before_an_offence_count_and_none_after_it() -> None:
    peer = in_first(receipt=True)
    offer, verdict = encode(a_message(Offer)), encode(a_message(Verdict))
    taken: list[AnyMessage] = []
    with pytest.raises(RemoteProtocolError, match="it sent Offer when that was not expected"):
        taken.extend(peer.receive(verdict + offer + offer + verdict))
    assert taken == [a_message(Verdict), a_message(Offer)]
    assert list(peer.receive(verdict)) == []


def test_bytes_that_are_not_a_message_are_an_offence() -> None:
    peer = in_first(receipt=True)
    with pytest.raises(RemoteProtocolError, match="cannot be decoded"):
        list(peer.receive(b"\x00\x00\x00\x01{"))
    assert peer.phase is Phase.ERROR


@pytest.mark.parametrize(("case", "offer"), [("first, receipt", a_message(Offer)), ("further, receipt", PROPOSAL)])
def test_a_peer_remembers_what_it_offered_committed_to_and_signed(case: str, offer: AnyMessage) -> None:
    peer = peer_in(case, Phase.SIGNED)
    assert (peer.offer, peer.commit, peer.signed) == (offer, a_message(Commit), a_message(Signed))
    fresh = peer_in(case, Phase.CONNECTED)
    assert (fresh.offer, fresh.commit, fresh.signed) == (None, None, None)


def test_the_nonce_of_a_computation_is_that_of_the_handshake_or_of_its_offer() -> None:
    assert peer_in("first", Phase.DONE).nonce == NONCE
    assert PROPOSAL.further is not None
    assert peer_in("further", Phase.OFFERED).nonce.hex() == PROPOSAL.further.nonce


@pytest.mark.parametrize(("case", "phase"), EACH, ids=lambda value: getattr(value, "name", value))
def test_a_peer_stays_done_until_it_breaks_a_rule(case: str, phase: Phase) -> None:
    peer = peer_in(case, phase)
    assert peer.is_done == (phase in (Phase.DONE, Phase.SIGNED, Phase.LEFT))
    peer.fail()
    assert not peer.is_done


def test_messages_come_in_any_pieces() -> None:
    peer = in_first(receipt=True)
    stream = b"".join(encode(a_message(kind)) for kind in STEPS[Phase.LEFT])
    taken = [said for byte in stream for said in peer.receive(bytes([byte]))]
    assert taken == [a_message(kind) for kind in STEPS[Phase.LEFT]]


def test_a_program_may_wait_and_move_on_many_times() -> None:
    peer = peer_in("first", Phase.COMMITTED)
    for kind in (Waiting, Moving, Waiting, Waiting, Moving, Moving):
        assert list(peer.receive(encode(a_message(kind)))) == [a_message(kind)]
