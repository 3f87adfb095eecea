"""Control messages: what the supervisors of two parties send each other over the control channel.

Which message may come when is checked in onionmpc.session.peer. Rules: docs/PROTOCOL.md sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, get_args

import msgspec

from onionmpc.errors import RemoteProtocolError
from onionmpc.names.evidence import EvidencePieces, evidence_digest
from onionmpc.program.spec import Wait
from onionmpc.session.agreement import PartyTerms, SharedTerms
from onionmpc.session.receipt import Hex32, SignatureText
from onionmpc.wire.handshake import STREAM_NUMBER_BYTES

MESSAGE_LENGTH_BYTES = 4
MAX_CONTROL_MESSAGE_BYTES = 2**20
# A peer that is ahead of us sends a few offers, and at most the reports of all parties.
MAX_HELD_BYTES = 4 * MAX_CONTROL_MESSAGE_BYTES

Cause = Literal["program", "protocol", "refused", "agreement", "left", "stuck", "lost"]
Step = Literal["connect", "agree", "run", "finish"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
STEPS: tuple[Step, ...] = get_args(Step)

MAX_DETAIL_CHARACTERS = 500

Hex16 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
ShortText = Annotated[str, msgspec.Meta(max_length=MAX_DETAIL_CHARACTERS)]
StreamNumber = Annotated[int, msgspec.Meta(ge=0, lt=1 << 8 * STREAM_NUMBER_BYTES)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower):
    """Base of all control messages."""


class Seats(Message, frozen=True):
    """Host to joiner: how many seats are taken, the host's included."""

    taken: int
    parties: int


class Refused(Message, frozen=True):
    """Host to joiner: the user at the host refuses this party."""

    reason: ShortText


class Terms(Message, frozen=True):
    """Host to joiner: the shared terms, the session's pre-shared key, and each joiner's discovery key, by address."""

    common: SharedTerms
    psk: Hex32
    discovery: dict[str, Hex32]

    def __repr__(self) -> str:
        return f"Terms(common={self.common!r}, psk=<hidden>, discovery=<hidden>)"


class Further(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an offer adds from the second computation of a session on.

    Attributes:
        proposer: the address of the party that proposed these terms. A party proposes by an offer that names itself.
        nonce: the sender's contribution to the session id, 16 bytes in hex.
    """

    proposer: str
    nonce: Hex16


def digest_in_terms(evidence: Sequence[str]) -> str | msgspec.UnsetType:
    """Return what a party's terms say about its evidence."""
    return evidence_digest(evidence).hex() if evidence else msgspec.UNSET


class Offer(Message, frozen=True):
    """The terms that the sender offers to agree to, and what it shows of who it is.

    Attributes:
        further: None in the first computation of a session.
        evidence: see `onionmpc.names.evidence`; `own` has its digest.
    """

    common: SharedTerms
    own: PartyTerms
    further: Further | None = None
    evidence: EvidencePieces = ()

    def __repr__(self) -> str:
        return f"Offer(common={self.common!r}, own={self.own!r}, further={self.further!r}, evidence=<hidden>)"

    def is_proposal(self, sender: str) -> bool:
        """Return whether the party with this address proposes a further computation by it."""
        return self.further is not None and self.further.proposer == sender

    def has_its_digest(self) -> bool:
        """Return whether the terms hold the digest of this evidence: all parties agree on what was shown."""
        return self.own.evidence == digest_in_terms(self.evidence)


class Commit(Message, frozen=True):
    """The session id (32 bytes in hex) that the sender and its user agreed to."""

    session: str


class Rendezvous(Message, frozen=True):
    """Dialler to listener: the fingerprint of the rendezvous point of a stream's circuit."""

    stream: StreamNumber
    fingerprint: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{40}\Z")]


class OwnSide(Message, frozen=True):
    """How many relays the sender's side of a stream's circuit has. The receiver cannot check that."""

    stream: StreamNumber
    relays: Annotated[int, msgspec.Meta(ge=1, le=8)]


class Waiting(Message, frozen=True):
    """The sender's program has waited for a while, and only bytes of other programs can wake it."""

    wait: Wait


class Moving(Message, frozen=True):
    """The sender's program no longer waits, or something else can wake it too."""


class Done(Message, frozen=True):
    """The sender's program succeeded."""


class Signed(Message, frozen=True):
    """The sender's signature for the receipt, sent when all are done; see `onionmpc.session.receipt.Signature`."""

    commitment: Hex32
    signature: SignatureText


class Leaving(Message, frozen=True):
    """The sender takes part in no further computation."""


class Report(Message, frozen=True):
    """One failure, as one party saw it. It names parties by address, since two parties' rosters may differ."""

    reporter: str
    about: str
    cause: Cause
    step: Step
    detail: ShortText = ""


class Verdict(Message, frozen=True):
    """The addresses that the sender still reaches, and whether its program has begun to open an output."""

    reaches: tuple[str, ...]
    revealed: bool = False


AnyMessage = (
    Seats
    | Refused
    | Terms
    | Offer
    | Commit
    | Rendezvous
    | OwnSide
    | Waiting
    | Moving
    | Done
    | Signed
    | Leaving
    | Report
    | Verdict
)

_DECODER: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


def encode_message(message: AnyMessage) -> bytes:
    """Return a message as bytes of the control channel."""
    body = msgspec.json.encode(message)
    return len(body).to_bytes(MESSAGE_LENGTH_BYTES) + body


class MessageDecoder:
    """Decodes the bytes of the control channel into messages."""

    def __init__(self) -> None:
        self._received = bytearray()

    def hold(self, received: bytes) -> None:
        """Keep the next bytes of the channel for a later `decode`.

        Raises:
            RemoteProtocolError: there are too many.
        """
        self._received += received
        if len(self._received) > MAX_HELD_BYTES:
            raise RemoteProtocolError(f"it sent more than {MAX_HELD_BYTES} bytes for the next computation")

    def decode(self, received: bytes) -> Iterator[AnyMessage]:
        """Take the next bytes of the channel; yield each complete message.

        Raises:
            RemoteProtocolError: a message is too long, or cannot be decoded.
        """
        self._received += received
        while len(self._received) >= MESSAGE_LENGTH_BYTES:
            length = int.from_bytes(self._received[:MESSAGE_LENGTH_BYTES])
            if length > MAX_CONTROL_MESSAGE_BYTES:
                raise RemoteProtocolError(
                    f"a control message has {length} bytes, at most {MAX_CONTROL_MESSAGE_BYTES} are allowed"
                )
            end = MESSAGE_LENGTH_BYTES + length
            if len(self._received) < end:
                return
            body = bytes(self._received[MESSAGE_LENGTH_BYTES:end])
            del self._received[:end]
            try:
                yield _DECODER.decode(body)
            # msgspec raises RecursionError for JSON that is nested too deep.
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise RemoteProtocolError(f"a control message of {length} bytes cannot be decoded") from error
