"""What this machine and this person bring to the agreement.

Knows installed versions and the limits of threshold and party count. Does not import mpyc.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.program.code.attached import NOTHING, Attachments
from onionmpc.program.code.catalogue import Program, program_classes, program_files
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.spec import MAX_PARTIES, NO_WALLS, Walls
from onionmpc.session.agreement import DEFAULT_CIRCUITS, SharedTerms
from onionmpc.session.timings import DEFAULT_TIMINGS, Timings
from onionmpc.text import printable
from onionmpc.wire.handshake import VERSION

WIRE_OPTIONS_WITH_VALUE = frozenset({"-L", "--bit-length", "-K", "--sec-param"})
WIRE_OPTIONS = frozenset({"--no-prss", "--mix32-64bit"})
WIRE_OPTION = re.compile(r"(-[LK]=?|--bit-length=|--sec-param=)[1-9][0-9]{0,3}|--no-prss|--mix32-64bit")
# MPyC would open connections of its own with these, past the mesh.
CONNECTION_OPTIONS = ("-P", "-M", "-I", "--index", "-C", "--config", "-B", "--base-port", "--ssl", "-T", "--threshold")
# From so many parties on MPyC does without the keys of its pseudorandom secret sharing unless told otherwise. There are
# C(m, t) of them: a party sends each peer 27 kB as it starts with 15 parties and 22 MB with 25, and hashes all that it
# has for each random number. Without them, parties send their randomness as it is needed.
NO_PRSS_FROM_PARTIES = 15
# With padding a session that ends well lasts a whole number of these, which tells the minutes and not the rounds.
PADDING_BUCKET_S = 60.0
# Programs that wait for each other for so long are said to be stuck. A link that was lost without a word is noticed
# after 15 s (PROTOCOL 3), so it is not mistaken for that.
STUCK_AFTER_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What this party wants to run; None is "as the host says".

    Attributes:
        private: arguments that stay here.
        attached: further files that must be the same everywhere.
        allow_no_privacy: whether a threshold of 0 is accepted, which hides nothing.
        wait_s: how long to wait for the others, in seconds, at each step.
        patience_s: how long a party may be away once it was there, or all programs stuck, in seconds.
        min_circuit_length: the lowest level that is accepted of others.
        padding: records a second on each link.
        circuits: over how many each link is raced.
        receipt: where this party's goes, None if it signs none; never as the host says, since it cannot be taken back.
        allowed_types: classes of the program that peers may send, by their full names.
        stuck_after_s: how long all programs wait for each other before that is told, in seconds.
        padding_bucket_s: what the time from agreement to end is a multiple of, with padding.
        hidden: what is kept from the program, beside our own state.
        allow_subprocess: whether the program may start processes.
        walls: what this party's person was shown to keep the program in; with less it is not started.
        streams: what the program reads and writes.
        timings: how long it stays for the others at the end.
    """

    program: Program | None
    threshold: int | None
    public: tuple[str, ...] | None
    private: tuple[str, ...]
    mpyc_options: tuple[str, ...] | None
    attached: Attachments = NOTHING
    allow_no_privacy: bool = False
    wait_s: float = 3600.0
    patience_s: float = 600.0
    min_circuit_length: Level = Level.STANDARD
    verbose: bool = False
    padding: int | None = None
    circuits: int | None = None
    receipt: Path | None = None
    allowed_types: tuple[str, ...] | None = ()
    padding_bucket_s: float = PADDING_BUCKET_S
    stuck_after_s: float = STUCK_AFTER_S
    hidden: tuple[Path, ...] = ()
    allow_subprocess: bool = False
    walls: Walls = NO_WALLS
    streams: Streams = OWN_STREAMS
    timings: Timings = DEFAULT_TIMINGS


def max_circuits(plan: Plan, level: Level) -> int:
    """Return the most circuits that this party dials or accepts for one link."""
    if plan.circuits is not None:
        return plan.circuits
    # Who asks for long asks for few draws of relays: what is gained in time has to be asked for as well.
    return 1 if level is Level.LONG else DEFAULT_CIRCUITS


def default_threshold(parties: int) -> int:
    """Return the largest t that an honest majority allows."""
    return (parties - 1) // 2


def default_mpyc_options(parties: int) -> tuple[str, ...]:
    """Return the options of MPyC that a session has where nobody named any."""
    return ("--no-prss",) if parties >= NO_PRSS_FROM_PARTIES else ()


def check_parties(parties: int, threshold: int, *, allow_no_privacy: bool) -> None:
    """Check the number of parties and the threshold.

    Raises:
        UsageError: they cannot be.
        UnsafeSetting: they would hide nothing, and that was not asked for.
    """
    if not 2 <= parties <= MAX_PARTIES:
        raise UsageError(
            f"{parties} parties, expected 2 to {MAX_PARTIES}",
            hint="computing together takes at least two; three for privacy",
        )
    if not 0 <= 2 * threshold < parties:
        raise UsageError(
            f"threshold {threshold} with {parties} parties, expected 0 to {default_threshold(parties)}",
            hint="MPyC needs an honest majority: 2 t < m",
        )
    if threshold == 0 and not allow_no_privacy:
        raise UnsafeSetting(
            f"threshold 0 with {parties} parties hides nothing: any single party can read every input",
            hint="take at least three parties and threshold 1, or say --allow-no-privacy",
        )


def check_program_arguments(arguments: Sequence[str]) -> None:
    """Refuse MPyC's own options among a program's arguments, where the parties could not agree on them.

    Raises:
        UsageError: names the option and where it belongs.
    """
    for argument in arguments:
        if any(_is_option(argument, option) for option in CONNECTION_OPTIONS):
            hint = "--threshold is an option of onionmpc" if argument[:2] == "-T" or "threshold" in argument else ""
            hint = "--parties is an option of onionmpc" if argument[:2] == "-M" else hint
            raise UsageError(
                f"{argument.split('=')[0]} is a connection option of MPyC, which onionmpc sets itself",
                hint=hint or "leave it out",
            )
        if any(_is_option(argument, option) for option in WIRE_OPTIONS | WIRE_OPTIONS_WITH_VALUE):
            raise UsageError(
                f"{argument.split('=')[0]} is an option of MPyC that all parties must agree on",
                hint=f"give it as --mpyc={argument} before the program's own arguments",
            )


def check_sendable(public: Iterable[str]) -> None:
    """Check that public arguments can be sent to the others.

    Raises:
        UsageError: one is not UTF-8, as the bytes of an argument may be.
    """
    for argument in public:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"the public argument {printable(argument, 60)} is not UTF-8") from None


def _is_option(argument: str, option: str) -> bool:
    if option.startswith("--"):
        return argument == option or argument.startswith(f"{option}=")
    # -M3 and -M 3, but not -Max: MPyC's short options take numbers or addresses.
    return argument == option or (argument.startswith(option) and (argument[2:].isdigit() or ":" in argument))


def check_mpyc_options(options: Sequence[str]) -> tuple[str, ...]:
    """Check `--mpyc` options: those that change the wire, and no others; return them sorted.

    Raises:
        UsageError: it is none of them, or its value is not a number.
    """
    for option in options:
        if not WIRE_OPTION.fullmatch(option):
            raise UsageError(
                f"--mpyc {printable(option, 60)} is not one of MPyC's options that change the wire",
                hint="these are -L64, -K40, --no-prss and --mix32-64bit",
            )
    return tuple(sorted(options))


def check_allowed_types(names: Sequence[str], program: Program) -> tuple[str, ...]:
    """Check the classes that parties may send each other, and return them sorted, each once.

    Exact names of classes that the program's own files define, and no others: everybody has agreed on those files, and
    read them. A class of Python or of a library does with a stranger's arguments what its authors never thought of.

    Raises:
        UsageError: one is no class of the program.
    """
    if not names:
        return ()
    defined = program_classes(program)
    for name in names:
        if name not in defined:
            known = [known for known in defined if known.rpartition(".")[2] == name.rpartition(".")[2]]
            raise UsageError(
                f"{printable(name, 60)} is no class of the program, and no other can be allowed",
                hint=f"did you mean {known[0]}?"
                if known
                else "the script's are __main__.Class, a module's module.Class",
            )
    return tuple(sorted(set(names)))


def common_fields(
    program: Program,
    attached: Attachments,
    addresses: Sequence[Onion],
    threshold: int,
    public: Sequence[str],
    mpyc_options: Sequence[str],
    padding_rate: int = 0,
    circuits: int = DEFAULT_CIRCUITS,
    allowed_types: Sequence[str] = (),
    *,
    receipt: bool = False,
) -> SharedTerms:
    """Return the common fields of the agreement as this party sees them.

    Raises:
        UsageError: a file of the program cannot be read, a name is not UTF-8, or an allowed type is no class of it.
    """
    files = {file.path: file.sha256.hex() for file in program_files(program, attached)}
    check_sendable(public)
    word_size = "any word size" if "--mix32-64bit" in mpyc_options else f"{64 if sys.maxsize > 2**32 else 32}-bit"
    return SharedTerms(
        protocol=VERSION,
        addresses=tuple(addresses),
        threshold=threshold,
        program=program.name,
        files=files,
        public_arguments=tuple(public),
        mpyc_version=importlib.metadata.version("mpyc"),
        mpyc_options=tuple(mpyc_options),
        python=f"{platform.python_implementation()} {word_size}",
        numpy=_numpy_major(),
        allowed_types=check_allowed_types(allowed_types, program),
        padding_rate=padding_rate,
        circuits=circuits,
        receipt=receipt,
    )


def _numpy_major() -> int | None:
    try:
        return int(importlib.metadata.version("numpy").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
