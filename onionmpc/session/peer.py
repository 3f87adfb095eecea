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

    CONNECTED = enum.auto()  # its link is up, and it has made no offer
    OFFERED = enum.auto()
    COMMITTED = enum.auto()  # it and its user agreed; its program may run
    DONE = enum.auto()  # its program succeeded
    SIGNED = enum.auto()
    ERROR = enum.auto()  # it broke the rules; its messages are ignored


Moves = Mapping[type[Message], Phase]

# Circuits come and go, and a party can fail, at any time.
IN_ANY_PHASE = (Rendezvous, OwnSide, Report, Verdict)
# The other messages that a peer may send in each phase, and the phase that each leads to.
TRANSITIONS: Mapping[Phase, Moves] = MappingProxyType(
    {
        Phase.CONNECTED: {Offer: Phase.OFFERED},
        Phase.OFFERED: {Commit: Phase.COMMITTED},
        Phase.COMMITTED: {Waiting: Phase.COMMITTED, Moving: Phase.COMMITTED, Done: Phase.DONE},
        Phase.DONE: {Signed: Phase.SIGNED},
        Phase.SIGNED: {},
    }
)
TRANSITIONS_WITHOUT_RECEIPT: Mapping[Phase, Moves] = MappingProxyType({**TRANSITIONS, Phase.DONE: {}})


class PeerSession:
    """The state of the session with one peer.

    Args:
        nonce: the peer's contribution to the session id, 16 bytes.
        receipt: whether this party wants a receipt, for which each party sends its signature.

    Attributes:
        offer, commit, signed: the messages of these kinds, None until they arrive.
    """

    def __init__(self, nonce: bytes, *, receipt: bool) -> None:
        self.nonce = nonce
        self.phase = Phase.CONNECTED
        self.offer: Offer | None = None
        self.commit: Commit | None = None
        self.signed: Signed | None = None
        self._transitions = TRANSITIONS if receipt else TRANSITIONS_WITHOUT_RECEIPT
        self._decoder = MessageDecoder()

    @property
    def is_done(self) -> bool:
        """True if its program succeeded and it has kept to the rules."""
        return self.phase in (Phase.DONE, Phase.SIGNED)

    def receive(self, payload: bytes) -> Iterator[AnyMessage]:
        """Take the next bytes of the control channel; yield each complete message. In ERROR, yield nothing.

        Raises:
            RemoteProtocolError: a message is out of order, or cannot be decoded. The phase is ERROR from then on.
        """
        if self.phase is Phase.ERROR:
            return
        try:
            for message in self._decoder.decode(payload):
                self._take(message)
                yield message
        except RemoteProtocolError:
            self.fail()
            raise

    def fail(self) -> None:
        """Ignore this peer from now on, because it broke a rule that is checked elsewhere."""
        self.phase = Phase.ERROR

    def _take(self, message: AnyMessage) -> None:
        if not isinstance(message, IN_ANY_PHASE):
            after = self._transitions[self.phase].get(type(message))
            if after is None:
                raise RemoteProtocolError(f"it sent {type(message).__name__} when that was not expected")
            self.phase = after
        match message:
            case Offer():
                self.offer = message
            case Commit():
                self.commit = message
            case Signed():
                self.signed = message
