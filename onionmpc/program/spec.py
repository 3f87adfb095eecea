"""What the supervisor and the program process tell each other over the socketpair between them.

Nothing of this is in an argv or an environment, which other users of the machine may read.
"""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

# Exit codes of the program process that the script itself can hardly mean.
EXIT_SUPERVISOR_GONE = 79
EXIT_STOPPED = 80
# Where a program waits is said to other parties: so many places, and names of this length.
MAX_PLACES = 3
MAX_FILE_CHARACTERS = 200
MAX_PARTIES = 256  # MPyC's own limit

_Party = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTIES)]
_Count = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{0,16}\Z")]
NO_BYTES = "0"
NOT_CONNECTED = ""


class Walls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the kernel keeps the program from; nothing of it where there is no Linux.

    Attributes:
        network: it is in a network namespace with nothing in it.
        sockets: it can make and connect none, those with a path among them (seccomp).
        secrets: it opens none of our keys and none of our tor's files.
        files: it opens only what it is to have (Landlock).
        frozen: it changes nothing but what it may write, not a mode or a time either (mounts). Where that is missing,
            seccomp refuses it such changes anywhere.
    """

    network: bool = False
    sockets: bool = False
    secrets: bool = False
    files: bool = False
    frozen: bool = False

    def hold(self, shown: Walls) -> bool:
        """Tell whether these keep all that others, which were shown, would keep."""
        return all(getattr(self, wall) >= getattr(shown, wall) for wall in shown.__struct_fields__)

    def lines(self) -> tuple[str, ...]:
        """Say it in words."""
        # Without a namespace, but with no socket to be had, there is no way out either.
        network = "an empty namespace" if self.network else "no namespace" if self.sockets else "OPEN"
        sockets = "none can be made or connected (seccomp)" if self.sockets else "OPEN"
        opens = "OPEN, all that you can read" + (" and write" if not self.frozen else "")
        opens += ", except onionmpc's keys (mounts)" * self.secrets
        opens += "; it writes only its own, and what you name (mounts)" * self.frozen
        files = f"its own, and what you name (Landlock); {self._changes()}" if self.files else opens
        return f"network: {network}", f"sockets: {sockets}", f"files: {files}", "Python: a guard against mistakes"

    def _changes(self) -> str:
        """Say what of other files it can change, of which Landlock knows nothing."""
        if self.frozen:
            return "all else is read-only (mounts)"
        return "no modes, times or owners (seccomp)" if self.sockets else "modes, times and owners of all: OPEN"

    def describe(self) -> str:
        """Say it in one line."""
        return "; ".join(self.lines())


NO_WALLS = Walls()


class ProgramSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Supervisor to program process, once: what to run.

    Attributes:
        arguments: what the script finds in sys.argv[1:]: the public arguments, then the private ones.
        sockets: the inherited descriptor for each peer's number.
        allowed_types: classes of the program that peers may send.
        named: words of this party's own choice; the paths among them may be read and written.
        code: the Python files that were agreed on, by their paths on this machine; the script is one.
        on_disk: the SHA-256 in hex of the agreed files that are not Python, by path.
        reads: further paths that may be read, and not be written whatever else may be.
        hidden: paths that are kept from it, wherever they lie.
        scratch: a directory for its temporary files.
        allow_subprocess: whether it may start processes, which are walled in as it is.
        walls: what was shown to this party's person: with less, the script is not started.
        waiting_s: how long it waits for its peers before it says so, in seconds; 0 is never.
    """

    script: str
    folder: str
    arguments: tuple[str, ...]
    number: int
    parties: int
    threshold: int
    mpyc_options: tuple[str, ...]
    sockets: dict[int, int]
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


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of one of the program's files, by the name that the agreement gives it."""

    file: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FILE_CHARACTERS)]
    line: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Wait(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a program waits for that nothing but bytes of its peers can wake.

    Attributes:
        awaited: the numbers of those whose message it awaits; none if it awaits a value that no message can bring.
        places: where its coroutines are suspended.
        ending: whether it shuts MPyC down.
        failed: whether one of its coroutines failed.
        sent, received: how many bytes went to and came from each party since the start, by its number: in hexadecimal,
            or as a mark of that (onionmpc.session.marks); NO_BYTES in its own place. NOT_CONNECTED received: it has not
            connected to that party, and no byte of it would wake it.
    """

    awaited: Annotated[tuple[_Party, ...], msgspec.Meta(max_length=MAX_PARTIES)]
    places: Annotated[tuple[Place, ...], msgspec.Meta(max_length=MAX_PLACES)]
    ending: bool
    failed: bool
    sent: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_PARTIES)]
    received: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=MAX_PARTIES)]


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Program process to supervisor: how far it is, or, before it stops, why it cannot go on.

    Attributes:
        kind: "started" (the script begins to connect) and "revealed" (it opens an output), each sent once; "refused"
            (it asked for a file out of its reach; see walls/asked.py), once for each file; "pickle" (a peer's
            pickle names what is not allowed), "closed" (a peer's program ended while ours still waited for it),
            "failed" (a coroutine of MPyC's raised an error of ours) or "setup" (the script wants other parameters than
            those agreed, or the walls are weaker than was shown). Besides, any number of times: "waiting" (it has
            waited for its peers for a while) and "moving" (it does so no longer, or in a way that it cannot tell).
        party: the peer's number, None if it is not known or there is none.
        detail: in words.
        wait: what it waits for.
    """

    kind: str
    party: int | None
    detail: str
    wait: Wait | None = None


def encode_spec(spec: ProgramSpec) -> bytes:
    """Return one line of JSON, in ASCII: a path may be no UTF-8, which msgspec's JSON has to be."""
    return json.dumps(msgspec.to_builtins(spec, str_keys=True)).encode() + b"\n"


def decode_spec(line: bytes) -> ProgramSpec:
    """Read what `encode_spec` wrote."""
    return msgspec.convert(json.loads(line), type=ProgramSpec, str_keys=True)


def encode(message: Notice | Walls) -> bytes:
    """Return one line of JSON."""
    return msgspec.json.encode(message) + b"\n"
