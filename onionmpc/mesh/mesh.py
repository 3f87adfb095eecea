"""All links of one session: dials the higher parties, lets the lower ones in, and keeps every link on streams.

Does not know what the links carry, nor which Network it uses. Rules: docs/PROTOCOL.md sections 2 to 4.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from onionmpc.errors import OnionMPCError, PeerUnreachable, RemoteProtocolError
from onionmpc.identity import Identity, Onion, onion_from_public_key, public_keys_from_onion
from onionmpc.levels import Level
from onionmpc.mesh.clock import wakeups
from onionmpc.mesh.link_dials import LinkDials
from onionmpc.mesh.network import Network
from onionmpc.mesh.observer import Observer
from onionmpc.mesh.pace import SharedDials, Visits
from onionmpc.mesh.race import Race
from onionmpc.mesh.reconnect import Reconnector
from onionmpc.mesh.redial import DialFailed, dial_until_accepted
from onionmpc.mesh.runner import LinkRunner, ReplayRoom
from onionmpc.mesh.secure import SecureStream, dial
from onionmpc.mesh.timings import DEFAULT_MESH_TIMINGS, MeshTimings
from onionmpc.tasks import BackgroundTasks, Work
from onionmpc.text import duration
from onionmpc.wire.frames import AbortCode, Ping, encode_frame
from onionmpc.wire.handshake import Answer, Hello, Purpose, Reply, link_id

# Enough for several dials of the peer. After that we ask it again to dial us.
DIAL_BACK_S = 60.0


@dataclass(frozen=True, slots=True)
class MeshLink:
    """One link of a mesh.

    Attributes:
        id: names it in resume handshakes.
        reconnector: dials while no stream delivers anything.
        race: compares several streams, and keeps the fastest.
        visits: counts the streams with which the peer has resumed it.
    """

    id: bytes
    runner: LinkRunner
    reconnector: Reconnector
    race: Race
    visits: Visits


class Mesh:
    """The links of one party.

    Args:
        identity: ours; on the roster.
        roster: all parties' addresses, sorted.
        psk: the session's pre-shared key, 32 bytes.
        nonce: ours, 16 bytes.
        observer: is notified of events.
        patience_s: how long a party may be away.
        padding_rate: records per second on each link, in each direction; 0 to send whenever there is something to send.
        timings: of dials, races and links.
    """

    def __init__(
        self,
        network: Network,
        identity: Identity,
        roster: Sequence[Onion],
        psk: bytes,
        nonce: bytes,
        observer: Observer,
        patience_s: float,
        padding_rate: int = 0,
        timings: MeshTimings = DEFAULT_MESH_TIMINGS,
    ) -> None:
        self.roster = tuple(roster)
        self.own_number = self.roster.index(identity.onion)
        self._links: dict[int, MeshLink] = {}
        self._room = ReplayRoom()
        self._dials = SharedDials(timings)
        self._patience_s = patience_s
        self._padding_rate = padding_rate
        self._timings = timings
        self._tasks: BackgroundTasks | None = None
        self._dialling_back: set[int] = set()
        self._timeout_s = 0.0
        self._network = network
        self._identity = identity
        self._psk = psk
        self._nonce = nonce
        self._observer = observer
        self._static_keys = {
            public_keys_from_onion(onion).x25519: number
            for number, onion in enumerate(self.roster)
            if number != self.own_number
        }

    @property
    def peers(self) -> list[int]:
        """The numbers of all other parties."""
        return [number for number in range(len(self.roster)) if number != self.own_number]

    @contextlib.asynccontextmanager
    async def running(self, timeout_s: float) -> AsyncIterator[None]:
        """Dial all higher parties at once, and keep every link up during the block.

        A failure that concerns more than one link cancels the block, which can still notify peers over the other links.

        Args:
            timeout_s: for reaching a party for the first time.
        """
        self._timeout_s = timeout_s
        higher = [self._dial_first(number, timeout_s) for number in self.peers if number > self.own_number]
        async with BackgroundTasks(self._hurry_after_outages(), self._hurry_after_sleep(), *higher) as self._tasks:
            try:
                yield
            finally:
                self._tasks = None  # from now on nobody is let in: there would be no task to serve them

    async def _hurry_after_outages(self) -> None:
        while True:
            await self._network.restored()
            for link in self._links.values():
                link.reconnector.hurry()

    async def _hurry_after_sleep(self) -> None:
        async for _ in wakeups():
            for link in self._links.values():
                link.runner.doubt()
                link.reconnector.hurry()

    # -- Gatekeeper: the listener's side

    def psks_for(self, static_key: bytes) -> Sequence[bytes]:
        """The session's psk for a roster key, none for anyone else."""
        return [self._psk] if static_key in self._static_keys else []

    def judge(self, hello: Hello, _psk: bytes) -> Answer:
        """Accept a lower party that has no link yet, and any party that resumes its link.

        If exactly one of the two parties is at circuit length short, the other dials.
        """
        try:
            number = self.roster.index(onion_from_public_key(hello.public_key))
        except ValueError:
            # The mirror image -A of an address A on the roster: it has the same X25519 key, but no seat.
            return Answer.NO_SEAT
        link = self._links.get(number)
        if hello.purpose is Purpose.RESUME:
            return Answer.ACCEPTED if self._may_resume(number, link, hello) else Answer.UNKNOWN_SESSION
        if hello.purpose is Purpose.GATHER or not self._may_open(number):
            return Answer.NOT_NOW
        dial_back = hello.purpose is Purpose.MESH_OR_DIAL_BACK and self._network.level is not Level.SHORT
        return Answer.DIAL_BACK if dial_back else Answer.ACCEPTED

    def offsets_for(self, hello: Hello) -> tuple[int, int]:
        """Return how much of this dialler's link has arrived."""
        link = self._links.get(self.roster.index(onion_from_public_key(hello.public_key)))
        return link.runner.link.offsets() if link is not None else (0, 0)

    async def welcome(self, visitor: SecureStream, hello: Hello, _psk: bytes) -> None:
        """Carry a party's link over the stream that it dialled, or dial it back."""
        number = self.roster.index(visitor.peer)
        # Judged once more: things may have changed while the dialler showed the final keys.
        # Judged once more: things may have changed while the dialler showed the final keys.
        answer = self.judge(hello, self._psk)
        if answer is Answer.DIAL_BACK and number not in self._dialling_back:
            self._dialling_back.add(number)
            self._start(self._dial_first(number, self._timeout_s))
        if answer is not Answer.ACCEPTED:
            return  # another stream of this party was faster
        link = self._links.get(number)
        if link is None:
            link = self._open(number, hello.nonce, dials_first=False)
        elif not link.visits.add(time.monotonic()):
            link.runner.abort(AbortCode.LIMIT)
            most = self._timings.accepted_per_hour
            link.runner.fail(RemoteProtocolError(f"it reconnected more than {most} times within an hour"))
            return
        await self._carry(number, link.runner, visitor, hello.offsets, dialled=False)

    def _may_resume(self, number: int, link: MeshLink | None, hello: Hello) -> bool:
        if link is None:
            # The first stream of a lower party may break after our answer and before its first record.
            return self._may_open(number) and hello.link == self._link_id(number, hello.nonce)
        return link.runner.alive and hello.link == link.id

    def _may_open(self, number: int) -> bool:
        comes_first = number < self.own_number or self._network.level is Level.SHORT
        return self._tasks is not None and comes_first and number not in self._links

    def _link_id(self, number: int, nonce: bytes) -> bytes:
        return link_id(nonce, self._nonce) if number < self.own_number else link_id(self._nonce, nonce)

    # -- the dialler's side

    async def _dial_first(self, number: int, timeout_s: float) -> None:
        why = ""

        def failed(failure: DialFailed) -> None:
            nonlocal why
            why = f": {failure.reason}"
            self._observer.dial_failed(number, failure)

        try:
            async with asyncio.timeout(timeout_s):
                while number not in self._links:
                    await self._dial_to_open(number, failed)
        except TimeoutError:
            if number not in self._links:  # the peer may have dialled us back in time
                reason = PeerUnreachable(f"it could not be reached within {duration(timeout_s)}{why}")
                self._observer.link_down(number, reason)
        except OnionMPCError as error:
            self._observer.link_down(number, error)

    async def _dial_to_open(self, number: int, on_failure: Callable[[DialFailed], None]) -> None:
        purpose = Purpose.MESH_OR_DIAL_BACK if self._network.level is Level.SHORT else Purpose.MESH
        reply, secure = await dial_until_accepted(
            self._network,
            self._identity,
            self.roster[number],
            self._psk,
            Hello(self._identity.public_key, purpose, self._nonce),
            on_failure=on_failure,
            timings=self._timings,
        )
        if reply.answer is Answer.DIAL_BACK:
            try:
                secure.send([encode_frame(Ping(0))])  # the peer acts only on a record under the final keys
                await secure.flush(self._timings.last_words_s)
            finally:
                secure.abort()
            await asyncio.sleep(DIAL_BACK_S)
        elif number in self._links:  # the peer has dialled us in the meantime
            await secure.close()
        else:
            self._open(number, secure.nonce, dials_first=True)
            self.carry_dialled(number, secure)

    # -- Redialler: the reconnectors' side

    async def redial(self, party: int, attempt: int, timeout_s: float) -> tuple[Reply, SecureStream]:
        """Dial a peer to resume its link; see `Redialler`."""
        if attempt > 1:
            # The peer may be trying to reach us too, and not find our service.
            await self._network.refresh()
        link = self._links[party]
        hello = Hello(self._identity.public_key, Purpose.RESUME, self._nonce, link.id, link.runner.link.offsets())
        peer = self.roster[party]
        return await dial(self._network, self._identity, peer, self._psk, hello, timeout_s=timeout_s)

    def carry_dialled(self, party: int, secure: SecureStream, peer_offsets: tuple[int, int] = (0, 0)) -> None:
        """Carry a peer's link over a stream that it accepted; see `Redialler`."""
        self._dials.add(secure.dialled_in_s)
        runner = self._links[party].runner
        carrying = self._start(self._carry(party, runner, secure, peer_offsets, dialled=True))
        if carrying is None:  # the mesh is ending, and the dial was not cancelled yet
            secure.abort()
        else:  # a task that is cancelled before its first step would not close the stream
            carrying.add_done_callback(lambda _: secure.abort())

    # -- links

    async def _carry(
        self, number: int, runner: LinkRunner, secure: SecureStream, peer_offsets: tuple[int, int], *, dialled: bool
    ) -> None:
        self._observer.stream_up(number, secure, dialled=dialled)
        try:
            await runner.carry(secure, peer_offsets)
        finally:
            self._observer.stream_down(number, secure)

    def _open(self, number: int, nonce: bytes, *, dials_first: bool) -> MeshLink:
        runner = LinkRunner(
            lambda event: self._observer.link_event(number, event),
            self._room,
            rate=self._padding_rate,
            timings=self._timings,
        )
        dials = LinkDials(number, runner, self, self._dials)
        race = Race(number, runner, self._observer, dials, dials_first=dials_first, timings=self._timings)
        reconnector = Reconnector(
            number,
            runner,
            self._observer,
            dials,
            race,
            dials_first=dials_first,
            patience_s=self._patience_s,
            timings=self._timings,
        )
        visits = Visits(self._timings.accepted_per_hour)
        link = self._links[number] = MeshLink(self._link_id(number, nonce), runner, reconnector, race, visits)
        self._observer.link_up(number, link, nonce)
        self._start(self._keep(number, link))
        return link

    async def _keep(self, number: int, link: MeshLink) -> None:
        """Keep a link running until it ends, and report it if it failed."""
        async with BackgroundTasks(link.reconnector.run(), link.race.run()):
            try:
                await link.runner.run()
            except OnionMPCError as error:
                self._observer.link_down(number, error)

    def _start(self, work: Work) -> asyncio.Task[None] | None:
        if self._tasks is None:
            work.close()
            return None
        return self._tasks.start(work)
