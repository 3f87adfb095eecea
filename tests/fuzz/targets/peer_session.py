"""One peer in any number of computations: RemoteProtocolError and silence after it, or each message once and in order.

Whatever it sends, however it is cut, and whenever this party begins the next computation; and what waits is bounded.
"""

from __future__ import annotations

from onionmpc.errors import RemoteProtocolError
from onionmpc.session.messages import MAX_HELD_BYTES, AnyMessage, encode_message
from onionmpc.session.peer import PeerSession, Phase
from tests.fuzz.mutations import steps
from tests.support.messages import EXAMPLES
from tests.support.peers import NONCE

STEP_BYTES = 2
INPUTS = steps(STEP_BYTES, 60)
REFUSALS = (RemoteProtocolError,)


def check(data: bytes) -> object:
    """The first byte says whether there is a receipt; each two more are a message and its cut, or a beginning."""
    peer = PeerSession(NONCE, receipt=bool(data[:1] and data[0] % 2))
    said: list[AnyMessage] = []
    taken: list[AnyMessage] = []
    try:
        for at in range(1, len(data) - STEP_BYTES + 1, STEP_BYTES):
            what, cut = data[at : at + STEP_BYTES]
            # As many begin the next computation as send one kind of message: a computation has four.
            if what % (len(EXAMPLES) + 4) >= len(EXAMPLES):
                begin(peer, taken)
                continue
            message = EXAMPLES[what % (len(EXAMPLES) + 4)]
            said.append(message)
            encoded = encode_message(message)
            for piece in (encoded[:cut], encoded[cut:]):
                taken.extend(peer.receive(piece))
            assert taken == said[: len(taken)]
            assert (peer.next_offer is not None) == (peer.phase is Phase.AHEAD)
            assert peer.next_offer is None or peer.is_done
            assert len(peer._decoder._received) <= MAX_HELD_BYTES
    except RemoteProtocolError:
        assert peer.phase is Phase.ERROR
        assert taken == said[: len(taken)]
        assert list(peer.receive(encode_message(EXAMPLES[0]))) == []
        assert list(peer.begin_next()) == []
        assert not peer.is_done
        raise
    if peer.phase is not Phase.AHEAD:
        assert taken == said
    return peer.phase


def begin(peer: PeerSession, taken: list[AnyMessage]) -> None:
    """Begin the next computation, as a party does that has a result."""
    if not peer.is_done:
        return
    ahead = peer.next_offer
    # What the peer has ahead was taken when it came.
    taken.extend(message for message in peer.begin_next() if message is not ahead)
