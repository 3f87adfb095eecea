"""What the supervisor and the program process tell each other over the socketpair between them.

Nothing of this is in an argv or an environment, which other users of the machine may read.
"""

from __future__ import annotations

import msgspec

# Exit codes of the program process that the script itself can hardly mean.
EXIT_SUPERVISOR_GONE = 79
EXIT_STOPPED = 80


class ProgramSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Supervisor to program process, once: what to run.

    Attributes:
        arguments: what the script finds in sys.argv[1:]: the public arguments, then the private ones.
        sockets: the inherited descriptor for each peer's number.
        allowed_types: classes of the program that peers may send.
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


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Program process to supervisor: how far it is, or, before it stops, why it cannot go on.

    Attributes:
        kind: "started" (the script begins to connect) and "revealed" (it opens an output), each told once; "pickle" (a
            peer's pickle names what is not allowed), "closed" (a peer's program ended while ours still waited for it)
            or "setup" (the script wants other parameters than those agreed).
        party: the peer's number, None if it is not known or there is none.
        detail: in words.
    """

    kind: str
    party: int | None
    detail: str


def encode(message: ProgramSpec | Notice) -> bytes:
    """Return one line of JSON."""
    return msgspec.json.encode(message) + b"\n"
