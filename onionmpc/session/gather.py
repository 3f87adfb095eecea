"""How strangers become a roster: a host's seats, and a joiner's way to one of them.

Knows seats, invites and who holds what. Ends with `Terms`, before the mesh. Rules: docs/PROTOCOL.md section 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from onionmpc.errors import (
    AgreementError,
    AuthenticationFailed,
    InvalidAddress,
    LinkExpired,
    OnionMPCError,
    PeerLeft,
    PeerUnreachable,
    RemoteProtocolError,
    VersionDiffers,
)
from onionmpc.identity import (
    Identity,
    Onion,
    check_roster,
    onion_from_public_key,
    public_key_from_onion,
    x25519_public_from_ed25519,
)
from onionmpc.mesh.network import Network
from onionmpc.mesh.redial import DialFailed, dial_until_accepted
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.session.discovery import pair_key, seat_key
from onionmpc.session.doubts import Doubts
from onionmpc.session.events import InviteReady, JoinerArrived, JoinerLeft, Person, SeatsTaken, SpentInvite
from onionmpc.session.invite import SECRET_BYTES, Invite
from onionmpc.session.messages import AnyMessage, MessageDecoder, Refused, Seats, Terms, encode_message
from onionmpc.tasks import ended
from onionmpc.text import duration, printable
from onionmpc.wire.frames import AbortCode
from onionmpc.wire.handshake import NO_PSK, Answer, Hello, Purpose
from onionmpc.wire.link import ControlBytes, Event, LinkClosed

# How long the last joiner may take to acknowledge the terms.
TERMS_S = 30.0
GOODBYE_S = 3.0
# Invites that are told apart from what nobody ever made. More than MPyC has parties, and as many refusals.
REMEMBERED_INVITES = 512


@dataclass(slots=True)
class Seat:
    """One place at the host's table.

    Attributes:
        psk: what its invite comes down to; None for a seat that needs no invite.
        expected: the only address that may take it, None for any.
        holder: who sits there.
        nonce: the holder's, 16 bytes; the same for as long as that party runs.
        confirmed: whether the person at the host has said yes.
        runner: the holder's link.
        has_terms: whether the holder has taken the terms.
    """

    number: int
    psk: bytes | None = field(default=None, repr=False)
    expected: Onion | None = None
    holder: Onion | None = None
    nonce: bytes = b""
    confirmed: bool = False
    runner: LinkRunner | None = None
    has_terms: bool = False

    @property
    def only_for(self) -> Onion | None:
        """The one address that may sit down now, None for any."""
        return self.holder or self.expected

    def is_for(self, onion: Onion, psk: bytes) -> bool:
        """Return whether this identity may take the seat with this psk."""
        return self.only_for in (None, onion) and psk == (self.psk or NO_PSK)


class HostTable:
    """The host's seats: a Keeper for the door while the roster fills.

    Args:
        identity: the host's.
        parties: m, the host included.
        expected: addresses that get in without an invite, one seat each.
        is_open: whether the other seats need no invite either.
        person: sees who comes, and may refuse.

    Attributes:
        admit: is called with the keys by which the host is to be found from now on.
    """

    admit: Callable[[Iterable[bytes]], None]

    def __init__(
        self, identity: Identity, parties: int, expected: Sequence[Onion], *, is_open: bool, person: Person
    ) -> None:
        self._identity = identity
        self._person = person
        self._changed = asyncio.Event()
        self._asked_about: Onion | None = None
        self._terms: Terms | None = None
        self._refused: set[tuple[Onion, bytes]] = set()
        self._invited: dict[bytes, Seat] = {}
        self._told_spent: set[int] = set()
        self._seats = [Seat(number) for number in range(1, parties)]
        for seat, onion in zip(self._seats, expected, strict=False):
            seat.expected = onion
        for seat in self._seats:
            if seat.expected is None and not is_open:
                self._invite_to(seat)

    def keys(self) -> list[bytes]:
        """Return the keys by which the host is to be found; none if everybody is to find it."""
        keys = []
        for seat in self._seats:
            if seat.expected is not None:
                keys.append(pair_key(self._identity, seat.expected, self._identity.onion))
            elif seat.psk is not None:
                keys.append(seat_key(seat.psk))
            else:
                return []
        return keys

    def keys_of_joiners(self) -> dict[Onion, bytes]:
        """Return the keys by which those at the table are to be found, in this session."""
        return {
            seat.holder: pair_key(self._identity, seat.holder, seat.holder, seat.nonce)
            for seat in self._seats
            if seat.holder is not None
        }

    async def fill(self) -> tuple[Onion, ...]:
        """Ask the person about those who come, until every seat is taken and confirmed; return the roster, sorted.

        No joiner's leaving ends this: an answer takes effect whatever became of whom it is about.
        """
        while not self._is_full():
            async with asyncio.TaskGroup() as goodbyes:
                while not self._is_full():
                    await self._until(lambda: self._is_full() or self._to_ask_about() is not None)
                    if (seat := self._to_ask_about()) is not None and not self._is_full():
                        await self._ask_about(seat, goodbyes)
        return tuple(sorted([self._identity.onion, *(seat.holder for seat in self._seats if seat.holder)]))

    async def send_terms(self, terms: Terms) -> None:
        """Tell all joiners the roster; each leaves the table when it has it.

        Who has not taken it in TERMS_S seconds will be missing from the mesh, where all others learn of it.
        """
        self._terms = terms
        self._tell_all(terms)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TERMS_S):
                await self._until(lambda: all(seat.has_terms for seat in self._seats))

    async def leave(self) -> None:
        """Close the links of all seats, and see that the joiners hear it."""
        for seat in self._seats:
            if seat.runner is not None:
                seat.runner.close(heard=True)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                await self._until(lambda: all(seat.runner is None for seat in self._seats))

    # -- Keeper

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """The psks of the seats that are free or held by this key, and none where no invite is needed."""
        return [
            seat.psk or NO_PSK
            for seat in self._seats
            if seat.only_for is None or _static_key(seat.only_for) == static_key
        ]

    def judge(self, hello: Hello, psk: bytes) -> Answer:
        """Accept whom a seat is for."""
        if hello.purpose is not Purpose.GATHER:
            return Answer.NOT_NOW
        seat = self._seat_for(onion_from_public_key(hello.public_key), psk)
        return Answer.NO_SEAT if seat is None else Answer.ACCEPTED

    def offsets_for(self, _hello: Hello) -> tuple[int, int]:
        """A seat's link has one stream, and nothing to resume."""
        return 0, 0

    # -- SpentPsks

    def spent_psks(self) -> Sequence[bytes]:
        """The psks of all invites: those that may still be used have been tried before."""
        return list(self._invited)

    def note_spent(self, psk: bytes, hello: Hello) -> None:
        """Tell, once for each seat, that somebody tried an invite that is not theirs any more."""
        seat = self._invited[psk]
        if seat.number not in self._told_spent and seat.holder != onion_from_public_key(hello.public_key):
            self._told_spent.add(seat.number)
            self._person.tell(SpentInvite(seat.number))

    async def welcome(self, visitor: SecureStream, _hello: Hello, psk: bytes) -> None:
        """Seat a joiner until it leaves or the terms are sent."""
        seat = self._seat_for(visitor.peer, psk)
        if seat is None:
            return
        if seat.runner is not None:
            # The same identity came back before we noticed that it was gone.
            seat.runner.close()
        runner = LinkRunner(lambda event: self._heed(seat, runner, event))
        seat.holder, seat.nonce, seat.runner = visitor.peer, visitor.nonce, runner
        if self._terms is not None:
            runner.send_control(encode_message(self._terms))  # it lost its stream before they arrived
        self._tell_seats()
        with contextlib.suppress(LinkExpired, RemoteProtocolError):
            await runner.carry_alone(visitor)
        if seat.runner is runner:
            seat.has_terms |= self._terms is not None and runner.link.flushed()
            self._vacate(seat)

    def _heed(self, seat: Seat, runner: LinkRunner, event: Event) -> None:
        match event:
            case ControlBytes():
                runner.abort(AbortCode.CONTROL_MESSAGE)  # a joiner has nothing to say before the terms
            case LinkClosed() if seat.runner is runner:
                seat.has_terms = self._terms is not None

    def _seat_for(self, onion: Onion, psk: bytes) -> Seat | None:
        if (onion, psk) in self._refused:
            return None
        others = [seat.holder for seat in self._seats if seat.holder is not None and seat.holder != onion]
        try:
            check_roster([onion, *others], self._identity.onion)
        except InvalidAddress:
            return None
        # Who holds a seat gets that one again, and no second one with a second invite.
        own = [seat for seat in self._seats if seat.holder == onion]
        fitting = [seat for seat in own or self._seats if seat.is_for(onion, psk)]
        # An expected party gets its own before an open one.
        return min(fitting, key=lambda seat: seat.expected is None, default=None)

    def _is_full(self) -> bool:
        return all(seat.confirmed for seat in self._seats)

    def _to_ask_about(self) -> Seat | None:
        return next((seat for seat in self._seats if seat.runner is not None and not seat.confirmed), None)

    async def _ask_about(self, seat: Seat, goodbyes: asyncio.TaskGroup) -> None:
        """Ask the person about who sits there, and do as they say."""
        joiner, spent = seat.holder, seat.psk
        assert joiner is not None  # noqa: S101 (a seat with a runner has a holder)
        self._asked_about = joiner
        # Also when it leaves meanwhile: the next question comes after the answer to this one, or that answer would be
        # taken for one about the next. From the answer on nothing is waited for.
        admitted = await self._person.admits(joiner, seat.number)
        self._asked_about = None
        own = next((other for other in self._seats if other.holder == joiner), None)  # it may have left and come back
        if not admitted:
            self._refused.add((joiner, spent or NO_PSK))
            if own is not None:
                self._turn_away(own, goodbyes)
            if spent is not None and seat.psk == spent and seat.holder is None:
                self._replace_invite(seat)
        elif own is not None:
            own.confirmed = True
            self._person.tell(JoinerArrived(own.number, joiner, self._taken(), 1 + len(self._seats)))
        self._tell_seats()

    def _turn_away(self, seat: Seat, goodbyes: asyncio.TaskGroup) -> None:
        """Free a seat at once, however long who sits there takes to go."""
        if seat.holder is not None:
            self._refused.add((seat.holder, seat.psk or NO_PSK))
        if seat.runner is not None:
            seat.runner.send_control(encode_message(Refused("the host does not want this party")))
            goodbyes.create_task(seat.runner.close_when_flushed(GOODBYE_S))
        seat.holder = seat.runner = None
        if seat.psk is not None:
            self._replace_invite(seat)

    def _replace_invite(self, seat: Seat) -> None:
        """Make a seat another invite: the old one is spent on who was refused."""
        self._invite_to(seat)
        self.admit(self.keys())

    def _vacate(self, seat: Seat) -> None:
        seat.runner = None
        if self._terms is None:
            if seat.holder is not None and (seat.confirmed or seat.holder == self._asked_about):
                self._person.tell(JoinerLeft(seat.number, seat.holder))
            if seat.holder == self._asked_about:
                self._asked_about = None  # told once: it may come and go as often as it likes
            seat.holder, seat.confirmed = None, False
        self._tell_seats()

    def _taken(self) -> int:
        return 1 + sum(seat.confirmed for seat in self._seats)

    def _tell_seats(self) -> None:
        if self._terms is None:
            self._tell_all(Seats(self._taken(), 1 + len(self._seats)))
        self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def _invite_to(self, seat: Seat) -> None:
        invite = Invite(self._identity.onion, secrets.token_bytes(SECRET_BYTES))
        seat.psk = invite.psk()
        self._invited[seat.psk] = seat
        if len(self._invited) > REMEMBERED_INVITES:
            del self._invited[next(iter(self._invited))]
        self._person.tell(InviteReady(seat.number, invite))

    def _tell_all(self, message: AnyMessage) -> None:
        for seat in self._seats:
            if seat.runner is not None and seat.confirmed:
                seat.runner.send_control(encode_message(message))


async def ask_host(
    network: Network, identity: Identity, host: Onion, psk: bytes, nonce: bytes, person: Person, wait_s: float
) -> Terms:
    """Take a seat at a host and wait for the terms, coming back whenever the stream breaks.

    Raises:
        AuthenticationFailed: the host does not let us in.
        AgreementError: the person at the host refused us.
        VersionDiffers: the host speaks another version of the protocol.
        PeerLeft: the host ended the gathering.
        PeerUnreachable: the terms did not come within `wait_s` seconds.
    """
    hello = Hello(identity.public_key, Purpose.GATHER, nonce)
    doubts = Doubts(person, by_invite=psk != NO_PSK)

    try:
        async with asyncio.timeout(wait_s):
            while True:
                try:
                    _, secure = await dial_until_accepted(network, identity, host, psk, hello, on_failure=doubts.add)
                except VersionDiffers as error:
                    raise VersionDiffers(error.theirs, error.ours, there="the host") from error
                except AuthenticationFailed as error:
                    raise doubts.refused(error) from error
                doubts = Doubts(person, by_invite=psk != NO_PSK)
                try:
                    return await _sit_at(secure, person)
                except LinkExpired as error:
                    doubts.add(DialFailed(error.message, 0.0))
    except TimeoutError as error:
        raise PeerUnreachable(
            f"the host had no terms for us within {duration(wait_s)}{doubts.why}", hint=doubts.hint
        ) from error


async def _sit_at(secure: SecureStream, person: Person) -> Terms:
    answer: asyncio.Future[Terms] = asyncio.get_running_loop().create_future()
    decoder = MessageDecoder()

    def on_event(event: Event) -> None:
        try:
            if isinstance(event, ControlBytes):
                for message in decoder.decode(event.payload):
                    _heed(message, answer, person)
            elif isinstance(event, LinkClosed):
                raise PeerLeft("the host ended the gathering", hint="ask the host whether to try again")
        except OnionMPCError as error:
            if not answer.done():
                answer.set_exception(error)

    runner = LinkRunner(on_event)
    running = asyncio.create_task(runner.carry_alone(secure))
    try:
        waiting: set[asyncio.Future[Any]] = {running, answer}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        await running
        raise LinkExpired("the host closed the link")
    finally:
        runner.close(heard=not answer.done())  # else the host has said its last word
        await ended(running)


def _heed(message: AnyMessage, answer: asyncio.Future[Terms], person: Person) -> None:
    match message:
        case Seats(taken, parties):
            person.tell(SeatsTaken(taken, parties))
        case Terms() if not answer.done():
            answer.set_result(message)
        case Refused(reason):
            raise AgreementError(f"the host refused this party: {printable(reason)}")
        case _:
            raise RemoteProtocolError(f"the host sent {type(message).__name__}, which has no place here")


@functools.lru_cache(maxsize=256)
def _static_key(onion: Onion) -> bytes:
    return x25519_public_from_ed25519(public_key_from_onion(onion))
