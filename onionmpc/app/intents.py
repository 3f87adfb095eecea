"""What the page may ask for: one JSON object per intent, with bounded fields.

An intent says what its person wants, never how. Whether it fits the state is for the desk: a page may be late. Texts
come from a person and may hold an invite or a private input, so no repr shows them.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from onionmpc.errors import UsageError

MAX_INTENT_BYTES = 64 * 1024
MAX_SEATS = 64

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Pasted = Annotated[str, msgspec.Meta(min_length=1, max_length=20_000)]
ShownHash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
SeatNumber = Annotated[int, msgspec.Meta(ge=1, le=MAX_SEATS)]


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="intent"):
    """Base of all intents."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class StartHosting(Intent, frozen=True, tag="host"):
    """Host a session of a program that comes with onionmpc.

    Attributes:
        parties: the number of people, this one included.
        public: the program's public arguments, by the names that its block declares.
    """

    program: Label
    parties: Annotated[int, msgspec.Meta(ge=2, le=MAX_SEATS + 1)]
    public: Annotated[dict[Label, Pasted], msgspec.Meta(max_length=32)] = {}


class StartJoining(Intent, frozen=True, tag="join"):
    """Join the session that an invitation is for: any text that holds an invite."""

    text: Pasted


class MarkCopied(Intent, frozen=True, tag="copied"):
    """The invitation for a seat was copied, shown or saved."""

    seat: SeatNumber


class AnswerJoiner(Intent, frozen=True, tag="admit"):
    """Answer about the joiner at a seat. Names the joiner: another one may have come meanwhile."""

    seat: SeatNumber
    address: Label
    admit: bool


class AnswerAgreement(Intent, frozen=True, tag="consent"):
    """Answer about the agreement. Names what was shown: what has changed meanwhile is not approved."""

    shown: ShownHash
    agree: bool


class GiveInputs(Intent, frozen=True, tag="give"):
    """Give this person's private inputs, by the names of the form. The app keeps none of it.

    Attributes:
        sure_of: the fields whose unusual values this person has confirmed.
    """

    values: Annotated[dict[Label, Annotated[str, msgspec.Meta(max_length=20_000)]], msgspec.Meta(max_length=32)]
    sure_of: Annotated[tuple[Label, ...], msgspec.Meta(max_length=32)] = ()


class ComputeAgain(Intent, frozen=True, tag="again"):
    """Propose a further computation to the same people: of this program, or of the one that ran last."""

    program: Label | None = None


class LeaveSession(Intent, frozen=True, tag="leave"):
    """Leave the session, or cancel it."""


class ClearSession(Intent, frozen=True, tag="clear"):
    """Go back to the start page."""


AnyIntent = (
    StartHosting
    | StartJoining
    | MarkCopied
    | AnswerJoiner
    | AnswerAgreement
    | GiveInputs
    | ComputeAgain
    | LeaveSession
    | ClearSession
)

_DECODER: msgspec.json.Decoder[AnyIntent] = msgspec.json.Decoder(AnyIntent)


def parse_intent(body: bytes) -> AnyIntent:
    """Parse what a page sent.

    Raises:
        UsageError: it is no intent. Does not quote it: it may hold a private input.
    """
    if len(body) > MAX_INTENT_BYTES:
        raise UsageError(f"the intent has more than {MAX_INTENT_BYTES} bytes")
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Without its cause: msgspec's words can quote what was sent.
        raise UsageError("this version does not know this intent", hint="reload the page") from None
