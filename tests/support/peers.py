"""Messages of one peer in the first and in further computations, and peers that have come to these."""

from __future__ import annotations

from typing import cast

import msgspec

from onionmpc.session.messages import (
    AnyMessage,
    Commit,
    Done,
    Further,
    Offer,
    OwnSide,
    Rendezvous,
    Report,
    Signed,
    Verdict,
    encode_message,
)
from onionmpc.session.peer import PeerSession
from tests.support.messages import EXAMPLES, FIRST, LOWER, PROPOSAL

NONCE = bytes(range(16))
ALWAYS = (Rendezvous, OwnSide, Report, Verdict)
TO_THE_END: list[type[AnyMessage]] = [Commit, Done, Signed]


def name_of(said: AnyMessage) -> str:
    """Return the kind of a message; of offers, also which one it is."""
    if said is PROPOSAL or said is LOWER:
        return "next Offer" if said is PROPOSAL else "lower Offer"
    return type(said).__name__


def a_message(kind: type[AnyMessage]) -> AnyMessage:
    """Return the first message of this kind; of offers, that of the first computation."""
    return next(message for message in EXAMPLES if type(message) is kind)


def numbered_proposal(number: int) -> Offer:
    """Return a proposal of the peer at b.onion with a nonce of its own."""
    further = msgspec.structs.replace(cast(Further, PROPOSAL.further), nonce=f"{number:032x}")
    return msgspec.structs.replace(PROPOSAL, further=further)


def in_first(*, receipt: bool) -> PeerSession:
    """Return a peer whose link has just come up."""
    return PeerSession(NONCE, receipt=receipt)


def finish(peer: PeerSession, offer: Offer, *, receipt: bool) -> None:
    """Have a peer say all that belongs to a computation."""
    ending = [a_message(kind) for kind in TO_THE_END if receipt or kind is not Signed]
    for said in (offer, *ending):
        assert list(peer.receive(encode_message(said))) == [said]


def in_further(*, receipt: bool) -> PeerSession:
    """Return a peer with which this party has begun the second computation."""
    peer = in_first(receipt=receipt)
    finish(peer, FIRST, receipt=receipt)
    assert list(peer.begin_next()) == []
    return peer
