"""The messages between the supervisor and the program process, over the socketpair between them.

None of this is in argv or the environment, which other users of the machine can read.
"""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

# Exit codes of the program process that scripts hardly use.
EXIT_SUPERVISOR_GONE = 79
EXIT_STOPPED = 80
# Other parties learn where a program waits. These bound what they have to read.
MAX_PLACES = 3
MAX_FILE_CHARACTERS = 200
# Messages in one report of a traced program, which is a line of less than asyncio's 64 KiB.
MAX_TRACED = 64
MAX_PARTIES = 256  # MPyC's own limit
HANDED_AT_ONCE = 250  # the kernel passes at most 253 descriptors in one message (SCM_MAX_FD)

_Party = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)]
_Count = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,16}\Z")]
NO_BYTES = "0"
NOT_CONNECTED = ""


class Walls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The walls that the kernel keeps around the program. There are none except on Linux.

    Attributes:
        network: it is in an empty network namespace.
        sockets: it cannot make or connect sockets, not even those with a path (seccomp).
        secrets: it cannot open our keys and the files of our tor.
        files: it can open only the files that it is given (Landlock).
        frozen: it can change only files that it may write; for others, not even a mode or a time (mounts). Without this
            wall, seccomp refuses such changes everywhere.
    """

    network: bool = False
    sockets: bool = False
    secrets: bool = False
    files: bool = False
    frozen: bool = False

    def hold(self, shown: Walls) -> bool:
        """Return whether these walls are at least as strong as the ones that were shown."""
        return all(getattr(self, wall) >= getattr(shown, wall) for wall in shown.__struct_fields__)

    def lines(self) -> tuple[str, ...]:
        """Describe each wall in a line."""
        # A program that can make no socket has no way out, even without a namespace.
        network = "an empty namespace" if self.network else "no namespace" if self.sockets else "OPEN"
        sockets = "none can be made or connected (seccomp)" if self.sockets else "OPEN"
        opens = "OPEN, all that you can read" + (" and write" if not self.frozen else "")
        opens += ", except onionmpc's keys (mounts)" * self.secrets
        opens += "; it writes only its own, and what you name (mounts)" * self.frozen
        files = f"its own, and what you name (Landlock); {self._changes()}" if self.files else opens
        return f"network: {network}", f"sockets: {sockets}", f"files: {files}", "Python: a guard against mistakes"

    def _changes(self) -> str:
        """Describe the changes to other files that Landlock does not see."""
        if self.frozen:
            return "all else is read-only (mounts)"
        return "no modes, times or owners (seccomp)" if self.sockets else "modes, times and owners of all: OPEN"

    def describe(self) -> str:
        """Describe all walls in one line."""
        return "; ".join(self.lines())


NO_WALLS = Walls()


class ProgramSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Supervisor to program process, once: what to run.

    Attributes:
        arguments: the script's sys.argv[1:]: the public arguments, then the private ones.
        allowed_types: classes of the program that peers may send.
        named: arguments that this party chose; the program may read and write the paths among them.
        code: the agreed Python files, by their paths on this machine; the script is one of them.
        on_disk: the SHA-256 of the agreed files that are not Python, in hex, by path.
        reads: further paths that the program may read, but never write.
        hidden: paths that it must not open, even inside folders that it may read.
        scratch: a directory for its temporary files.
        allow_subprocess: whether it may start processes, inside the same walls.
        walls: the walls that this party's user was shown. With weaker ones, the script does not start.
        waiting_s: how long the program waits for its peers before it reports that, in seconds; 0 means never.
        trace: whether the program reports what it sends, and when it rests; for dry runs.
    """

    script: str
    folder: str
    arguments: tuple[str, ...]
    number: int
    parties: int
    threshold: int
    mpyc_options: tuple[str, ...]
    allowed_types: tuple[str, ...] = ()
    verbose: bool = False
    named: tuple[str, ...] = ()
    code: dict[str, bytes] = {}
    on_disk: dict[str, str] = {}
    reads: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    scratch: str = ""
    allow_subprocess: bool = False
    walls: Walls = NO_WALLS
    waiting_s: float = 0.0
    trace: bool = False


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line in a file of the program, by the file's name in the agreement."""

    file: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FILE_CHARACTERS)]
    line: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a program waits for, if only bytes from its peers can wake it.

    Attributes:
        awaited: the numbers of the parties whose messages it awaits; none if no message can bring what it awaits.
        places: the lines at which its coroutines are suspended.
        ending: whether it is shutting MPyC down.
        failed: whether one of its coroutines has failed.
        sent, received: how many bytes it has sent to and received from each party, by number: in hexadecimal, or
            hidden in a mark (onionmpc.session.marks). Its own entry is NO_BYTES. NOT_CONNECTED, only in `received`,
            means that it is not connected to that party, so no byte from there would wake it.
    """

    awaited: Annotated[tuple[_Party, ...], msgspec.Meta(max_length=MAX_PARTIES)]
    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=MAX_PLACES)]
    ending: bool
    failed: bool
    sent: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_PARTIES)]
    received: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_PARTIES)]


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What in a program asked for a message.

    Attributes:
        place: the line of the program, in the innermost of its functions.
        operation: what that line called: a function of MPyC, or a method such as `__lt__`.
        bits: the bit length of the secret numbers in that call; 0 if there are none.
        call: MPyC's program counter at that call: it differs between calls, and is the same at all parties.
    """

    place: Place
    operation: Annotated[str, msgspec.Meta(max_length=MAX_FILE_CHARACTERS)]
    bits: int
    call: int


class Trigger(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A message that a party received: its sender, and how many messages came from there before."""

    sender: _Party
    index: Annotated[int, msgspec.Meta(ge=0)]


class Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A message that a party sent. Its hello, and the end of a connection, count as messages.

    Attributes:
        to: who receives it.
        trigger: the received message that led to it; None if it needed none.
        origin: what asked for it; None if it only answers its trigger.
    """

    to: _Party
    trigger: Trigger | None
    origin: Origin | None


class Rest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a program has exchanged, at a moment when it can only wait for messages.

    Attributes:
        epoch: how often the program has started MPyC.
        sent: bytes by the number of the other party, in all epochs, and one more for the end of each; None if unknown.
        received: bytes of this epoch, by the number of the other party; None if that connection takes no more.
    """

    epoch: Annotated[int, msgspec.Meta(ge=0)]
    sent: tuple[int | None, ...]
    received: tuple[int | None, ...]


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A report of a traced program.

    Attributes:
        messages: what it has sent since its last report, in order.
        rest: how much it has exchanged, if it rests.
    """

    messages: Annotated[tuple[Sent, ...], msgspec.Meta(max_length=MAX_TRACED)]
    rest: Rest | None = None


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Program process to supervisor: its progress, or the reason why it stops.

    Attributes:
        kind: progress is "started" (the script starts MPyC and awaits its end of a link to each peer), once for each
            start; "revealed" (it first opens an output), once; "waiting" (it has waited for its peers for a while) and
            "moving" (it no longer does, or it is unknown whether it does), any number of times; "traced" (see `trace`),
            in dry runs; and "refused" (it asked for a file out of its reach; see walls/asked.py), once per file.
            Reasons to stop are "pickle" (a peer's pickle is not allowed), "closed" (a peer's program ended while ours
            still waited for it), "failed" (a coroutine of MPyC raised an error of ours) and "setup" (the script wants
            parameters that were not agreed on, or the walls are weaker than the ones that were shown).
        party: the peer's number, or None if there is none or it is unknown.
        detail: a description in words.
        wait: what the program waits for.
        trace: what the program has sent, and whether it rests.
    """

    kind: str
    party: int | None
    detail: str
    wait: Wait | None = None
    trace: Trace | None = None


def encode_spec(spec: ProgramSpec) -> bytes:
    """Return one line of JSON. Not by msgspec: its JSON is UTF-8, and a path may not be. json escapes such a path."""
    return json.dumps(msgspec.to_builtins(spec, str_keys=True)).encode() + b"\n"


def decode_spec(line: bytes) -> ProgramSpec:
    """Read what `encode_spec` wrote."""
    return msgspec.convert(json.loads(line), type=ProgramSpec, str_keys=True)


def encode(message: Notice | Walls) -> bytes:
    """Return one line of JSON."""
    return msgspec.json.encode(message) + b"\n"
