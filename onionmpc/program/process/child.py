"""The program process: MPyC and one script, with a socketpair per peer instead of a network.

The only importer of mpyc. Importing it edits sys.argv, sets up logging and makes a global runtime, and its own start()
listens on 0.0.0.0 without authentication; so all of that happens here, in a process of its own, with the two methods
of its event loop that reach the network replaced. Run by launch.py beside it, never by people:
`python -m onionmpc.program.process.child DESCRIPTOR`.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from onionmpc.errors import RemoteProtocolError
from onionmpc.program.code import agreed
from onionmpc.program.code.agreed import AgreedFiles, NotAgreed
from onionmpc.program.code.missing import hint_for
from onionmpc.program.process.failures import OTHER_LOOP, Failures, is_of_another_loop
from onionmpc.program.process.waiting import WaitingWatch
from onionmpc.program.spec import EXIT_STOPPED, EXIT_SUPERVISOR_GONE, Notice, ProgramSpec, decode_spec, encode
from onionmpc.program.walls import stand_ins
from onionmpc.program.walls.build import build_walls
from onionmpc.program.walls.guard import set_guard
from onionmpc.program.walls.refusals import Refusals, reach_hint

# Hashes of payloads whose sender we remember, to name who sent a forbidden pickle. One round of 25 parties and
# 1000 arrays each.
REMEMBERED_PAYLOADS = 2**15
READ_BYTES = 2**16
# A message of this size is an array's: what is computed before the next one may take longer than a round.
AT_ONCE_BYTES = 2**14
# MPyC 0.11's methods that show a secret value to parties.
OPENINGS = ("output", "eq_public", "is_zero_public", "np_is_zero_public")
IMPORT = ("importlib._bootstrap", "importlib._bootstrap_external", "zipimport")
PLACEHOLDER_PORT = 1  # never used: nothing connects by port here


class Supervisor:
    """Our end of the socketpair to the supervisor."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)

    def read_spec(self) -> ProgramSpec:
        """Wait for what to run."""
        with self._socket.makefile("rb") as lines:
            return decode_spec(lines.readline())

    def die_with_it(self) -> None:
        """End this process when the supervisor does, however it ends: a script that blocks would outlive it.

        On Linux the kernel does that (see build_walls), unless the supervisor had ended before it was asked.
        """

        def wait() -> None:
            while self._socket.recv(1):
                pass
            os._exit(EXIT_SUPERVISOR_GONE)

        threading.Thread(target=wait, daemon=True, name="supervisor").start()

    def tell(self, notice: Notice) -> None:
        """Say what the supervisor cannot see."""
        self._socket.sendall(encode(notice))

    def stop(self, notice: Notice) -> NoReturn:
        """Say why we cannot go on, and stop at once: nothing that the script does now would be worth having."""
        self.tell(notice)
        with contextlib.suppress(OSError, ValueError):  # full, or closed by the script
            sys.stdout.flush()
        os._exit(EXIT_STOPPED)


def main() -> None:
    """Run the script that the supervisor names."""
    supervisor = Supervisor(int(sys.argv[1]))
    spec = supervisor.read_spec()
    walls, rules = build_walls(spec)  # before there is a second thread, or anything of the script
    if not walls.hold(spec.walls):
        weaker = f"the walls around the program are weaker than was shown ({walls.describe()})"
        supervisor.stop(Notice("setup", None, weaker))
    supervisor.die_with_it()
    signal.signal(signal.SIGTERM, _terminated)
    # MPyC would log to stdout, which is the script's. If the root logger has a handler it adds none.
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO if spec.verbose else logging.WARNING, format="mpyc: %(message)s"
    )
    files = AgreedFiles(spec.code, spec.on_disk)
    try:
        files.guard_imports()  # MPyC and numpy are not to come from elsewhere either
        runtime = _set_up_mpyc(spec)
        failures = Failures(runtime._loop)  # noqa: SLF001 (the one name of MPyC's that is not public)
        _connect_by_inheritance(runtime, spec, supervisor, failures)
    except NotAgreed as error:
        sys.exit(f"onionmpc: error: {error}")
    _watch_outputs(runtime, supervisor)
    stand_ins.install(walls, allow_subprocess=spec.allow_subprocess)
    set_guard(allow_subprocess=spec.allow_subprocess, watchers=Refusals(rules, supervisor.tell).watchers())
    sys.argv = [spec.script, *spec.arguments]
    sys.path[0:0] = [spec.folder]  # scripts import their neighbours
    try:
        files.run(spec.script)
    except KeyboardInterrupt:
        # The supervisor got the same Ctrl-C, and says what there is to say.
        sys.exit(128 + signal.SIGINT)
    except Exception as error:  # noqa: BLE001 (whatever a script may raise)
        if not failures.caused(error):
            _print_traceback_of_script()
        elif failures.for_all:
            supervisor.tell(Notice("failed", None, failures.for_all))
        if is_of_another_loop(error):
            print(f"onionmpc: hint: {OTHER_LOOP}", file=sys.stderr)  # noqa: T201
        if isinstance(error, PermissionError) and (hint := reach_hint(rules)):
            print(f"onionmpc: hint: {hint}", file=sys.stderr)  # noqa: T201
        if isinstance(error, ModuleNotFoundError) and (hint := hint_for(error)):
            print(f"onionmpc: hint: {hint}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    finally:
        # Nobody is asked anything from here on, and Python would print a traceback of its own ending.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def _set_up_mpyc(spec: ProgramSpec) -> Any:
    """Import MPyC with arguments that make it one party of m, and return its runtime."""
    parties = [f"-Pparty{number}:{PLACEHOLDER_PORT}" for number in range(spec.parties)]
    sys.argv = [spec.script, *parties, "-I", str(spec.number), "-T", str(spec.threshold), *spec.mpyc_options]
    import mpyc.runtime  # after sys.argv is set

    return mpyc.runtime.mpc


def _connect_by_inheritance(mpc: Any, spec: ProgramSpec, supervisor: Supervisor, failures: Failures) -> None:
    """Let MPyC's start() find its peers at the inherited sockets, and what they send be checked."""
    import mpyc.asyncoro
    import mpyc.runtime

    from onionmpc.program.pickles.unpickle import RestrictedPickle  # brings numpy, and that brings threads

    loop = mpc._loop  # noqa: SLF001 (the one name of MPyC's that is not public)
    connect = loop.create_connection
    sockets = {number: socket.socket(fileno=descriptor) for number, descriptor in spec.sockets.items()}
    for end in sockets.values():
        end.set_inheritable(False)  # a process that the script starts would keep the link open
    senders = Senders()
    ends: dict[int, Exchanger] = {}

    async def attach(factory: Callable[[], asyncio.Protocol], number: int) -> Any:
        if asyncio.get_running_loop() is not loop:
            supervisor.stop(Notice("setup", None, OTHER_LOOP))
        if mpc.threshold != spec.threshold:
            agreed = f"the script sets the threshold to {mpc.threshold}, agreed was {spec.threshold}: use --threshold"
            supervisor.stop(Notice("setup", None, agreed))
        if number not in sockets:
            supervisor.stop(
                Notice("setup", None, "the script starts MPyC again after its shutdown, which works only once")
            )
        if len(sockets) == spec.parties - 1:
            supervisor.tell(Notice("started", None, ""))

        link = sockets.pop(number)

        def exchanger() -> asyncio.Protocol:
            end: Any = factory()
            end.number, end.link = number, link
            ends[number] = end
            return end  # type: ignore[no-any-return]

        return await connect(exchanger, sock=link)

    async def create_connection(factory: Callable[[], asyncio.Protocol], host: str, _port: int, **_options: Any) -> Any:
        return await attach(factory, int(host.removeprefix("party")))

    async def create_server(factory: Callable[[], asyncio.Protocol], **_options: Any) -> Listener:
        for number in range(spec.number):
            await attach(factory, number)
        return Listener()

    class Exchanger(mpyc.asyncoro.MessageExchanger, asyncio.BufferedProtocol):  # type: ignore[misc]
        """MPyC's end of one link, which remembers who sent what and notices a peer that ended too early."""

        # `peer_pid` is None until a lower party's hello has come.
        __slots__ = ("closing", "link", "number", "received_bytes")

        def connection_made(self, transport: Any) -> None:
            self.received_bytes = 0
            super().connection_made(Way(transport, turn))  # type: ignore[arg-type]

        def get_buffer(self, _sizehint: int) -> bytearray:
            return buffer

        def buffer_updated(self, size: int) -> None:
            self.received_bytes += size
            self.data_received(buffer[:size])

        def receive(self, pc: int) -> Any:
            payload = self.buffers.pop(pc, None)
            if payload is None:
                payload = self.buffers[pc] = Awaited(self.peer_pid)
            else:
                senders.remember(payload, self.peer_pid)
            return payload

        def owes(self) -> bool:
            return any(isinstance(payload, asyncio.Future) and not payload.done() for payload in self.buffers.values())

        def close_connection(self) -> None:
            self.closing = True
            super().close_connection()

        def connection_lost(self, _exc: Exception | None) -> None:
            # MPyC would wait for ever for what this peer still owes, or fail on what it sends next.
            if not hasattr(self, "closing") and (self.owes() or not _shutting_down(mpc)):
                supervisor.stop(Notice("closed", self.number, "it ended while another party still waited for it"))
            # After an exception in `async with mpc` MPyC closes all links without a shutdown, and then fails on telling
            # the shutdown that the last one is gone: a traceback that would hide the script's own.
            with contextlib.suppress(asyncio.InvalidStateError):
                super().connection_lost(None)

    class Awaited(asyncio.Future[bytes]):
        """A payload that has not come yet."""

        def __init__(self, sender: int) -> None:
            super().__init__(loop=loop)
            self.sender = sender

        def set_result(self, payload: bytes) -> None:
            senders.remember(payload, self.sender)
            super().set_result(payload)

    def loads_or_stop(data: bytes) -> Any:
        try:
            return restricted.loads(data)
        except RemoteProtocolError as error:
            supervisor.stop(Notice("pickle", senders.find(data), error.message))

    # One for all: what is in it is taken at once. asyncio's own is made anew for each read, and four times as large.
    buffer = bytearray(READ_BYTES)
    turn = Turn(loop)
    restricted = RestrictedPickle(spec.allowed_types, script=Path(spec.script))
    loop.create_connection = create_connection
    loop.create_server = create_server
    mpyc.asyncoro.MessageExchanger = Exchanger
    mpyc.runtime.pickle = Pickle(restricted.dumps, loads_or_stop)
    WaitingWatch(mpc, spec, ends, failures, supervisor.tell).replace_asyncio(mpyc.runtime)


def _watch_outputs(mpc: Any, supervisor: Supervisor) -> None:
    """Tell the supervisor when the script first opens a value.

    MPyC opens masked values inside its own protocols, which reveals nothing: only calls from outside of it count. What
    a script opens by other ways (`transfer` of its own shares, say) is not seen.
    """
    watched = {name: getattr(mpc, name) for name in OPENINGS}

    def noted(name: str) -> Callable[..., Any]:
        def opening(*arguments: Any, **options: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")  # noqa: SLF001 (its documented name)
            if caller.partition(".")[0] != "mpyc" and name in vars(mpc):
                for other in OPENINGS:
                    delattr(mpc, other)  # once is enough, and each call costs
                supervisor.tell(Notice("revealed", None, ""))
            return watched[name](*arguments, **options)

        return opening

    for name in OPENINGS:
        setattr(mpc, name, noted(name))


def _shutting_down(mpc: Any) -> bool:
    """Whether the script has called shutdown(): MPyC then waits on a new future in its own party's place."""
    return mpc.start_time is not None and not mpc.parties[mpc.pid].protocol.done()


class Pickle:
    """The two functions of the pickle module that MPyC uses."""

    def __init__(self, dumps: Callable[[Any], bytes], loads: Callable[[bytes], Any]) -> None:
        self.dumps = dumps
        self.loads = loads


class Turn:
    """What MPyC writes to all peers in one turn of its loop, for it to leave together, in one piece for each.

    A round of many values is a message for each: written one by one, each cost a system call here, and those that came
    alone to the supervisor a record each.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: dict[asyncio.Transport, list[bytes]] = {}

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn, or now where there is none, or where it would have to wait for much work."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.setdefault(transport, []).append(data)
        if len(data) >= AT_ONCE_BYTES or not self._loop.is_running():
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        for transport, parts in self._held.items():
            transport.write(b"".join(parts))
        self._held.clear()


class Way:
    """MPyC's transport to one peer.

    Attributes:
        sent_bytes: how many it has taken.
    """

    def __init__(self, transport: asyncio.Transport, turn: Turn) -> None:
        self.sent_bytes = 0
        self._transport = transport
        self._turn = turn

    def write(self, data: bytes) -> None:
        """Write in this turn."""
        self.sent_bytes += len(data)
        self._turn.write(self._transport, data)

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Write these in this turn."""
        self.write(b"".join(parts))

    def close(self) -> None:
        """Close it when all is written."""
        self._turn.flush()
        self._transport.close()


class Listener:
    """What MPyC gets for the server that it does not need."""

    def close(self) -> None:
        """Nothing listens."""


class Senders:
    """Remembers by hash which peer sent the last payloads; keeps none of them alive."""

    def __init__(self) -> None:
        self._by_hash: collections.OrderedDict[int, int] = collections.OrderedDict()

    def remember(self, payload: bytes, party: int) -> None:
        """Note who sent this payload."""
        self._by_hash[hash(payload)] = party
        if len(self._by_hash) > REMEMBERED_PAYLOADS:
            self._by_hash.popitem(last=False)

    def find(self, payload: bytes) -> int | None:
        """Return who sent it, if it was seen lately."""
        return self._by_hash.get(hash(payload))


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that getpass gives the terminal its echo back.
    sys.exit(128 + signal.SIGTERM)


def _print_traceback_of_script() -> None:
    """Print the traceback without our own frames, and those of Python's import where our own are among them."""
    error = sys.exception() if sys.version_info >= (3, 11) else None
    summary = traceback.TracebackException.from_exception(error) if error else None
    if summary is not None:
        ours = {__file__, agreed.__file__}
        if isinstance(error, NotAgreed):
            ours |= {f"<frozen {name}>" for name in IMPORT}
        kept = [frame for frame in summary.stack if frame.filename not in ours]
        summary.stack = traceback.StackSummary.from_list(kept)
        print("".join(summary.format()), file=sys.stderr, end="")  # noqa: T201


if __name__ == "__main__":
    main()
