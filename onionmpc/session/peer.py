"""A session with one peer, as a state machine without I/O: what it has sent, and what it may send next.

Bytes of the control channel come in; messages in their right order come out. onionmpc.session.dispatch acts on them.
Rules: docs/PROTOCOL.md section 4, "Phases".
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from onionmpc.errors import RemoteProtocolError
from onionmpc.session.messages import (
    AnyMessage,
    Commit,
    Done,
    Leaving,
    Message,
    MessageDecoder,
    Moving,
    Offer,
    OwnSide,
    Rendezvous,
    Report,
    Signed,
    Verdict,
    Waiting,
)


class Phase(enum.Enum):
    """How far a peer has come, judged by the messages that it has sent.

    There is no phase for a running program: it starts when all parties have committed, and no message says so.
    """

    CONNECTED = enum.auto()  # its link is up, and it has made no offer for this computation
    OFFERED = enum.auto()
    COMMITTED = enum.auto()  # it and its user agreed; its program may run
    DONE = enum.auto()  # its program succeeded
    SIGNED = enum.auto()
    AHEAD = enum.auto()  # it has made an offer for the next computation
    LEFT = enum.auto()  # it takes part in no further computation
    ERROR = enum.auto()  # it broke the rules; its messages are ignored


Moves = Mapping[type[Message], Phase]

# Circuits come and go, and a party can fail, at any time.
IN_ANY_PHASE = (Rendezvous, OwnSide, Report, Verdict)
FINISHED: Moves = MappingProxyType({Offer: Phase.AHEAD, Leaving: Phase.LEFT})
# The other messages that a peer may send in each phase, and the phase that each leads to.
TRANSITIONS: Mapping[Phase, Moves] = MappingProxyType(
    {
        Phase.CONNECTED: {Offer: Phase.OFFERED},
        Phase.OFFERED: {Commit: Phase.COMMITTED},
        Phase.COMMITTED: {Waiting: Phase.COMMITTED, Moving: Phase.COMMITTED, Done: Phase.DONE},
        Phase.DONE: FINISHED,
        Phase.LEFT: {},
    }
)
WITH_RECEIPT: Mapping[Phase, Moves] = MappingProxyType({Phase.DONE: {Signed: Phase.SIGNED}, Phase.SIGNED: FINISHED})
# This party waited for the signature in vain and went on; it comes now, and is dropped.
SIGNED_LATE: Moves = MappingProxyType({Signed: Phase.CONNECTED})
# From the second computation on, a peer may leave before it offers, or offer the terms of another proposer.
FURTHER: Mapping[Phase, Moves] = MappingProxyType(
    {
        Phase.CONNECTED: {Offer: Phase.OFFERED, Leaving: Phase.LEFT},
        Phase.OFFERED: {Offer: Phase.OFFERED, Commit: Phase.COMMITTED},
    }
)
FINAL = (Phase.LEFT, Phase.ERROR)


class PeerSession:
    """The state of the session with one peer.

    Args:
        nonce: the peer's contribution to the id of links and of the first session id, 16 bytes.
        receipt: whether this party wants a receipt, for which each party sends its signature.

    Attributes:
        offer, commit, signed: the messages of these kinds in this computation, None until they arrive.
        next_offer: its offer for the next computation, if it is AHEAD.
    """

    def __init__(self, nonce: bytes, *, receipt: bool) -> None:
        self.phase = Phase.CONNECTED
        self.offer: Offer | None = None
        self.commit: Commit | None = None
        self.signed: Signed | None = None
        self.next_offer: Offer | None = None
        self._nonce = nonce
        self._is_further = False
        self._transitions = {**TRANSITIONS, **(WITH_RECEIPT if receipt else {})}
        self._awaits_signature = receipt
        self._decoder = MessageDecoder()

    @property
    def nonce(self) -> bytes:
        """The peer's contribution to the session id of this computation, 16 bytes."""
        if self.offer is None or self.offer.further is None:
            return self._nonce
        return bytes.fromhex(self.offer.further.nonce)

    @property
    def is_done(self) -> bool:
        """True if its program succeeded and it has kept to the rules."""
        return self.phase in (Phase.DONE, Phase.SIGNED, Phase.AHEAD, Phase.LEFT)

    def receive(self, payload: bytes) -> Iterator[AnyMessage]:
        """Take the next bytes of the control channel; yield each complete message of this computation.

        In AHEAD, the bytes are kept for `begin_next`. In ERROR, they are dropped.

        Raises:
            RemoteProtocolError: a message is out of order, or cannot be decoded. The phase is ERROR from then on.
        """
        if self.phase is Phase.ERROR:
            return
        try:
            if self.next_offer is not None:
                self._decoder.hold(payload)
                return
            for message in self._decoder.decode(payload):
                self._take(message)
                yield message
                if self.next_offer is not None:
                    break
        except RemoteProtocolError:
            self.fail()
            raise

    def begin_next(self) -> Iterator[AnyMessage]:
        """Begin the next computation; yield what the peer has sent for it already. Raises as `receive` does."""
        offer, self.next_offer = self.next_offer, None
        signs_late = self._awaits_signature and self.phase is Phase.DONE
        self.offer = self.commit = self.signed = None
        self._is_further = True
        self._transitions |= FURTHER
        if signs_late:
            self._transitions[Phase.CONNECTED] = {**FURTHER[Phase.CONNECTED], **SIGNED_LATE}
        if self.phase not in FINAL:
            self.phase = Phase.CONNECTED
        if offer is not None and self.phase is Phase.CONNECTED:
            self._take(offer)
            yield offer
            yield from self.receive(b"")

    def leave(self) -> None:
        """Note that the peer takes part in no further computation."""
        if self.phase is not Phase.ERROR:
            self.phase = Phase.LEFT

    def fail(self) -> None:
        """Ignore this peer from now on, because it broke a rule that is checked elsewhere."""
        self.phase = Phase.ERROR
        self._decoder = MessageDecoder()  # it may hold a lot

    def _take(self, message: AnyMessage) -> None:
        if not isinstance(message, IN_ANY_PHASE):
            after = self._transitions[self.phase].get(type(message))
            if after is None:
                raise RemoteProtocolError(f"it sent {type(message).__name__} when that was not expected")
            self.phase = after
        match message:
            case Offer():
                self._take_offer(message)
            case Commit():
                self.commit = message
            case Signed() if self.phase is Phase.SIGNED:
                self.signed = message

    def _take_offer(self, offer: Offer) -> None:
        is_further = self._is_further or self.phase is Phase.AHEAD
        if (offer.further is not None) != is_further:
            raise RemoteProtocolError("it sent an offer of another computation")
        before = None if self.offer is None else self.offer.further
        # Otherwise a peer could have others begin again without end.
        if self.phase is Phase.OFFERED and before and offer.further and offer.further.proposer >= before.proposer:
            raise RemoteProtocolError("it offered other terms again, but not those of a lower party")
        if self.phase is Phase.AHEAD:
            self.next_offer = offer
        else:
            self.offer = offer
