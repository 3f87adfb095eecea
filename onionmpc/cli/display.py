"""Shows a session's events on stderr: as text for people, or as JSON lines for machines."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from functools import singledispatchmethod
from pathlib import Path
from typing import Any, TextIO

import click
import msgspec

from onionmpc.api.contacts import Contact
from onionmpc.api.events import (
    AddressKnown,
    Agreed,
    DialRetry,
    Event,
    InviteReady,
    JoinerArrived,
    JoinerLeft,
    Left,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    OtherVersion,
    OutOfReach,
    PeerQuiet,
    ProgramEnded,
    ProgramsMove,
    ProgramsStuck,
    Proposed,
    Published,
    ReceiptWritten,
    RosterKnown,
    Rounding,
    SeatsRefused,
    SeatsTaken,
    Signing,
    SpentInvite,
    TorProgress,
    Trouble,
)
from onionmpc.api.inputs import InputQuestion, UnusualInput
from onionmpc.api.outcome import Result
from onionmpc.api.questions import AGREE_TO_ANYTHING, Joiner, Proposal
from onionmpc.api.screen import seat_words, stuck_lines
from onionmpc.cli.flags import in_flags
from onionmpc.cli.further import Wanted
from onionmpc.cli.main import print_error
from onionmpc.cli.next_question import ask_next
from onionmpc.cli.output import StatusLine
from onionmpc.cli.prompt import ask_line, ask_unseen, confirm
from onionmpc.cli.reach import reach_lines
from onionmpc.cli.streams import shows_blocks
from onionmpc.cli.summary import describe_link, seats_data, summary_data
from onionmpc.errors import AgreementError, OnionMPCError, UsageError
from onionmpc.identity import Onion
from onionmpc.text import duration, printable

WAITING = "waiting for what the host proposes next"


class Between(Enum):
    """What this party does between two computations."""

    NO = "it computes, or has not yet"
    WAITS = "it waits for the host"
    ASKS = "its user is asked what comes next"


class TextDisplay:
    """Shows events as lines of text, with a status line for what is happening.

    Args:
        yes: answer every question with yes, without asking.
        contacts: this user's contacts, by address.
    """

    def __init__(self, *, yes: bool, contacts: Mapping[Onion, Contact] | None = None) -> None:
        self._yes = yes
        self._contacts = contacts or {}
        self._status = StatusLine()
        self._quiet_s: dict[int, float] = {}
        self._padded = False
        self._asked_about: Onion | None = None
        self._computations = 0
        self._between = Between.NO
        self._hinted: set[int | None] = set()

    def close(self) -> None:
        """Give up the terminal."""
        self._status.close()

    def tell(self, event: Event) -> None:
        """Show an event."""
        self._show(event)

    @singledispatchmethod
    def _show(self, event: Event) -> None:
        """Show an event, by its type. Other types show nothing."""

    @_show.register
    def _(self, event: TorProgress) -> None:
        phase, percent, detail = event.phase, event.percent, event.detail
        names = {
            "tor": "tor",
            "bootstrap": "connecting to the Tor network",
            "publish": "publishing the onion service",
        }
        self._status.going_on(names[phase], f"{percent} %, {printable(detail)}")

    @_show.register
    def _(self, event: AddressKnown) -> None:
        self._status.line(f"this party's address: {event.onion}")

    @_show.register
    def _(self, event: InviteReady) -> None:
        seat, invite = event.seat, event.invite
        self._invite(seat, invite.text)

    @_show.register
    def _(self, event: Published) -> None:
        found_by = "anyone who knows its address" if event.to_all else "only the parties it expects"
        self._status.line(f"the onion service is published; {found_by} can find it")
        self._status.going_on("waiting for the others")

    @_show.register
    def _(self, event: JoinerArrived) -> None:
        seat, onion, taken, parties = event.seat, event.onion, event.taken, event.parties
        self._status.line(f"seat {seat} is taken by {self._called(onion)} ({taken} of {parties} parties are here)")
        self._status.going_on("waiting for the others", f"{taken} of {parties} are here")

    @_show.register
    def _(self, event: JoinerLeft) -> None:
        seat, onion = event.seat, event.onion
        if onion == self._asked_about:
            self._status.beside_a_question(
                "This party has left for now. Your answer counts if it is back by then. Answer?"
            )
            return
        self._status.line(f"{self._called(onion)} gave up seat {seat}; its invite works again")

    @_show.register
    def _(self, event: SeatsTaken) -> None:
        taken, parties = event.taken, event.parties
        self._status.going_on("waiting for the other parties to join", f"{taken} of {parties} parties are here")

    @_show.register
    def _(self, event: DialRetry) -> None:
        party, reason, again_in_s, hint = event.party, event.reason, event.again_in_s, event.hint
        who = "the host" if party is None else f"party {party}"
        if hint and party not in self._hinted:
            self._hinted.add(party)
            self._status.line(f"{who} cannot be reached: {printable(reason)}; trying again. If this continues: {hint}")
        self._status.going_on(f"connecting to {who}", f"{printable(reason)}; trying again in {duration(again_in_s)}")

    @_show.register
    def _(self, event: OtherVersion) -> None:
        self._status.line(
            "someone with another version of onionmpc "
            f"(protocol {event.protocol}, here {event.own_protocol}) tried to connect"
        )

    @_show.register
    def _(self, event: SpentInvite) -> None:
        self._status.line(
            f"someone tried the invite for seat {event.seat}, which is already used: each party needs its own invite"
        )

    @_show.register
    def _(self, event: RosterKnown) -> None:
        addresses, own_number = event.addresses, event.own_number
        if self._computations:
            self._status.line(f"{len(addresses)} parties continue; this one is party {own_number} of them")
            self._show_roster(event)
            return
        self._status.line(f"all {len(addresses)} parties are known; this one is party {own_number}")
        self._show_roster(event)
        self._status.going_on("connecting to the other parties", f"0 of {len(addresses) - 1}")

    def _show_roster(self, event: RosterKnown) -> None:
        for place, words in enumerate(event.fingerprint_lines):
            self._status.line(f"{'' if place else 'roster:':8}{words}")

    @_show.register
    def _(self, event: LinkUp) -> None:
        party, connected, peers = event.party, event.connected, event.peers
        self._status.line(f"connected to party {party}")
        if connected < peers:
            self._status.going_on("connecting to the other parties", f"{connected} of {peers}")
        else:
            self._status.going_on("comparing terms with the other parties")

    @_show.register
    def _(self, event: LinkMeasured) -> None:
        own, claimed = event.own_relays, event.claimed_relays
        if own and claimed:
            words = describe_link(event.party, own, claimed, event.round_trip_s, event.raced)
            self._status.line(f"link to party {event.party}: {words}")

    @_show.register
    def _(self, event: LinkBroken) -> None:
        party, reason = event.party, event.reason
        self._status.line(f"link to party {party} broke: {printable(reason)}; dialling again")

    @_show.register
    def _(self, event: PeerQuiet) -> None:
        party, quiet_s = event.party, event.quiet_s
        # The time between lines doubles, so that a long absence does not fill the screen.
        if quiet_s >= 2 * self._quiet_s.get(party, 0.0):
            self._quiet_s[party] = quiet_s
            self._status.line(f"party {party} has been silent for {duration(quiet_s)}")

    @_show.register
    def _(self, event: LinkResumed) -> None:
        party, away_s = event.party, event.away_s
        self._quiet_s.pop(party, None)
        seen = "; an observer of your network saw that gap" if self._padded else ""
        self._status.line(f"party {party} is back after {duration(away_s)}{seen}")

    @_show.register
    def _(self, event: SeatsRefused) -> None:
        for seat in event.seats:
            first, *others = seat_words(seat)
            names = f" ({', '.join(printable(name, 60) for name in seat.names)})" if seat.names else ""
            self._status.line(f"party {seat.number} is {seat.onion}{names}, {first}")
            for words in others:
                self._status.line(f"  {words}")

    @_show.register
    def _(self, _event: Agreed) -> None:
        self._status.line("all parties agreed; the program runs")
        # The program may ask at this terminal, where a status line would overwrite its question.
        self.close()
        self._status.lent = True

    @_show.register
    def _(self, event: ProgramsStuck) -> None:
        for line in stuck_lines(event):
            self._status.line(line)

    @_show.register
    def _(self, _event: ProgramsMove) -> None:
        self._status.line("the programs continue")

    @_show.register
    def _(self, event: ProgramEnded) -> None:
        self._status.line(f"the program ended after {duration(event.seconds)}")
        self._status.lent = False
        self._status.going_on("waiting for the other parties to end")

    @_show.register
    def _(self, event: Proposed) -> None:
        what = f"party {event.party} proposes {printable(event.program, 60)}"
        if self._between is Between.ASKS:
            self._status.text(f"\n{what}, so this question is withdrawn")
        else:
            self._status.line(what)
        self._between = Between.NO

    @_show.register
    def _(self, event: Left) -> None:
        # At the end of a session all leave, which is no news.
        gone = f"party {event.party} has left"
        match self._between:
            case Between.ASKS:
                self._status.beside_a_question(f"{gone}. Next?")
            case Between.WAITS:
                self._status.going_on(WAITING, f"{gone}; Ctrl-C leaves")

    @_show.register
    def _(self, _event: Signing) -> None:
        self._status.going_on("waiting for the other parties to sign the receipt")

    @_show.register
    def _(self, event: ReceiptWritten) -> None:
        file, signed, parties = event.file, event.signed, event.parties
        whom = f"all {parties} parties" if len(signed) == parties else f"{len(signed)} of {parties} parties ONLY"
        self._status.line(f"{file}: signed by {whom} (see: onionmpc verify --help)")

    @_show.register
    def _(self, event: Rounding) -> None:
        self._status.line(
            f"all parties are done; links stay busy for {duration(event.seconds)} more, so that the session's length "
            "tells less (Ctrl-C ends it now)"
        )

    @_show.register
    def _(self, event: OutOfReach) -> None:
        for line in reach_lines(**dataclasses.asdict(event)):
            self._status.line(line)

    @_show.register
    def _(self, event: Trouble) -> None:
        self._status.going_on(
            "this session cannot continue; waiting for the other parties' reports", printable(event.what)
        )

    def ended(self, result: Result, number: int) -> None:
        """Show the summary of the computation with this number, from 1."""
        self.close()
        self._computations = number
        times = f"agreed in {duration(result.times.agree_s)}, computed in {duration(result.times.run_s)}"
        if number == 1:
            self._status.line(f"done: connected in {duration(result.times.connect_s)}, {times}")
        else:
            self._status.line(f"computation {number} is done: {times}")
        for party, link in result.links.items():
            words = describe_link(party, link.own_relays, link.claimed_relays, link.round_trip_s, link.raced)
            self._status.line(f"  link to party {party}: {words}")

    def flawed(self, flaw: OnionMPCError) -> None:
        """Show what is wrong with this party's output or receipt."""
        print_error(in_flags(flaw.message), in_flags(flaw.hint))

    def failed(self, _error: OnionMPCError) -> None:
        """Give up the terminal. The main command prints the error."""
        self.close()
        self._status.end_line()

    # -- between two computations

    def waits(self) -> None:
        """Show that this party waits for the host's next proposal."""
        self._between = Between.WAITS
        self._status.going_on(WAITING, "Ctrl-C leaves")

    async def asks_next(
        self, program: str, again: Wanted, present: Callable[[], Sequence[int]], check: Callable[[Wanted], object]
    ) -> Wanted | None:
        """Ask what to compute next; return None to leave.

        Args:
            program: the name of the program that ran last.
            again: the same computation again.
            present: returns the numbers of the other parties that are still here.
            check: checks a choice.
        """
        with self._status.held():
            self._between = Between.ASKS
            choice = await ask_next(printable(program, 60), again, present, check)
            self._between = Between.NO
            return choice

    def proposes(self, program: str) -> None:
        """Show that this party proposes a further computation."""
        self._between = Between.NO
        self._status.line(f"proposing {printable(program, 60)} to the others")
        self._status.going_on("comparing terms with the other parties")

    def over(self, error: OnionMPCError) -> None:
        """Show why there is no further computation."""
        self.close()
        if self._between is Between.ASKS:
            self._status.text("")
        self._between = Between.NO
        self._status.line(error.message)

    def leaves(self) -> None:
        """Show that this party leaves, which takes a moment."""
        self._between = Between.NO
        if self._status.is_terminal:
            self._status.going_on("leaving, until the others know", "Ctrl-C ends this at once")

    def left(self, *, by_user: bool) -> None:
        """Show that this party has left, if its user wanted that."""
        self.close()
        if by_user:
            self._status.line("left the session: the other parties were notified, and everything here has stopped")

    async def admits(self, joiner: Joiner) -> bool:
        """Ask whether a joiner may stay."""
        self._status.line(f"{self._called(joiner.onion)} wants seat {joiner.seat}")
        if (contact := self._contacts.get(joiner.onion)) is not None and contact.met is not None:
            self._status.line(f"{contact.name}: {contact.met}")
        self._asked_about = joiner.onion
        try:
            return await self._ask("Let this party take part?", default=True)
        finally:
            self._asked_about = None

    async def consents(self, proposal: Proposal) -> bool:
        """Show the agreement and ask."""
        self.close()
        self._padded = proposal.options["padding_rate"] > 0
        self._status.text(f"\n{proposal}\n")
        # Enter alone is no consent.
        if self._yes:
            agreed = await AGREE_TO_ANYTHING(proposal)
        else:
            agreed = await self._ask("Compute on these terms?", default=False)
        if agreed:
            self._status.going_on("waiting for the other parties to agree")
        return agreed

    async def gives(self, question: InputQuestion) -> str | bytes | None:
        """Ask for a private input until it is valid. The terminal does not show what is typed.

        Raises:
            AgreementError: the input of the terminal has ended.
        """
        with self._status.held():
            self._status.text(f"{question.label} ({question.expected})")
            if question.help:
                self._status.text(question.help)
            while True:
                value = await self._typed(question)
                if value is None:
                    return None
                try:
                    question.check(value)
                except UsageError as error:
                    self._status.text(error.message)
                    continue
                return value

    async def confirms(self, unusual: UnusualInput) -> bool:
        """Ask whether to use a private input that is unusual."""
        with self._status.held():
            return await confirm(f"{unusual.name}: {unusual.sentence} Use it?", default=False)

    async def _typed(self, question: InputQuestion) -> str | bytes | None:
        while True:
            if question.is_file:
                line = await ask_line(f"the file for {question.name}: ")
            else:
                line = await ask_unseen(f"{question.name} (not shown): ")
            if not line:
                raise AgreementError("its user gave no input")
            text = line.strip()
            if not text:
                if question.optional:
                    return None
                continue
            if not question.is_file:
                return text
            try:
                return await asyncio.to_thread(_read_file, text)
            except (OSError, ValueError, RuntimeError) as error:
                self._status.text(f"cannot read {printable(text)}: {getattr(error, 'strerror', None) or error}")

    async def _ask(self, question: str, *, default: bool) -> bool:
        if self._yes:
            return True
        with self._status.held():
            return await confirm(question, default=default)

    def _called(self, onion: Onion) -> str:
        """Return a party's address, after this user's name for it."""
        contact = self._contacts.get(onion)
        return onion if contact is None else f"{contact.name} ({onion})"

    def _invite(self, seat: int, text: str) -> None:
        self.close()
        self._status.line(f"invite for seat {seat} (secret, works once, for one party):")
        self._status.text(f"\n{text}\n")
        if self._status.is_terminal and shows_blocks():
            import segno  # not at the top: it imports urllib and XML, for one drawing

            # Upper case fits QR's alphanumeric mode and so makes a smaller code. An invite is read in either case.
            segno.make(text.upper(), error="L", micro=False).terminal(out=sys.stderr, border=1, compact=True)


class JsonDisplay:
    """Writes one JSON object per line: "event", "at_s" since the start, and the event's fields.

    Args:
        out: where to write; None for stderr, which the program shares.
        yes: answer every question with yes.
        contacts: this user's contacts, by address. Events that name a party have "name", null for a party without one.
    """

    def __init__(
        self, out: TextIO | None = None, *, yes: bool, contacts: Mapping[Onion, Contact] | None = None
    ) -> None:
        self._yes = yes
        self._contacts = contacts or {}
        self._out = out
        self._started = time.monotonic()

    def close(self) -> None:
        """Do nothing: the terminal was not taken."""

    def tell(self, event: Event) -> None:
        """Write an event."""
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        if isinstance(event, ProgramsStuck):
            values["waits"] = msgspec.to_builtins(event.waits)
            values["lines"] = list(stuck_lines(event))
        if isinstance(event, JoinerArrived | JoinerLeft):
            values["name"] = self._name(event.onion)
        if isinstance(event, RosterKnown):
            values["names"] = [self._name(onion) for onion in event.addresses]
        if isinstance(event, SeatsRefused):
            values["seats"] = seats_data(event.seats)
        if isinstance(event, InviteReady):
            values["invite"] = event.invite.text
        self._write(_snake(type(event).__name__), values)

    def ended(self, result: Result, number: int) -> None:
        """Write the summary of the computation with this number, from 1."""
        self._write("ended", summary_data(result, number))

    def flawed(self, flaw: OnionMPCError) -> None:
        """Write what is wrong with this party's output or receipt."""
        self.failed(flaw)

    def failed(self, error: OnionMPCError) -> None:
        """Write the error."""
        message, hint = in_flags(error.message), in_flags(error.hint)
        self._write("failed", {"error": message, "hint": hint, "exit_code": error.exit_code})

    def waits(self) -> None:
        """Write nothing: `ended` says that this party is between two computations."""

    def proposes(self, program: str) -> None:
        """Write nothing: `agreement` follows."""

    def over(self, error: OnionMPCError) -> None:
        """Write nothing: `left` has said which party went."""

    def leaves(self) -> None:
        """Write nothing yet."""

    def left(self, *, by_user: bool) -> None:  # noqa: ARG002 (machines see it in `at_s` and the exit code)
        """Write that this party has left: the event of another party, without a number."""
        self._write("left", {"party": None})

    async def admits(self, joiner: Joiner) -> bool:
        """Write which joiner came, and admit it: JSON requires `--yes` or `--policy`."""
        self._write("joiner_wants_seat", {"seat": joiner.seat, "onion": joiner.onion, "name": self._name(joiner.onion)})
        return self._yes

    async def consents(self, proposal: Proposal) -> bool:
        """Write the agreement, and consent: JSON requires `--yes` or `--policy`."""
        self._write(
            "agreement",
            {
                "session": proposal.session,
                "own_number": proposal.number,
                "addresses": proposal.parties,
                "names": [proposal.names.get(onion) for onion in proposal.parties],
                "seats": seats_data(proposal.seats),
                "program": proposal.program,
                "title": proposal.title,
                "reveals": proposal.reveals,
                "unusual": proposal.unusual,
                **proposal.options,
                "walls": msgspec.structs.asdict(proposal.walls),
                "allow_subprocess": proposal.allow_subprocess,
                "computation": proposal.computation,
                "exposes": [dataclasses.asdict(exposure) for exposure in proposal.exposes],
                "allowed_by": None if proposal.allowed_by is None else dataclasses.asdict(proposal.allowed_by),
            },
        )
        return self._yes and await AGREE_TO_ANYTHING(proposal)

    def _name(self, onion: Onion) -> str | None:
        contact = self._contacts.get(onion)
        return None if contact is None else contact.name

    def _write(self, name: str, values: dict[str, Any]) -> None:
        line = {"event": name, "at_s": round(time.monotonic() - self._started, 3), **values}
        click.echo(json.dumps(line, default=lambda value: value.hex()), self._out, err=True)


Display = TextDisplay | JsonDisplay


def _read_file(typed: str) -> bytes:
    return Path(typed).expanduser().read_bytes()


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
