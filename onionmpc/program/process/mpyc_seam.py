"""Connects MPyC over sockets that the supervisor hands down, instead of its own network.

The only importer of mpyc. On import, MPyC reads sys.argv, sets up logging and creates a global runtime. So import this
module late, and only in the program process. MPyC's own start() listens on 0.0.0.0 without authentication. This module
replaces the two methods of its event loop that reach the network, and three names in its modules. Comments say what
each replacement relies on in MPyC 0.11.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpyc.asyncoro
import mpyc.runtime

from onionmpc.machine import READ_BYTES
from onionmpc.program.pickles.unpickle import RestrictedPickle
from onionmpc.program.process.batch import BatchedTransport, WriteBatch
from onionmpc.program.process.failures import OTHER_LOOP, Failures
from onionmpc.program.process.hello import MessageSplitter, hello_bytes
from onionmpc.program.process.places import ProgramFiles
from onionmpc.program.process.senders import Senders, StoppingPickle
from onionmpc.program.process.supervisor import Supervisor
from onionmpc.program.process.tracing import Tracer
from onionmpc.program.process.waiting import WaitingWatch
from onionmpc.program.spec import Notice, ProgramSpec, Rest

# MPyC's methods that show a secret value to parties.
OPENINGS = ("output", "eq_public", "is_zero_public", "np_is_zero_public")


def connect(spec: ProgramSpec, supervisor: Supervisor, failures: Failures) -> None:
    """Make MPyC's start() use the sockets that the supervisor hands down, and check what peers send."""
    runtime = mpyc.runtime.mpc
    links = HandedLinks(runtime, spec, supervisor)
    loop = event_loop()
    # start() calls the first for each peer with a higher number, and the second once for all lower ones.
    loop.create_connection = links.create_connection
    loop.create_server = links.create_server
    # start() looks the class up in its module, so a subclass can take its place.
    mpyc.asyncoro.MessageExchanger = Exchanger
    restricted = RestrictedPickle(spec.allowed_types, script=Path(spec.script))
    mpyc.runtime.pickle = StoppingPickle(restricted, links.senders, supervisor)
    watch = WaitingWatch(runtime, spec, links.exchangers, failures, supervisor.send)
    watch.replace_asyncio(mpyc.runtime)
    if spec.trace:
        trace(spec, links, watch, supervisor)


def event_loop() -> Any:
    """Return the event loop that MPyC created for itself."""
    return mpyc.runtime.mpc._loop  # noqa: SLF001 (it has no public name)


class HandedLinks:
    """Hands out one socket per peer when MPyC's start() asks for connections.

    Attributes:
        exchangers: MPyC's end of each connected link, by the peer's number.
        senders: the sender of each recent payload.
        batch: the bytes that MPyC writes in this turn of the loop.
        epoch: how often the script has started MPyC.
        buffer: the sockets read into it. One is enough, since each read is taken out at once. asyncio would allocate a
            buffer for each read, four times as large.
    """

    def __init__(self, runtime: Any, spec: ProgramSpec, supervisor: Supervisor) -> None:
        self.exchangers: dict[int, Exchanger] = {}
        self.senders = Senders()
        self.batch = WriteBatch(event_loop())
        self.buffer = bytearray(READ_BYTES)
        self._runtime = runtime
        self._spec = spec
        self._supervisor = supervisor
        self._connect = event_loop().create_connection
        self.epoch = 0
        self._sockets: dict[int, socket.socket] = {}  # of this epoch, those that MPyC has not asked for

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, _port: int, **_options: Any
    ) -> Any:
        """Connect to a higher party. On MPyC's command line, the parties' host names are party0, party1 and so on."""
        return await self._attach(factory, int(host.removeprefix("party")))

    async def create_server(self, factory: Callable[[], asyncio.Protocol], **_options: Any) -> NoListener:
        """Connect to all lower parties. In MPyC's own network, these would dial."""
        for number in range(self._spec.number):
            await self._attach(factory, number)
        return NoListener()

    async def _attach(self, factory: Callable[[], Any], number: int) -> Any:
        self._check()
        if not self._sockets:
            self._start_epoch()
        link = self._sockets.pop(number)
        exchanger = factory()  # not Exchanger(): a script may have set a subclass of it
        exchanger.attach(self, number, link, self.exchangers.get(number))
        self.exchangers[number] = exchanger
        return await self._connect(lambda: exchanger, sock=link)

    def _start_epoch(self) -> None:
        """Get a socket to each peer, for one start of MPyC and all up to its shutdown."""
        self.epoch += 1
        peers = [number for number in range(self._spec.parties) if number != self._spec.number]
        self._sockets = dict(zip(peers, self._supervisor.start_epoch(len(peers)), strict=True))
        # It may be set by an earlier epoch. MPyC would then count as started, and as shutting down with its new future.
        self._runtime.start_time = None

    def _check(self) -> None:
        """End the process if the script has set up MPyC in a way that was not agreed on, or that cannot work here."""
        if asyncio.get_running_loop() is not event_loop():
            self._stop(OTHER_LOOP)
        # The threshold decides who can read the inputs, so it must be the one that the agreement showed.
        if self._runtime.threshold != self._spec.threshold:
            self._stop(
                f"the script sets the threshold to {self._runtime.threshold}, but the parties agreed on "
                f"{self._spec.threshold}: use --threshold"
            )

    def _stop(self, reason: str) -> None:
        self._supervisor.stop(Notice("setup", None, reason))

    def lost(self, exchanger: Exchanger) -> None:
        """End the process if a peer's program ended too early: MPyC would never stop waiting for its messages."""
        exchanger.over = True
        if not exchanger.closing and (exchanger.owes() or not self._shutting_down()):
            reason = "it ended while another party still waited for it"
            self._supervisor.stop(Notice("closed", exchanger.number, reason))

    def _shutting_down(self) -> bool:
        """Whether the script has called shutdown(): it puts a new future in the place of its own party's protocol."""
        runtime = self._runtime
        return runtime.start_time is not None and not runtime.parties[runtime.pid].protocol.done()


class Exchanger(mpyc.asyncoro.MessageExchanger, asyncio.BufferedProtocol):  # type: ignore[misc]
    """MPyC's end of one link. Notes who sent which payload, and notices a peer that ended too early.

    MPyC creates it, and scripts may subclass it, so its constructor has MPyC's arguments. `attach` brings the socket,
    before asyncio calls `connection_made`.
    """

    # `peer_pid` is None until a lower party's hello arrives. `number` is known from the start. The counts continue from
    # one epoch to the next: the supervisors compare what was sent and received in all of them.
    __slots__ = ("_links", "_sent_before_bytes", "closing", "link", "number", "over", "received_bytes")

    def __init__(self, rt: Any, peer_pid: int | None = None) -> None:
        super().__init__(rt, peer_pid)
        self.closing = self.over = False
        self.received_bytes = self._sent_before_bytes = 0

    def attach(self, links: HandedLinks, number: int, link: socket.socket, previous: Exchanger | None) -> None:
        """Take the socket to one peer. `previous` had the socket of the epoch before."""
        self._links = links
        self.number = number
        self.link = link
        if previous is not None:
            self.received_bytes = previous.received_bytes
            self._sent_before_bytes = getattr(previous.transport, "sent_bytes", 0)  # unless the script has its own

    def connection_made(self, transport: Any) -> None:
        """Make MPyC write through the batch."""
        batched = BatchedTransport(transport, self._links.batch, self._sent_before_bytes)
        super().connection_made(batched)  # type: ignore[arg-type]

    def get_buffer(self, _sizehint: int) -> bytearray:
        """Return the buffer to read into."""
        return self._links.buffer

    def buffer_updated(self, size: int) -> None:
        """Pass the bytes on to MPyC."""
        self.received_bytes += size
        self.data_received(self._links.buffer[:size])

    def receive(self, pc: int) -> Any:
        """Return the payload for this program counter, or a future for it. As MPyC's, but notes the sender."""
        payload = self.buffers.pop(pc, None)
        if payload is None:
            payload = self.buffers[pc] = AwaitedPayload(self._links.senders, self.peer_pid)
        else:
            self._links.senders.remember(payload, self.peer_pid)
        return payload

    def owes(self) -> bool:
        """Return whether MPyC waits for a payload from this peer."""
        return any(isinstance(payload, asyncio.Future) and not payload.done() for payload in self.buffers.values())

    def close_connection(self) -> None:
        """Close the link; MPyC does so at its end."""
        self.closing = True
        super().close_connection()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Notify MPyC that the peer is gone, unless that came too early."""
        self._links.lost(self)
        # The script may have started the next epoch, whose connection has taken this one's place.
        if self.runtime.parties[self.number].protocol is not self:
            return
        # After an exception in `async with mpc`, MPyC closes all links without a shutdown, then fails as it notifies
        # that shutdown that the last link is closed. This traceback would hide the script's own.
        with contextlib.suppress(asyncio.InvalidStateError):
            super().connection_lost(None)


def trace(spec: ProgramSpec, links: HandedLinks, watch: WaitingWatch, supervisor: Supervisor) -> None:
    """Let the program report its messages, with their triggers and the lines that asked for them."""
    if not watch.enabled:
        supervisor.stop(Notice("setup", None, "a program can be profiled only in asyncio's own event loop"))

    def rest() -> Rest:
        ends: list[Any] = [links.exchangers.get(number) for number in range(spec.parties)]
        return Rest(
            epoch=links.epoch,
            sent=tuple(0 if end is None else end.sent_bytes() for end in ends),
            received=tuple(0 if end is None else end.received_in_epoch_bytes() for end in ends),
        )

    def counter() -> int:
        return int(mpyc.runtime.mpc._program_counter[0])  # noqa: SLF001 (it has no public name)

    tracer = Tracer(event_loop(), watch, ProgramFiles(spec.folder), rest, counter, supervisor.send)
    tracer.follow()
    mpyc.asyncoro.MessageExchanger = traced_exchanger(tracer)
    mpyc.asyncoro.Task = tracer.task


def traced_exchanger(tracer: Tracer) -> type[Exchanger]:
    """Return an Exchanger that reports all messages, its hello and the end of its connection among them."""

    class TracedExchanger(Exchanger):
        __slots__ = ("_asked_by", "_ends_before", "_received_before_bytes", "_splitter", "ended")

        def attach(self, links: HandedLinks, number: int, link: socket.socket, previous: Any) -> None:
            super().attach(links, number, link, previous)
            # The end of an epoch counts as a byte, here as on a link.
            self._ends_before = 0 if previous is None else previous._ends_before + 1  # noqa: SLF001 (of this class too)
            self._received_before_bytes = self.received_bytes
            runtime = self.runtime
            lower, higher = sorted((runtime.pid, number))
            prss = not runtime.options.no_prss
            hello = hello_bytes(len(runtime.parties), runtime.threshold, lower, higher, prss=prss)
            self.ended = False
            self._splitter = MessageSplitter(hello if number == lower else 0)
            self._asked_by = tracer.origin(sys._getframe(1))  # noqa: SLF001 (its documented name)

        def connection_made(self, transport: Any) -> None:
            if self.peer_pid is not None:
                tracer.sent(self.number, self._asked_by)
            super().connection_made(transport)

        def send(self, pc: int, payload: bytes) -> None:
            tracer.sent(self.number, tracer.origin(sys._getframe(1)))  # noqa: SLF001
            super().send(pc, payload)

        def sent_bytes(self) -> int | None:
            # Unknown if a script has put its own transport in the place of ours.
            sent = getattr(self.transport, "sent_bytes", None)
            return None if sent is None else sent + self.ended + self._ends_before

        def received_in_epoch_bytes(self) -> int | None:
            return None if self.ended else self.received_bytes - self._received_before_bytes

        def buffer_updated(self, size: int) -> None:
            self.received_bytes += size
            for message in self._splitter.split(self._links.buffer[:size]):
                tracer.received(self.number)
                self.data_received(message)

        def close_connection(self) -> None:
            tracer.sent(self.number, tracer.origin(sys._getframe(1)))  # noqa: SLF001
            self.ended = True
            super().close_connection()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.ended:
                tracer.missed(self.number)
            else:
                tracer.received(self.number)
                tracer.sent(self.number, None)  # asyncio closes this end too
                self.ended = True
            tracer.flush()
            super().connection_lost(exc)

    return TracedExchanger


class AwaitedPayload(asyncio.Future[bytes]):
    """A future for a payload that has not arrived yet."""

    def __init__(self, senders: Senders, sender: int) -> None:
        super().__init__(loop=event_loop())
        self._senders = senders
        self._sender = sender

    def set_result(self, payload: bytes) -> None:
        """Note the sender, and wake the coroutine that waits."""
        self._senders.remember(payload, self._sender)
        super().set_result(payload)


class NoListener:
    """Takes the place of the server that MPyC would close after start()."""

    def close(self) -> None:
        """Do nothing: nothing listens."""


def watch_outputs(supervisor: Supervisor) -> None:
    """Report to the supervisor when the script first opens a value.

    MPyC's own protocols open masked values, which reveals nothing, so only calls from outside mpyc count. A value that
    a script opens by other means (for example a `transfer` of its shares) is not noticed.
    """
    runtime = mpyc.runtime.mpc
    watched = {name: getattr(runtime, name) for name in OPENINGS}

    def noted(name: str) -> Callable[..., Any]:
        def opening(*arguments: Any, **options: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 (its documented name)
            if caller.partition(".")[0] != "mpyc" and name in vars(runtime):
                for other in OPENINGS:
                    delattr(runtime, other)  # one notice is enough, and each call costs time
                supervisor.send(Notice("revealed", None, ""))
            return watched[name](*arguments, **options)

        return opening

    for name in OPENINGS:
        setattr(runtime, name, noted(name))
