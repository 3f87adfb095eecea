"""All parties of a session in one process, on local sockets, with scripts of the test's own.

A party's number is its place in `Room.identities`, which are sorted as a roster is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from onionmpc.errors import OnionMPCError, PeerUnreachable
from onionmpc.files import socket_directory
from onionmpc.identity import Identity, Onion
from onionmpc.levels import Level
from onionmpc.mesh.door import Door
from onionmpc.mesh.mesh import Mesh, MeshLink
from onionmpc.mesh.network import OnStream, Stream
from onionmpc.mesh.redial import DialFailed
from onionmpc.mesh.runner import LinkRunner
from onionmpc.mesh.secure import SecureStream
from onionmpc.mesh.timings import MeshTimings
from onionmpc.program.code.catalogue import Program, find_program
from onionmpc.session.agreement import Agreement, PartyTerms, SharedTerms
from onionmpc.session.computation import SessionResult
from onionmpc.session.discovery import pair_key
from onionmpc.session.events import Agreed, ConsentQuestion, Event, InviteReady, PrivateInputs
from onionmpc.session.gather import Gathering
from onionmpc.session.invite import Invite
from onionmpc.session.local import Plan
from onionmpc.session.messages import AnyMessage, MessageDecoder, Offer, encode_message
from onionmpc.session.run import SessionParty
from onionmpc.session.session import Session
from onionmpc.session.timings import Timings
from onionmpc.tasks import BackgroundTasks
from onionmpc.wire.handshake import NO_PSK
from onionmpc.wire.link import ControlBytes
from onionmpc.wire.link import Event as LinkEvent
from tests.support.direct import DirectNetwork

# For sessions that fail: nobody stays long for who does not come.
# Who is refused gives up soon, and who is told to come back does so at once.
QUICK_DIALS = MeshTimings(retry_first_s=0.02, retry_last_s=0.02, refused_for_s=0.1)
HASTY = Timings(ending_s=1.0, probe_s=0.5, goodbye_s=0.5, mesh=MeshTimings(retry_first_s=0.05, retry_last_s=0.05))
# No test comes near it: what hangs must fail, and not stop the others.
DEADLINE_S = 120.0

Ending = SessionResult | OnionMPCError
Then = Callable[[Session], Awaitable[SessionResult]]
Doctor = Callable[[SharedTerms], SharedTerms]
E = TypeVar("E", bound=Event)
T = TypeVar("T")

# Each party's last private argument is the file that it answers in.
ANSWER = """
import sys
from pathlib import Path
def answer(*values):
    Path(sys.argv[-1]).write_text(repr(values))
"""


def write_script(path: Path, body: str) -> Program:
    """Write a script that can `answer`, and return it as a program."""
    path.write_text(ANSWER + textwrap.dedent(body))
    return find_program(str(path))


class Person:
    """Says yes to everything unless told otherwise, and keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.invites: list[Invite] = []
        self.asked: list[ConsentQuestion] = []
        self.admit: Callable[[Onion], Awaitable[bool]] | None = None
        self.consent: Callable[[Agreement], Awaitable[bool]] | None = None
        self._told = asyncio.Event()

    def tell(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, InviteReady):
            self.invites.append(event.invite)
        self._told.set()

    async def admits(self, onion: Onion, _seat: int) -> bool:
        return self.admit is None or await self.admit(onion)

    async def consents(self, question: ConsentQuestion) -> PrivateInputs | None:
        self.asked.append(question)
        agreed = self.consent is None or await self.consent(question.agreement)
        return PrivateInputs() if agreed else None

    def heard(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def hears(self, kind: type[E], times: int = 1) -> E:
        """Wait until an event of this kind was told so often, and return the last one."""
        while len(self.heard(kind)) < times:
            self._told.clear()
            await self._told.wait()
        return self.heard(kind)[-1]


class CuttableNetwork(DirectNetwork):
    """A direct network whose streams can be cut."""

    def __init__(self, directory: Path, onion: Onion, level: Level = Level.STANDARD) -> None:
        super().__init__(directory, onion, level)
        self._dialled: list[tuple[Onion, Stream]] = []
        self._accepted: list[Stream] = []
        self._dead = False
        self.parted: set[Onion] = set()

    async def listen(self, on_stream: OnStream, keys: Iterable[bytes] = ()) -> None:
        async def note(stream: Stream) -> None:
            self._accepted.append(stream)
            if self._dead:
                await stream.close()
            else:
                await on_stream(stream)

        await super().listen(note, keys)

    async def dial(self, onion: Onion, timeout_s: float) -> Stream:
        self._check(onion)
        stream = await super().dial(onion, timeout_s)
        self._dialled.append((onion, stream))
        try:
            self._check(onion)  # it may have been on its way when all others were cut
        except PeerUnreachable:
            await stream.close()
            raise
        return stream

    def _check(self, onion: Onion) -> None:
        if self._dead or onion in self.parted:
            raise PeerUnreachable("the network is down")

    async def cut(self, onion: Onion) -> None:
        """Cut what was dialled to this address."""
        for dialled, stream in self._dialled:
            if dialled == onion:
                await stream.close()

    async def kill(self) -> None:
        """Cut everything, and let nothing come up again."""
        self._dead = True
        await self.cut_all()

    async def cut_all(self) -> None:
        """Cut everything."""
        for stream in [*self._accepted, *(stream for _, stream in self._dialled)]:
            await stream.close()


@dataclass
class Room:
    """The parties of one session; `plan` is what each wants unless `plans` says otherwise for its number.

    Each runs one computation, unless `then` says otherwise for its number.
    """

    directory: Path
    identities: list[Identity]
    plan: Plan
    plans: dict[int, Plan] = field(default_factory=dict)
    persons: list[Person] = field(init=False)
    networks: list[CuttableNetwork] = field(init=False)
    tasks: dict[int, asyncio.Task[Ending]] = field(default_factory=dict)
    then: dict[int, Then] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.persons = [Person() for _ in self.identities]
        self.networks = [CuttableNetwork(self.directory, identity.onion) for identity in self.identities]

    @property
    def numbers(self) -> range:
        return range(len(self.identities))

    @property
    def onions(self) -> list[Onion]:
        return [identity.onion for identity in self.identities]

    def set_level(self, number: int, level: Level) -> None:
        """Let a party take part at this level, before it starts."""
        self.networks[number] = CuttableNetwork(self.directory, self.onions[number], level)

    def others(self, number: int) -> list[Onion]:
        return [onion for onion in self.onions if onion != self.onions[number]]

    def party(self, number: int) -> SessionParty:
        return SessionParty(self.identities[number], self.plans.get(number, self.plan), self.persons[number])

    def start(self, number: int, work: Awaitable[SessionResult]) -> asyncio.Task[Ending]:
        async def end() -> Ending:
            async with self.networks[number]:
                try:
                    return await work
                except OnionMPCError as error:
                    return error

        self.tasks[number] = asyncio.create_task(end())
        return self.tasks[number]

    def host(self, number: int, party: SessionParty, gathering: Gathering) -> asyncio.Task[Ending]:
        """Let a party host."""
        network, keys = self.networks[number], gathering.seating.keys()
        return self._meet(number, party, keys, party.host(network, gathering))

    def join(self, number: int, target: Invite | Onion) -> asyncio.Task[Ending]:
        """Let a party join a host."""
        party, network = self.party(number), self.networks[number]
        return self._meet(number, party, party.keys_of_joiner(target), party.join(network, target))

    def join_listed(self, number: int, party: SessionParty, common: SharedTerms) -> asyncio.Task[Ending]:
        """Let a party compute with a full list."""
        network = self.networks[number]
        return self._meet(number, party, party.keys_of_listed(common), party.join_listed(network, common))

    def _meet(
        self, number: int, party: SessionParty, keys: list[bytes], meeting: AbstractAsyncContextManager[Session]
    ) -> asyncio.Task[Ending]:
        then = self.then.get(number, once)
        return self.start(number, _published(party, self.networks[number], keys, meeting, then))

    def start_listed(self, numbers: Iterable[int] | None = None, *, doctors: dict[int, Doctor] | None = None) -> None:
        """Let parties (all, unless told otherwise) join a full list; a doctor changes what its party wants."""
        for number in self.numbers if numbers is None else numbers:
            party = self.party(number)
            common = party.full_list(self.others(number))
            if doctors is not None and number in doctors:
                common = doctors[number](common)
            self.join_listed(number, party, common)

    def start_hosted(self, host: int = 0) -> None:
        """Let one party host with invites, and the others join it."""
        party = self.party(host)
        self.host(host, party, party.open_seats(len(self.identities), [], is_open=False))
        joiners = [number for number in self.numbers if number != host]
        for number, invite in zip(joiners, self.persons[host].invites, strict=True):
            self.join(number, invite)

    async def endings(self) -> list[Ending]:
        """Wait for all that were started; return how they ended, in the order of their numbers."""
        return [await self.tasks[number] for number in sorted(self.tasks)]

    async def part(self, low: int, high: int) -> None:
        """Cut the link of two parties for good."""
        for number, other in ((low, high), (high, low)):
            self.networks[number].parted.add(self.onions[other])
            await self.networks[number].cut(self.onions[other])

    async def agreed(self) -> None:
        """Wait until every party has started its program."""
        for number in self.tasks:
            await self.persons[number].hears(Agreed)


async def _published(
    party: SessionParty,
    network: CuttableNetwork,
    keys: list[bytes],
    meeting: AbstractAsyncContextManager[Session],
    then: Then,
) -> SessionResult:
    """Run a party's session while its service is published, as the API does."""
    async with BackgroundTasks(party.publish(network, keys)), meeting as session:
        return await then(session)


async def once(session: Session) -> SessionResult:
    """Run one computation."""
    return await session.first()


def give_answer_files(
    plan: Plan, folder: Path, parties: int, extra: dict[int, tuple[str, ...]] | None = None
) -> dict[int, Plan]:
    """Return a plan for each party whose last private argument is its answer file."""
    return {
        number: replace(plan, private=(*plan.private, *(extra or {}).get(number, ()), str(folder / f"answer{number}")))
        for number in range(parties)
    }


def answers(folder: Path, parties: int) -> list[Any]:
    """Return what the parties answered."""
    return [eval((folder / f"answer{number}").read_text()) for number in range(parties)]


def listed_plan(program: Program | None, **changes: Any) -> Plan:
    """A plan with nothing special."""
    plan = Plan(program=program, threshold=None, public=(), private=(), mpyc_options=())
    return replace(plan, **changes)


def new_identities(parties: int) -> list[Identity]:
    return sorted((Identity(secrets.token_bytes(32)) for _ in range(parties)), key=lambda identity: identity.onion)


@contextlib.asynccontextmanager
async def room(parties: int, plan: Plan, plans: dict[int, Plan] | None = None) -> AsyncIterator[Room]:
    """A room whose parties have ended when the context has, with all their processes."""
    with socket_directory() as directory:
        place = Room(directory, new_identities(parties), plan, plans or {})
        try:
            yield place
        finally:
            for task in place.tasks.values():
                task.cancel()
            await asyncio.gather(*place.tasks.values(), return_exceptions=True)


def run(work: Awaitable[T], deadline_s: float = DEADLINE_S) -> T:
    """Run a test: it ends in time, no callback or forgotten task fails, and no process of ours is left."""
    failures: list[dict[str, Any]] = []
    before = processes_of_ours()  # such as the private network of other tests

    async def bounded() -> T:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, what: failures.append(what))
        async with asyncio.timeout(deadline_s):
            return await work

    result = asyncio.run(bounded())
    assert failures == []
    assert processes_of_ours() == before
    return result


def processes_of_ours(parent: int | None = None) -> list[int]:
    """The ids of our child processes (none where there is no /proc)."""
    found: list[int] = []
    for thread in Path(f"/proc/{parent or os.getpid()}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (thread / "children").read_text().split())
    return found


def same_sentence(endings: Sequence[Ending], numbers: Iterable[int] | None = None) -> str:
    """Return the sentence that all these parties end with; fail if there are several, or one ended well."""
    sentences = set()
    for number, ending in zip(range(len(endings)) if numbers is None else numbers, endings, strict=True):
        assert isinstance(ending, OnionMPCError), f"party {number} ended well"
        sentences.add(ending.message.replace(f"this party (party {number})", f"party {number}"))
    assert len(sentences) == 1, sentences
    return sentences.pop()


class Hostile:
    """A party that says what the test wants: an Observer of a mesh of its own, without a computation.

    Attributes:
        heard: the control messages of each peer.
    """

    def __init__(self, place: Room, number: int, common: SharedTerms) -> None:
        self.number = number
        self.common = common
        self.heard: dict[int, list[AnyMessage]] = {}
        self.runners: dict[int, LinkRunner] = {}
        self.on_up: Callable[[int, LinkRunner], None] = lambda _party, _runner: None
        self.on_message: Callable[[int, LinkRunner, AnyMessage], None] = lambda _party, _runner, _message: None
        self._decoders: dict[int, MessageDecoder] = {}
        self._network = place.networks[number]
        for other in place.onions:
            if other != place.onions[number]:
                self._network.unlock(other, pair_key(place.identities[number], other, other))
        nonce = secrets.token_bytes(16)
        self.mesh = Mesh(
            self._network, place.identities[number], place.onions, NO_PSK, nonce, self, DEADLINE_S, timings=QUICK_DIALS
        )
        self._door = Door(place.identities[number], nonce)
        self._door.gatekeeper = self.mesh

    def offer(self) -> bytes:
        return encode_message(Offer(self.common, PartyTerms()))

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        async with self._network:
            await self._network.listen(self._door.serve)
            async with self.mesh.running(DEADLINE_S):
                yield

    def dial_failed(self, party: int, failure: DialFailed) -> None:
        pass

    def link_up(self, party: int, link: MeshLink, nonce: bytes) -> None:
        self.runners[party] = link.runner
        self._decoders[party] = MessageDecoder()
        self.on_up(party, link.runner)

    def stream_up(self, party: int, secure: SecureStream, *, dialled: bool) -> None:
        pass

    def stream_down(self, party: int, secure: SecureStream) -> None:
        pass

    def link_broken(self, party: int, reason: str) -> None:
        pass

    def link_quiet(self, party: int, seconds: float) -> None:
        pass

    def link_resumed(self, party: int, seconds: float) -> None:
        pass

    def link_raced(self, party: int, streams: int) -> None:
        pass

    def link_event(self, party: int, event: LinkEvent) -> None:
        if isinstance(event, ControlBytes):
            for message in self._decoders[party].decode(event.payload):
                self.heard.setdefault(party, []).append(message)
                self.on_message(party, self.runners[party], message)

    def link_down(self, party: int, error: OnionMPCError) -> None:
        pass
