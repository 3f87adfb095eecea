"""Shows a session's events: to a person as text on stderr, to a machine as JSON lines.

Knows words and terminals. Does not know what comes next: it is told.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from dataclasses import dataclass, fields
from typing import Any, TextIO

import click
import msgspec

from onionmpc.cli.output import StatusLine
from onionmpc.cli.prompt import confirm
from onionmpc.cli.reach import reach_lines
from onionmpc.cli.screen import agreement_lines, how_long, stuck_lines
from onionmpc.cli.streams import shows_blocks
from onionmpc.cli.summary import describe_link, summary_data
from onionmpc.errors import OnionMPCError
from onionmpc.identity import Onion
from onionmpc.program.spec import NO_WALLS, Walls
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.session.agreed_options import agreed_values
from onionmpc.session.agreement import Agreement, roster_fingerprint, session_id
from onionmpc.session.computation import Result
from onionmpc.session.estimates import Case
from onionmpc.session.events import (
    AddressKnown,
    Agreed,
    DialRetry,
    Event,
    InviteReady,
    JoinerArrived,
    JoinerLeft,
    LinkBroken,
    LinkMeasured,
    LinkResumed,
    LinkUp,
    OtherVersion,
    PeerDone,
    PeerQuiet,
    ProgramEnded,
    ProgramsMove,
    ProgramsStuck,
    Published,
    ReceiptWritten,
    RosterKnown,
    Rounding,
    SeatsTaken,
    Signing,
    SpentInvite,
    TorProgress,
    Trouble,
)
from onionmpc.session.invite import format_invite
from onionmpc.text import duration, printable
from onionmpc.wire.handshake import VERSION


@dataclass(frozen=True, slots=True)
class Answers:
    """What is the same for every display.

    Attributes:
        yes: answer every question with yes.
        private_arguments: how many arguments stay with this party.
        by_invite: whether a host tells us who the others are.
        walls: what keeps this party's program in.
        allow_subprocess: whether it may start processes.
    """

    yes: bool
    private_arguments: int
    by_invite: bool
    walls: Walls = NO_WALLS
    allow_subprocess: bool = False


class TextDisplay:
    """Lines for what stays true, one status line for what goes on."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._status = StatusLine()
        self._quiet_s: dict[int, float] = {}
        self._round_trips_s: dict[int, float] = {}
        self._padded = False
        self._asked_about: Onion | None = None
        self._hinted: set[int | None] = set()

    def close(self) -> None:
        """Leave the terminal to others."""
        self._status.close()

    def tell(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, LinkMeasured) and event.round_trip_s is not None:
            self._round_trips_s[event.party] = event.round_trip_s
        match event:
            case TorProgress(phase, percent, detail):
                names = {
                    "tor": "tor",
                    "bootstrap": "connecting to the Tor network",
                    "publish": "publishing the onion service",
                }
                self._status.going_on(names[phase], f"{percent} %, {printable(detail)}")
            case AddressKnown(onion):
                self._status.line(f"this party's address: {onion}")
            case InviteReady(seat, invite):
                self._invite(seat, format_invite(invite))
            case Published(to_all):
                found_by = "whoever knows its address" if to_all else "only those whom it expects"
                self._status.line(f"the onion service is published; {found_by} can find it")
                self._status.going_on("waiting for the others")
            case JoinerArrived(seat, onion, taken, parties):
                self._status.line(f"seat {seat} is taken by {onion} ({taken} of {parties} parties are here)")
                self._status.going_on("waiting for the others", f"{taken} of {parties} are here")
            case JoinerLeft(_, onion) if onion == self._asked_about:
                self._status.beside_a_question(
                    "It has left meanwhile; your answer counts if it is back by then. Answer?"
                )
            case JoinerLeft(seat, onion):
                self._status.line(f"{onion} gave up seat {seat}; its invite works again")
            case SeatsTaken(taken, parties):
                self._status.going_on("waiting for the host's other guests", f"{taken} of {parties} parties are here")
            case DialRetry(party, reason, again_in_s, hint):
                who = "the host" if party is None else f"party {party}"
                if hint and party not in self._hinted:
                    self._hinted.add(party)
                    self._status.line(
                        f"{who} cannot be reached: {printable(reason)}; trying on. If it stays so: {hint}"
                    )
                self._status.going_on(f"reaching {who}", f"{printable(reason)}; again in {duration(again_in_s)}")
            case OtherVersion(protocol):
                self._status.line(
                    f"somebody with another version of onionmpc (protocol {protocol}, here {VERSION}) tried to connect"
                )
            case SpentInvite(seat):
                self._status.line(
                    f"somebody tried the invite of seat {seat}, which is used: each party needs an invite of its own"
                )
            case RosterKnown(addresses, own_number):
                self._status.line(f"all {len(addresses)} parties are known, this one is party {own_number}")
                self._status.line(f"roster: {roster_fingerprint(addresses)}")
                self._status.going_on("connecting to the other parties", f"0 of {len(addresses) - 1}")
            case LinkUp(party, connected, peers):
                self._status.line(f"connected to party {party}")
                if connected < peers:
                    self._status.going_on("connecting to the other parties", f"{connected} of {peers}")
                else:
                    self._status.going_on("comparing what to run")
            case LinkMeasured(party, own_relays, claimed_relays, round_trip_s, raced) if claimed_relays and own_relays:
                words = describe_link(party, own_relays, claimed_relays, round_trip_s, raced)
                self._status.line(f"link to party {party}: {words}")
            case LinkBroken(party, reason):
                self._status.line(f"link to party {party} broke: {printable(reason)}; dialling again")
            case PeerQuiet(party, quiet_s):
                # Each line twice as late as the one before: a long absence is not to fill the screen.
                if quiet_s >= 2 * self._quiet_s.get(party, 0.0):
                    self._quiet_s[party] = quiet_s
                    self._status.line(f"party {party} quiet for {duration(quiet_s)}")
            case LinkResumed(party, away_s):
                self._quiet_s.pop(party, None)
                seen = "; whoever watches saw that gap" if self._padded else ""
                self._status.line(f"party {party} is back after {duration(away_s)}{seen}")
            case Agreed():
                self._status.line("all parties agreed; the program runs")
                self.close()
                self._status.lent = True
            case ProgramsStuck():
                for line in stuck_lines(event):
                    self._status.line(line)
            case ProgramsMove():
                self._status.line("the programs move again")
            case ProgramEnded(seconds):
                self._status.line(f"the program ended after {duration(seconds)}")
                self._status.lent = False
                self._status.going_on("waiting for the other parties to end")
            case Signing():
                self._status.going_on("waiting for the other parties to sign the receipt")
            case ReceiptWritten(file, signed, parties):
                whom = (
                    f"all {parties} parties" if len(signed) == parties else f"{len(signed)} of {parties} parties ONLY"
                )
                self._status.line(f"{file}: signed by {whom} (see: onionmpc verify --help)")
            case Rounding(seconds):
                self._status.line(
                    f"all parties are done; links stay busy for {duration(seconds)} more, so that the session's length "
                    "tells less (Ctrl-C ends it now)"
                )
            case OutOfReach():
                for line in reach_lines(**dataclasses.asdict(event)):
                    self._status.line(line)
            case PeerDone() | LinkMeasured():
                pass
            case Trouble(what):
                self._status.going_on("this session cannot go on; hearing the others", printable(what))

    def ended(self, result: Result) -> None:
        """Show the summary of a computation that ended well."""
        self.close()
        self._status.line(
            f"done: connected in {duration(result.connect_s)}, agreed in {duration(result.agree_s)}, "
            f"computed in {duration(result.run_s)}"
        )
        for number, link in result.links.items():
            words = describe_link(number, link.own_relays, link.claimed_relays, link.round_trip_s, link.raced)
            self._status.line(f"  link to party {number}: {words}")

    def failed(self, _error: OnionMPCError) -> None:
        """The error itself is printed by the main command."""
        self.close()
        self._status.end_line()

    def left(self) -> None:
        """Show that this party left by its person's will."""
        self.close()
        self._status.line("left; the others were told, and everything here is stopped")

    async def admits(self, onion: Onion, seat: int) -> bool:
        """Ask whether a joiner may stay."""
        self._status.line(f"{onion} wants seat {seat}")
        self._asked_about = onion
        try:
            return await self._ask("Let this party take part?", default=True)
        finally:
            self._asked_about = None

    async def consents(self, agreement: Agreement, own_number: int) -> bool:
        """Show the agreement and ask."""
        self.close()
        self._padded = agreement.common.padding_rate > 0
        hops = Case.of(agreement.common).recall()
        slowest_s = max(self._round_trips_s.values(), default=None)
        lines = agreement_lines(
            agreement,
            own_number,
            self._answers.private_arguments,
            how_long(agreement, hops, slowest_s) if hops else "",
            by_invite=self._answers.by_invite,
            walls=self._answers.walls,
            allow_subprocess=self._answers.allow_subprocess,
        )
        self._status.text("\n".join(["", "The agreement:", *lines, ""]))
        agreed = await self._ask("Compute on these terms?", default=False)
        if agreed:
            self._status.going_on("waiting for the other parties to agree")
        return agreed

    async def _ask(self, question: str, *, default: bool) -> bool:
        if self._answers.yes:
            return True
        with self._status.held():
            return await confirm(question, default=default)

    def _invite(self, seat: int, text: str) -> None:
        self.close()
        self._status.line(f"invite for seat {seat} (secret, works once, for one party):")
        self._status.text(f"\n{text}\n")
        if self._status.is_terminal and shows_blocks():
            import segno  # brings urllib and XML, for one drawing

            segno.make(text.upper(), error="L", micro=False).terminal(out=sys.stderr, border=1, compact=True)


class JsonDisplay:
    """One JSON object per line: "event", "at_s" since the start, and the event's fields.

    Args:
        out: where they go; None: stderr, which the program writes to as well.
    """

    def __init__(self, answers: Answers, out: TextIO | None = None) -> None:
        self._answers = answers
        self._out = out
        self._started = time.monotonic()

    def close(self) -> None:
        """Nothing to put back."""

    def tell(self, event: Event) -> None:
        """Write an event."""
        values = {field.name: getattr(event, field.name) for field in fields(event)}
        if isinstance(event, ProgramsStuck):
            values["waits"] = msgspec.to_builtins(event.waits)
            values["lines"] = list(stuck_lines(event))
        if isinstance(event, InviteReady):
            values["invite"] = format_invite(event.invite)
        self._write(_snake(type(event).__name__), values)

    def ended(self, result: Result) -> None:
        """Write the summary."""
        self._write("ended", summary_data(result))

    def failed(self, error: OnionMPCError) -> None:
        """Write the error."""
        self._write("failed", {"error": error.message, "hint": error.hint, "exit_code": error.exit_code})

    def left(self) -> None:
        """Write that this party left by its person's will."""
        self._write("left", {})

    async def admits(self, onion: Onion, seat: int) -> bool:
        """Write who came; `--yes` is required with JSON."""
        self._write("joiner_wants_seat", {"seat": seat, "onion": onion})
        return self._answers.yes

    async def consents(self, agreement: Agreement, own_number: int) -> bool:
        """Write the agreement; `--yes` is required with JSON."""
        self._write(
            "agreement",
            {
                "session": session_id(agreement),
                "own_number": own_number,
                "addresses": agreement.common.addresses,
                "program": agreement.common.program,
                **agreed_values(agreement.common),
                "walls": msgspec.structs.asdict(self._answers.walls),
                "allow_subprocess": self._answers.allow_subprocess,
            },
        )
        return self._answers.yes

    def _write(self, name: str, values: dict[str, Any]) -> None:
        line = {"event": name, "at_s": round(time.monotonic() - self._started, 3), **values}
        click.echo(json.dumps(line, default=lambda value: value.hex()), self._out, err=True)


Display = TextDisplay | JsonDisplay


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
