"""The events that a session shows to its user, and the questions that it asks.

The session layer emits events and never prints. onionmpc.cli shows them as text or as JSON lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from onionmpc.identity import Onion
from onionmpc.names.standing import Seat
from onionmpc.program.block import ProgramBlock
from onionmpc.program.spec import Wait
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.session.agreement import Agreement
from onionmpc.session.invite import Invite
from onionmpc.session.roster_words import roster_fingerprint, roster_lines
from onionmpc.wire.handshake import VERSION


@dataclass(frozen=True, slots=True)
class TorProgress:
    """Our tor's progress: phase "tor", "bootstrap" or "publish", 0 to 100 percent."""

    phase: str
    percent: int
    detail: str


@dataclass(frozen=True, slots=True)
class AddressKnown:
    """This party's address is known. Nobody can reach it yet."""

    onion: Onion


@dataclass(frozen=True, slots=True)
class Published:
    """Others can reach this party now: anyone who knows its address (`to_all`), or only the expected parties."""

    to_all: bool


@dataclass(frozen=True, slots=True)
class InviteReady:
    """An invite for one seat."""

    seat: int
    invite: Invite


@dataclass(frozen=True, slots=True)
class JoinerArrived:
    """A joiner took a seat. `taken` of `parties` are there, the host included."""

    seat: int
    onion: Onion
    taken: int
    parties: int


@dataclass(frozen=True, slots=True)
class JoinerLeft:
    """A joiner gave up its seat before the session began."""

    seat: int
    onion: Onion


@dataclass(frozen=True, slots=True)
class SeatsTaken:
    """The host reports how many parties are there."""

    taken: int
    parties: int


@dataclass(frozen=True, slots=True)
class DialRetry:
    """A dial to a peer failed; another follows.

    Attributes:
        party: the peer's number, None for the host before parties have numbers.
        hint: what the user can do about it; empty if waiting is most likely enough.
    """

    party: int | None
    reason: str
    again_in_s: float
    hint: str = ""


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """Someone tried to connect with another protocol version. Emitted rarely, since anyone can cause it."""

    protocol: int

    @property
    def own_protocol(self) -> int:
        """The version that this party speaks."""
        return VERSION


@dataclass(frozen=True, slots=True)
class SpentInvite:
    """Someone tried an invite that another joiner has used, or replayed the message that used it."""

    seat: int


@dataclass(frozen=True, slots=True)
class RosterKnown:
    """The addresses of all parties, in party order, and this party's number."""

    addresses: tuple[Onion, ...]
    own_number: int

    @property
    def fingerprint(self) -> str:
        """The roster in words, as in the agreement."""
        return roster_fingerprint(self.addresses)

    @property
    def fingerprint_lines(self) -> list[str]:
        """The same, in lines that fit beside a label."""
        return roster_lines(self.fingerprint)


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A link came up. `connected` of `peers` links are up."""

    party: int
    connected: int
    peers: int


@dataclass(frozen=True, slots=True)
class LinkMeasured:
    """What is known of the circuit that carries a link's urgent data.

    Attributes:
        own_relays: relays on our side, the rendezvous point included, as our tor reports; None if it does not.
        claimed_relays: relays on the peer's side, the rendezvous point included, as the peer claims; None before that.
        round_trip_s: the measured round trip, None before the first.
        raced: how many streams the race compared; 1 without a race, or before its end.
    """

    party: int
    own_relays: int | None
    claimed_relays: int | None
    round_trip_s: float | None
    raced: int


@dataclass(frozen=True, slots=True)
class LinkBroken:
    """A link lost its last stream. The parties dial another."""

    party: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerQuiet:
    """Nothing, not even a heartbeat, arrived from a peer for `quiet_s` seconds. Repeated while that lasts."""

    party: int
    quiet_s: float


@dataclass(frozen=True, slots=True)
class LinkResumed:
    """Data of a peer arrives again, after `away_s` seconds of silence."""

    party: int
    away_s: float


@dataclass(frozen=True, slots=True)
class SeatsRefused:
    """This party refuses the session because of who the other parties are, or since it does not know."""

    seats: tuple[Seat, ...]


@dataclass(frozen=True, slots=True)
class Agreed:
    """All parties committed to the same session id. The program starts."""

    session: bytes


@dataclass(frozen=True, slots=True)
class ProgramsStuck:
    """All programs wait for each other, and no message is on its way.

    Attributes:
        own_number: this party's number.
        waits: what each program waits for, in party order.
        ends_in_s: seconds until this party gives up the session, unless a program moves.
    """

    own_number: int
    waits: tuple[Wait, ...]
    ends_in_s: float


@dataclass(frozen=True, slots=True)
class ProgramsMove:
    """The programs no longer all wait for each other."""


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """Our own program succeeded. Other parties' programs may still run."""

    seconds: float


@dataclass(frozen=True, slots=True)
class PeerDone:
    """Another party's program succeeded."""

    party: int


@dataclass(frozen=True, slots=True)
class Proposed:
    """Another party proposes the next computation."""

    party: int
    program: str


@dataclass(frozen=True, slots=True)
class Left:
    """Another party takes part in no further computation. It has its result of the last one."""

    party: int


@dataclass(frozen=True, slots=True)
class Signing:
    """All parties are done and sign the receipt."""


@dataclass(frozen=True, slots=True)
class ReceiptWritten:
    """The receipt is in its file, with the signatures of the parties in `signed`, out of `parties`."""

    file: str
    signed: tuple[int, ...]
    parties: int


@dataclass(frozen=True, slots=True)
class Rounding:
    """All parties are done. Padded links stay busy for `seconds` more, up to a whole number of buckets."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something failed, and the parties exchange reports of it."""

    what: str


# OutOfReach stays at this party: peers do not learn what a program was refused.
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
    | SeatsRefused
    | Agreed
    | ProgramsStuck
    | ProgramsMove
    | ProgramEnded
    | PeerDone
    | Proposed
    | Left
    | Signing
    | ReceiptWritten
    | Rounding
    | OutOfReach
    | Trouble
)


@dataclass(frozen=True, slots=True)
class PrivateInputs:
    """What this party's program gets from its user, besides the arguments of the plan.

    Attributes:
        arguments: further private arguments. None of them is a value: they name files, or standard input.
        stdin: the descriptor of the program's standard input; None for that of the plan.
    """

    arguments: tuple[str, ...] = ()
    stdin: int | None = None


@dataclass(frozen=True, slots=True)
class ConsentQuestion:
    """What this party's user is asked to agree to.

    Attributes:
        own_number: this party's number.
        about: what the program says about itself, None if its script has no block.
        evidence: what each party shows of who it is, by its number; only of parties that show something. Nobody has
            examined it yet.
    """

    agreement: Agreement
    own_number: int
    about: ProgramBlock | None
    evidence: Mapping[int, tuple[str, ...]] = field(default_factory=dict, repr=False)


class UserInterface(Protocol):
    """Shows events to this party's user, and asks them questions. `--yes` answers for them."""

    def tell(self, event: Event) -> None:
        """Show an event. Must not block."""

    async def admits(self, onion: Onion, seat: int) -> bool:
        """Ask whether a joiner may take its seat."""

    async def consents(self, question: ConsentQuestion) -> PrivateInputs | None:
        """Show the agreement and what is known about it, and ask whether to compute on these terms.

        Returns:
            None if not. Otherwise the inputs, which are complete before the other parties learn of the consent.
        """
