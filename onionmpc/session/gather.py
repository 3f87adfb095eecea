"""The host's side of a gathering: joiners take seats, the user admits them, and all get the terms.

onionmpc.session.seating says who may take which seat. A gathering ends with `Terms`, before the mesh begins. Rules:
docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence

from onionmpc.errors import LinkExpired, RemoteProtocolError
from onionmpc.identity import Onion, onion_from_public_key
from onionmpc.mesh.changes import Changes
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.session.events import InviteReady, JoinerArrived, JoinerLeft, SpentInvite, UserInterface
from onionmpc.session.messages import AnyMessage, Refused, Seats, Terms, encode_message
from onionmpc.session.seating import HostSeat, Seating
from onionmpc.tasks import first_error
from onionmpc.wire.frames import AbortCode
from onionmpc.wire.handshake import Answer, Hello, Purpose
from onionmpc.wire.link import ControlBytes, Event, LinkClosed

# How long the last joiner may take to acknowledge the terms.
TERMS_S = 30.0
# How long to wait until joiners acknowledge that the host leaves, or has refused them.
GOODBYE_S = 3.0


class Gathering:
    """The gatekeeper of the host's door until the roster is complete.

    Args:
        seating: the seats to fill.
        ui: is shown each joiner, and may refuse it.
    """

    def __init__(self, seating: Seating, ui: UserInterface) -> None:
        self.seating = seating
        self._ui = ui
        self._changes = Changes()
        self._asked_about: Onion | None = None
        self._terms: Terms | None = None
        # By seat number: the links of the holders that are here, and the seats whose holders have the terms.
        self._runners: dict[int, LinkRunner] = {}
        self._have_terms: set[int] = set()
        self._noted_spent: set[int] = set()  # the seats for which the user knows that a used invite was tried

    async def fill(self, admit: Callable[[Iterable[bytes]], None]) -> tuple[Onion, ...]:
        """Ask the user about each joiner until every seat is taken and confirmed; return the sorted roster.

        If a joiner leaves while the user is asked, the answer still takes effect.

        Args:
            admit: called with the discovery keys of the host's service whenever they change.
        """
        seating = self.seating
        try:
            while not seating.is_full:
                async with asyncio.TaskGroup() as goodbyes:
                    while not seating.is_full:
                        await self._changes.until(lambda: seating.is_full or self._to_ask_about() is not None)
                        if (seat := self._to_ask_about()) is not None and not seating.is_full:
                            keys = seating.keys()
                            await self._ask_about(seat, goodbyes)
                            if seating.keys() != keys:
                                admit(seating.keys())
        except BaseExceptionGroup as errors:
            error = first_error(errors)
            raise error from error.__cause__
        return seating.roster()

    async def send_terms(self, terms: Terms) -> None:
        """Send all joiners the terms. A joiner leaves the gathering when it has them.

        A joiner that does not acknowledge them within TERMS_S seconds will be missing from the mesh, where all other
        parties notice.
        """
        self._terms = terms
        self._send_all(terms)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMS_S):
                await self._changes.until(lambda: len(self._have_terms) == len(self.seating.seats))

    async def leave(self) -> None:
        """Close the links of all seats, and wait until the joiners have acknowledged that."""
        for runner in list(self._runners.values()):
            runner.close(linger=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._changes.until(lambda: not self._runners)

    # -- Gatekeeper

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """Return the psks of the seats that are free, or held by the party with this key."""
        return self.seating.psks_for(static_key)

    def judge(self, hello: Hello, psk: bytes) -> Answer:
        """Accept a joiner if there is a seat for it."""
        if hello.purpose is not Purpose.GATHER:
            return Answer.NOT_NOW  # a joiner that has the terms already dials for the mesh: it tries again
        seat = self.seating.seat_for(onion_from_public_key(hello.public_key), psk)
        return Answer.NO_SEAT if seat is None else Answer.ACCEPTED

    def offsets_for(self, _hello: Hello) -> tuple[int, int]:
        """Return zero offsets: a seat's link has one stream, and nothing to resume."""
        return 0, 0

    async def welcome(self, visitor: SecureStream, _hello: Hello, psk: bytes) -> None:
        """Seat a joiner until it leaves or the terms are sent."""
        seat = self.seating.seat_for(visitor.peer, psk)
        if seat is None:
            return
        if (before := self._runners.get(seat.number)) is not None:
            # The same identity came back before we noticed that its last stream had broken.
            before.close()
        runner = LinkRunner(lambda event: self._note(seat, runner, event))
        seat.holder, seat.nonce, self._runners[seat.number] = visitor.peer, visitor.nonce, runner
        if self._terms is not None:
            runner.send_control(encode_message(self._terms))  # its last stream broke before they arrived
        self._note_change()
        with contextlib.suppress(LinkExpired, RemoteProtocolError):
            await runner.carry_alone(visitor)
        if self._runners.get(seat.number) is runner:
            if self._terms is not None and runner.link.flushed():
                self._have_terms.add(seat.number)
            self._vacate(seat)

    # -- SpentPsks

    def spent_psks(self) -> Sequence[bytes]:
        """Return the psks of all invites. The caller has tried those that may still be used."""
        return self.seating.all_psks()

    def note_spent(self, psk: bytes, hello: Hello) -> None:
        """Show, once for each seat, that someone tried an invite that another party has used."""
        seat = self.seating.invited_by(psk)
        if seat.number not in self._noted_spent and seat.holder != onion_from_public_key(hello.public_key):
            self._noted_spent.add(seat.number)
            self._ui.tell(SpentInvite(seat.number))

    # -- the holders of the seats

    def _note(self, seat: HostSeat, runner: LinkRunner, event: Event) -> None:
        match event:
            case ControlBytes():
                runner.abort(AbortCode.CONTROL_MESSAGE)  # a joiner sends no message before the terms
            case LinkClosed() if self._runners.get(seat.number) is runner and self._terms is not None:
                self._have_terms.add(seat.number)

    def _vacate(self, seat: HostSeat) -> None:
        del self._runners[seat.number]
        if self._terms is None:
            if seat.holder is not None and (seat.confirmed or seat.holder == self._asked_about):
                self._ui.tell(JoinerLeft(seat.number, seat.holder))
            if seat.holder == self._asked_about:
                self._asked_about = None  # shown once, even if the joiner comes and goes again
            seat.holder, seat.confirmed = None, False
        self._note_change()

    # -- questions to the host's user

    def _to_ask_about(self) -> HostSeat | None:
        return next((seat for seat in self.seating.seats if seat.number in self._runners and not seat.confirmed), None)

    async def _ask_about(self, seat: HostSeat, goodbyes: asyncio.TaskGroup) -> None:
        """Ask the user about a seat's holder, and act on the answer."""
        joiner, psk = seat.holder, seat.psk
        assert joiner is not None  # noqa: S101 (a seat with a link has a holder)
        self._asked_about = joiner
        # Wait for the answer even if the joiner leaves in the meantime. Otherwise the next question could get the
        # answer to this one. Nothing is awaited between the answer and its effect.
        admitted = await self._ui.admits(joiner, seat.number)
        self._asked_about = None
        own = self.seating.held_by(joiner)  # it may have left and come back
        if not admitted:
            self.seating.refuse(joiner, psk)
            if own is not None:
                self._turn_away(own, goodbyes)
            if seat.invite is not None and seat.psk == psk and seat.holder is None:
                self._replace_invite(seat)
        elif own is not None:
            own.confirmed = True
            self._ui.tell(JoinerArrived(own.number, joiner, self.seating.taken, self.seating.parties))
        self._note_change()

    def _turn_away(self, seat: HostSeat, goodbyes: asyncio.TaskGroup) -> None:
        """Free a seat at once, even if its holder is slow to leave."""
        if seat.holder is not None:
            self.seating.refuse(seat.holder, seat.psk)
        if (runner := self._runners.pop(seat.number, None)) is not None:
            runner.send_control(encode_message(Refused("the host does not want this party")))
            goodbyes.create_task(runner.close_when_flushed(GOODBYE_S))
        seat.holder = None
        if seat.invite is not None:
            self._replace_invite(seat)

    def _replace_invite(self, seat: HostSeat) -> None:
        """Give a seat a new invite, since the refused joiner has the old one and could use it under a new address."""
        invite = self.seating.invite_to(seat)
        self._ui.tell(InviteReady(seat.number, invite))

    # -- messages to the joiners, and waiting for them

    def _note_change(self) -> None:
        if self._terms is None:
            self._send_all(Seats(self.seating.taken, self.seating.parties))
        self._changes.notify()

    def _send_all(self, message: AnyMessage) -> None:
        for seat in self.seating.seats:
            if seat.confirmed and (runner := self._runners.get(seat.number)) is not None:
                runner.send_control(encode_message(message))
