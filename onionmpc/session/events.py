"""What a session tells the person in front of it, and what it asks.

The session layer emits these and never prints. onionmpc.cli shows them as text or as JSON lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from onionmpc.identity import Onion
from onionmpc.program.spec import Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.session.agreement import Agreement
from onionmpc.session.invite import Invite


@dataclass(frozen=True, slots=True)
class TorProgress:
    """Our tor gets on: phase "tor", "bootstrap" or "publish", 0 to 100 percent."""

    phase: str
    percent: int
    detail: str


@dataclass(frozen=True, slots=True)
class AddressKnown:
    """This party's address, before anyone can reach it."""

    onion: Onion


@dataclass(frozen=True, slots=True)
class Published:
    """Others can reach this party now: everybody who knows its address, or those alone whom it expects."""

    to_all: bool


@dataclass(frozen=True, slots=True)
class InviteReady:
    """An invite for one seat."""

    seat: int
    invite: Invite


@dataclass(frozen=True, slots=True)
class JoinerArrived:
    """Someone took a seat; `taken` of `parties` are there, the host included."""

    seat: int
    onion: Onion
    taken: int
    parties: int


@dataclass(frozen=True, slots=True)
class JoinerLeft:
    """Someone gave up a seat before the session began."""

    seat: int
    onion: Onion


@dataclass(frozen=True, slots=True)
class SeatsTaken:
    """The host says how many parties are there."""

    taken: int
    parties: int


@dataclass(frozen=True, slots=True)
class DialRetry:
    """A peer (a number, or None for the host before there are numbers) was not reached yet.

    Attributes:
        hint: what the person can do about it; empty where most likely there is nothing but to wait.
    """

    party: int | None
    reason: str
    again_in_s: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """Somebody who speaks another version of the protocol tried to connect; told seldom, since anybody can say that."""

    protocol: int


@dataclass(frozen=True, slots=True)
class SpentInvite:
    """Somebody tried the invite of a seat that another one has used, or sent again what was once sent to use it."""

    seat: int


@dataclass(frozen=True, slots=True)
class RosterKnown:
    """Who takes part, in party order, and which of them we are."""

    addresses: tuple[Onion, ...]
    own_number: int


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link came up: `connected` of `peers` are there."""

    party: int
    connected: int
    peers: int


@dataclass(frozen=True, slots=True)
class LinkMeasured:
    """What we know of the circuit that what is urgent goes over.

    Attributes:
        own_relays: on our side, the rendezvous point included, as our tor says; None where it does not.
        claimed_relays: on the peer's side, the rendezvous point included, as the peer says; None before it does.
        round_trip_s: None before one came back.
        raced: of how many it is the fastest; 1 where there was no race, or before its end.
    """

    party: int
    own_relays: int | None
    claimed_relays: int | None
    round_trip_s: float | None
    raced: int


@dataclass(frozen=True, slots=True)
class LinkBroken:
    """A link has lost its last stream; another one is being dialled."""

    party: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerQuiet:
    """A peer has said nothing, heartbeats included, for so many seconds; told again while it lasts."""

    party: int
    quiet_s: float


@dataclass(frozen=True, slots=True)
class LinkResumed:
    """A peer is heard again, so many seconds after it was last heard."""

    party: int
    away_s: float


@dataclass(frozen=True, slots=True)
class Agreed:
    """All parties committed to the same session id; the program starts."""

    session: bytes


@dataclass(frozen=True, slots=True)
class ProgramsStuck:
    """All programs wait for each other, and nothing is on its way.

    Attributes:
        own_number: ours.
        waits: what each one waits for, in party order.
        ends_in_s: when this party gives up the session, if none of them moves.
    """

    own_number: int
    waits: tuple[Wait, ...]
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class ProgramsMove:
    """They do so no longer."""


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """Our own program ended well; other parties may still run."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PeerDone:
    """Another party's program ended well."""

    party: int


@dataclass(frozen=True, slots=True)
class Signing:
    """All parties are done, and sign the receipt."""


@dataclass(frozen=True, slots=True)
class ReceiptWritten:
    """The receipt is in its file; it has the signatures of these of so many parties."""

    file: str
    signed: tuple[int, ...]
    parties: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """All parties are done; the padded links stay busy for so many seconds, up to a whole number of buckets."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something failed, and the parties are telling each other what."""

    what: str


# A program's person alone is told what it asked for in vain.
Event = (
    TorProgress
    | AddressKnown
    | Published
    | InviteReady
    | JoinerArrived
    | JoinerLeft
    | SeatsTaken
    | DialRetry
    | OtherVersion
    | SpentInvite
    | RosterKnown
    | LinkUp
    | LinkMeasured
    | LinkBroken
    | PeerQuiet
    | LinkResumed
    | Agreed
    | ProgramsStuck
    | ProgramsMove
    | ProgramEnded
    | PeerDone
    | Signing
    | ReceiptWritten
    | Rounding
    | OutOfReach
    | Trouble
)


class UserInterface(Protocol):
    """Shows events, and asks the person in front of this party; `--yes` answers for them."""

    def tell(self, event: Event) -> None:
        """Show what happened. Must not block."""

    async def admits(self, onion: Onion, seat: int) -> bool:
        """Say whether a joiner may take its seat."""

    async def consents(self, agreement: Agreement, own_number: int) -> bool:
        """Show the agreement and say whether to go on."""
