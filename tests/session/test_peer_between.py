"""A session with one peer between two computations: what it sends ahead is kept, bounded, and taken later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from onionmpc.errors import RemoteProtocolError
from onionmpc.session.messages import MAX_HELD_BYTES, AnyMessage, Commit, Done, Leaving, Offer, Report, Signed, Waiting
from onionmpc.session.messages import encode_message as encode
from onionmpc.session.peer import PeerSession, Phase
from tests.support.messages import EXAMPLES, FIRST, LOWER, PROPOSAL
from tests.support.peers import a_message, finish, in_first, in_further, name_of, numbered_proposal


class Make(Protocol):
    def __call__(self, *, receipt: bool) -> PeerSession: ...


def ahead(*, receipt: bool = False) -> PeerSession:
    """A peer that has proposed the second computation before this party has begun it."""
    peer = in_first(receipt=receipt)
    finish(peer, FIRST, receipt=receipt)
    assert list(peer.receive(encode(PROPOSAL))) == [PROPOSAL]
    assert peer.phase is Phase.AHEAD
    return peer


def outcome(messages: Iterator[AnyMessage]) -> tuple[list[AnyMessage], str | None]:
    """Return the messages, and what the peer is blamed for after them."""
    taken: list[AnyMessage] = []
    try:
        taken.extend(messages)
    except RemoteProtocolError as error:
        return taken, error.message
    return taken, None


def test_the_next_offer_is_apart_from_this_one_until_the_next_computation_begins() -> None:
    peer = ahead()
    assert (peer.offer, peer.next_offer, peer.is_done) == (FIRST, PROPOSAL, True)
    assert list(peer.begin_next()) == [PROPOSAL]
    assert (peer.offer, peer.next_offer, peer.phase, peer.is_done) == (PROPOSAL, None, Phase.OFFERED, False)
    assert (peer.commit, peer.signed) == (None, None)


@pytest.mark.parametrize("said", EXAMPLES, ids=name_of)
def test_what_comes_ahead_waits_and_is_judged_when_its_computation_begins(said: AnyMessage) -> None:
    peer = ahead()
    assert list(peer.receive(encode(said))) == []
    assert peer.phase is Phase.AHEAD
    twin = in_further(receipt=False)
    assert list(twin.receive(encode(PROPOSAL))) == [PROPOSAL]
    expected, error = outcome(twin.receive(encode(said)))
    assert outcome(peer.begin_next()) == ([PROPOSAL, *expected], error)
    assert peer.phase is twin.phase


def test_all_that_came_in_one_piece_is_taken_in_order() -> None:
    peer = in_first(receipt=False)
    finish(peer, FIRST, receipt=False)
    report, commit = a_message(Report), a_message(Commit)
    whole = b"".join(map(encode, (PROPOSAL, LOWER, report, commit)))
    assert list(peer.receive(whole)) == [PROPOSAL]
    assert list(peer.begin_next()) == [PROPOSAL, LOWER, report, commit]
    assert (peer.offer, peer.phase) == (LOWER, Phase.COMMITTED)


def test_half_a_message_waits_for_its_other_half() -> None:
    peer, whole = ahead(), encode(a_message(Commit))
    assert list(peer.receive(whole[:9])) == []
    assert list(peer.begin_next()) == [PROPOSAL]
    assert list(peer.receive(whole[9:])) == [a_message(Commit)]


def test_nothing_that_waits_is_decoded_even_if_it_is_no_message() -> None:
    peer = ahead()
    assert list(peer.receive(b"\x00\x00\x00\x01{")) == []
    with pytest.raises(RemoteProtocolError, match="cannot be decoded"):
        list(peer.begin_next())
    assert peer.phase is Phase.ERROR


def test_what_waits_is_bounded() -> None:
    peer, piece = ahead(), bytes(2**16)
    for _ in range(MAX_HELD_BYTES // len(piece)):
        assert list(peer.receive(piece)) == []
    with pytest.raises(RemoteProtocolError, match=f"more than {MAX_HELD_BYTES} bytes for the next computation"):
        list(peer.receive(b"."))
    assert peer.phase is Phase.ERROR
    assert not peer._decoder._received, "what a peer in ERROR has sent is not kept"
    assert list(peer.receive(piece)) == []


@pytest.mark.parametrize("receipt", [False, True])
def test_a_peer_may_compute_any_number_of_times_and_leave_after_each(receipt: bool) -> None:
    peer = in_first(receipt=receipt)
    finish(peer, FIRST, receipt=receipt)
    for number in range(5):
        assert list(peer.begin_next()) == []
        finish(peer, numbered_proposal(number), receipt=receipt)
        assert peer.nonce.hex() == f"{number:032x}"
    assert list(peer.receive(encode(Leaving()))) == [Leaving()]
    assert (peer.phase, peer.is_done) == (Phase.LEFT, True)


def test_a_peer_that_has_left_is_not_back_in_the_next_computation() -> None:
    peer = in_first(receipt=False)
    finish(peer, FIRST, receipt=False)
    assert list(peer.receive(encode(Leaving()))) == [Leaving()]
    assert list(peer.begin_next()) == []
    assert (peer.phase, peer.offer) == (Phase.LEFT, None)
    with pytest.raises(RemoteProtocolError, match="it sent Offer when that was not expected"):
        list(peer.receive(encode(PROPOSAL)))


def test_a_peer_that_broke_a_rule_is_not_back_in_the_next_computation() -> None:
    peer = ahead()
    peer.fail()
    assert list(peer.begin_next()) == []
    assert list(peer.receive(encode(PROPOSAL))) == []
    assert peer.phase is Phase.ERROR


def test_a_signature_that_comes_after_this_party_went_on_is_dropped() -> None:
    peer = in_first(receipt=True)
    for said in (FIRST, a_message(Commit), a_message(Done)):
        assert list(peer.receive(encode(said))) == [said]
    assert peer.phase is Phase.DONE
    assert list(peer.begin_next()) == []
    late = a_message(Signed)
    assert list(peer.receive(encode(late))) == [late]
    assert (peer.phase, peer.signed) == (Phase.CONNECTED, None)
    finish(peer, PROPOSAL, receipt=True)
    assert peer.signed == late
    assert list(peer.begin_next()) == []
    with pytest.raises(RemoteProtocolError, match="it sent Signed when that was not expected"):
        list(peer.receive(encode(late)))


def test_the_message_of_a_running_program_does_not_count_in_the_next_computation() -> None:
    peer = in_further(receipt=False)
    with pytest.raises(RemoteProtocolError, match="it sent Waiting when that was not expected"):
        list(peer.receive(encode(a_message(Waiting))))


def test_a_peer_offers_again_only_for_a_lower_proposer_so_that_it_comes_to_an_end() -> None:
    for again in (PROPOSAL, numbered_proposal(7)):
        peer = in_further(receipt=False)
        assert list(peer.receive(encode(PROPOSAL))) == [PROPOSAL]
        with pytest.raises(RemoteProtocolError, match="but not those of a lower party"):
            list(peer.receive(encode(again)))
    peer = in_further(receipt=False)
    assert list(peer.receive(encode(LOWER))) == [LOWER]
    with pytest.raises(RemoteProtocolError, match="but not those of a lower party"):
        list(peer.receive(encode(PROPOSAL)))


@pytest.mark.parametrize(("make", "offer"), [(in_first, PROPOSAL), (in_further, FIRST)], ids=["first", "further"])
def test_an_offer_belongs_to_its_kind_of_computation(make: Make, offer: Offer) -> None:
    peer = make(receipt=False)
    with pytest.raises(RemoteProtocolError, match="it sent an offer of another computation"):
        list(peer.receive(encode(offer)))
