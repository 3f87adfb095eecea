"""What can happen in the app besides the events of a session: what its person did, and what the desk learns."""

from __future__ import annotations

from dataclasses import dataclass

from onionmpc import events
from onionmpc.app.state import ConsentView, FailureView, FieldView, ResultView


@dataclass(frozen=True, slots=True)
class TorStarted:
    """Our tor was started, for a session."""


@dataclass(frozen=True, slots=True)
class TorStopped:
    """Our tor has ended: as it should, or for the reason that is given."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class TableTaken:
    """This person hosts or joins.

    Attributes:
        program: "" if the host names it.
        parties: 0 if the host decides.
    """

    hosts: bool
    program: str
    title: str = ""
    parties: int = 0


@dataclass(frozen=True, slots=True)
class InvitationCopied:
    """The page has copied, shown or saved the invitation for a seat."""

    seat: int


@dataclass(frozen=True, slots=True)
class JoinerAsks:
    """A joiner waits for this person's answer. `name` is this person's own name for it."""

    seat: int
    address: str
    name: str


@dataclass(frozen=True, slots=True)
class JoinerAnswered:
    """This person has answered about the joiner at a seat."""

    seat: int


@dataclass(frozen=True, slots=True)
class ConsentAsked:
    """This person is asked to agree."""

    consent: ConsentView
    program: str
    title: str
    computation: int
    estimate_s: float | None = None


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """This person agreed. The form is empty if the program declares no input."""

    form: tuple[FieldView, ...] = ()


@dataclass(frozen=True, slots=True)
class FormChecked:
    """The values that the page sent were checked: some fields were refused, or need another look."""

    form: tuple[FieldView, ...]


@dataclass(frozen=True, slots=True)
class InputsTaken:
    """The program will get this person's input. The app keeps none of it."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A computation succeeded at all parties."""

    result: ResultView


@dataclass(frozen=True, slots=True)
class Failed:
    """The session failed."""

    failure: FailureView


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """This person left, or there is nobody left to compute with: then `why` says who went."""

    why: str = ""


@dataclass(frozen=True, slots=True)
class SessionCleared:
    """This person is back at the start page."""


@dataclass(frozen=True, slots=True)
class LinkUsedTwice:
    """Another program on this computer used a link to the page as well."""


Happening = (
    events.Event
    | LinkUsedTwice
    | TorStarted
    | TorStopped
    | TableTaken
    | InvitationCopied
    | JoinerAsks
    | JoinerAnswered
    | ConsentAsked
    | ConsentGiven
    | FormChecked
    | InputsTaken
    | Computed
    | Failed
    | SessionEnded
    | SessionCleared
)
