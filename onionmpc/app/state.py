"""What the app shows, as one frozen value. The page draws it, and holds nothing of it but what is being typed.

Knows the words of a session, not how they come about: `onionmpc.app.reduce` makes the next value from what has
happened. Holds no private input, no invite secret after it was used, and no text of a peer that was not made printable.
Times are milliseconds of Unix time, so that the page can count on from them.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class TorStep(Enum):
    """What our tor does."""

    OFF = "off"
    STARTING = "starting"
    BOOTSTRAP = "bootstrap"
    PUBLISH = "publish"
    READY = "ready"
    FAILED = "failed"


class TorView(msgspec.Struct, frozen=True):
    """Our tor, and how far it has come.

    Attributes:
        percent: of the step, 0 to 100.
        detail: tor's own words for what it does.
        since: when it was started; 0 if it is off.
        changed: when `step` or `percent` changed last. After 40 s without a change, the page offers bridges.
    """

    step: TorStep = TorStep.OFF
    percent: int = 0
    detail: str = ""
    since: int = 0
    changed: int = 0


class SessionStage(Enum):
    """How far a session has come, as its person sees it."""

    STARTING = "starting"  # tor starts, and the address is published
    GATHERING = "gathering"  # people come to the table
    CONNECTING = "connecting"
    CONSENT = "consent"  # this person is asked
    INPUT = "input"  # this person has agreed, and fills in the form
    WAITING = "waiting"  # this person has agreed, and the others have not yet
    COMPUTING = "computing"
    FINISHING = "finishing"  # this party's program has ended, and the others' have not yet
    RESULT = "result"  # between two computations
    OVER = "over"  # left, or failed


class Presence(Enum):
    """What is known of another party."""

    AWAITED = "awaited"
    CONNECTED = "connected"
    QUIET = "quiet"
    AWAY = "away"
    DONE = "done"
    LEFT = "left"


class SeatView(msgspec.Struct, frozen=True):
    """A seat at a table that this person hosts.

    Attributes:
        number: from 1.
        invitation: the text to send to one person; "" for a seat that needs none, or whose invite was used.
        copied: whether the page has copied, shown or saved it.
        holder: the address of the party that has taken it, "" if it is free.
        name: this person's own name for the holder, "" if there is none.
        admitted: whether this person has admitted the holder.
        tried_again: whether somebody tried the invite after it was used.
    """

    number: int
    invitation: str = ""
    copied: bool = False
    holder: str = ""
    name: str = ""
    admitted: bool = False
    tried_again: bool = False

    def __repr__(self) -> str:
        return f"SeatView(number={self.number}, invitation=<hidden>, holder={self.holder!r}, admitted={self.admitted})"


class PartyView(msgspec.Struct, frozen=True):
    """A party of the session.

    Attributes:
        number: its number for MPyC.
        name: this person's own name for it, "" if there is none.
        since: when `presence` changed last.
    """

    number: int
    address: str
    name: str = ""
    is_you: bool = False
    presence: Presence = Presence.AWAITED
    since: int = 0


class Sentence(msgspec.Struct, frozen=True):
    """A sentence in the reader's language: a key of the page's catalogues, and what to put in."""

    key: str
    values: dict[str, str | int] = {}


class PersonView(msgspec.Struct, frozen=True):
    """A party, as the consent shows it.

    Attributes:
        name: this person's own name for it, "" if there is none.
        standing: "known", "vouched", "introduced" or "stranger"; "you" for this person.
        words: how it is known, in English: the words come from evidence and from this person's files.
    """

    number: int
    address: str
    name: str
    standing: str
    words: tuple[str, ...] = ()


class ConsentView(msgspec.Struct, frozen=True):
    """The agreement that this person is asked about.

    Attributes:
        shown: the hash of all that follows. An approval names it: what has changed meanwhile is not approved.
        people: all parties.
        sentences: what is revealed, how many could read everything, and what can be proved later.
        warnings: what this computation exposes with earlier ones, in English.
        details: the whole agreement, line by line.
        words: the roster in words.
    """

    shown: str
    people: tuple[PersonView, ...]
    sentences: tuple[Sentence, ...]
    warnings: tuple[str, ...]
    details: tuple[str, ...]
    words: str


class FieldView(msgspec.Struct, frozen=True):
    """One field of the form for this person's private input, from the program's block.

    Attributes:
        name: what the input is called in intents.
        label, help: the author's words.
        expected: what is accepted, in words.
        choices: the values to choose from; empty if there are none.
        refused: why the value that was sent was not accepted, "" if it was.
        unusual: the author's question about the value that was sent, "" if there is none.
    """

    name: str
    label: str
    help: str = ""
    expected: str = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    is_file: bool = False
    refused: str = ""
    unusual: str = ""


class ResultView(msgspec.Struct, frozen=True):
    """What a computation gave this person.

    Attributes:
        text: what the program wrote, made printable.
        is_cut: whether the text was longer than is shown.
        flaw: what is wrong with the output or the receipt, "" if nothing is.
        receipt: the name of the receipt's file, "" without one.
    """

    text: str
    is_cut: bool = False
    flaw: str = ""
    receipt: str = ""


class FailureView(msgspec.Struct, frozen=True):
    """Why a session or a step ended.

    Attributes:
        sentence, hint: the error's words.
        revealed: whether an output may have been revealed to a party; None if it is not known.
    """

    sentence: str
    hint: str = ""
    revealed: bool | None = None


class SessionView(msgspec.Struct, frozen=True):
    """The session in which this person takes part.

    Attributes:
        hosts: whether this person hosts it.
        program: its name.
        parties_wanted: how many parties it is for, this one included; 0 if only the host knows.
        came: how many are there, this one included.
        since: when `stage` began.
        estimate_s: how long the computation will take; None if that is not known.
        asks_about: the seat whose holder waits for this person's answer; 0 if none does.
        notes: what else has happened, the newest last.
        computation: its number, from 1.
    """

    hosts: bool
    program: str
    title: str = ""
    parties_wanted: int = 0
    came: int = 1
    stage: SessionStage = SessionStage.STARTING
    since: int = 0
    address: str = ""
    seats: tuple[SeatView, ...] = ()
    asks_about: int = 0
    parties: tuple[PartyView, ...] = ()
    consent: ConsentView | None = None
    form: tuple[FieldView, ...] = ()
    estimate_s: float | None = None
    notes: tuple[Sentence, ...] = ()
    result: ResultView | None = None
    failure: FailureView | None = None
    computation: int = 1


class ProgramCard(msgspec.Struct, frozen=True):
    """A program that comes with onionmpc.

    Attributes:
        title, reveals: its author's words.
        least: the smallest number of parties.
        public: what the host decides, as a form.
    """

    name: str
    title: str
    reveals: str
    least: int = 2
    public: tuple[FieldView, ...] = ()


class AppState(msgspec.Struct, frozen=True):
    """All that the page shows.

    Attributes:
        number: counts the values, from 0.
        now: when this value was made, so that a page whose clock differs can still count.
        programs: what this person can host.
        link_used_twice: whether another program on this computer used a link to the page.
        session: None if there is none.
    """

    number: int = 0
    now: int = 0
    programs: tuple[ProgramCard, ...] = ()
    link_used_twice: bool = False
    tor: TorView = TorView()
    session: SessionView | None = None
