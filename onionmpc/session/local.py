"""What this machine and this person bring to the agreement.

Knows installed versions and the limits of threshold and party count. Does not import mpyc.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onionmpc.errors import UnsafeSetting, UsageError
from onionmpc.identity import Onion
from onionmpc.levels import Level
from onionmpc.program.code.attached import NOTHING, Attachments
from onionmpc.program.code.catalogue import Program, program_classes, program_files
from onionmpc.program.process.streams import OWN_STREAMS, Streams
from onionmpc.program.spec import MAX_PARTIES, NO_WALLS, Walls
from onionmpc.session.agreed_options import Wishes, default_threshold
from onionmpc.session.agreement import DEFAULT_CIRCUITS, SharedTerms
from onionmpc.session.timings import DEFAULT_TIMINGS, Timings
from onionmpc.text import printable
from onionmpc.wire.handshake import VERSION

WIRE_OPTIONS_WITH_VALUE = frozenset({"-L", "--bit-length", "-K", "--sec-param"})
WIRE_OPTIONS = frozenset({"--no-prss", "--mix32-64bit"})
WIRE_OPTION = re.compile(r"(-[LK]=?|--bit-length=|--sec-param=)[1-9][0-9]{0,3}|--no-prss|--mix32-64bit")
# MPyC would open connections of its own with these, past the mesh.
CONNECTION_OPTIONS = ("-P", "-M", "-I", "--index", "-C", "--config", "-B", "--base-port", "--ssl", "-T", "--threshold")
# With padding a session that ends well lasts a whole number of these, which tells the minutes and not the rounds.
PADDING_BUCKET_S = 60.0
# Programs that wait for each other for so long are said to be stuck. A link that was lost without a word is noticed
# after 15 s (PROTOCOL 3), so it is not mistaken for that.
STUCK_AFTER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Wishes):
    """What this party wants to run: what it asks for of what all agree on, and what is its own.

    Attributes:
        program: None where the host names it.
        private: arguments that stay here.
        attached: further files that must be the same everywhere.
        allow_no_privacy: whether a threshold of 0 is accepted, which hides nothing.
        wait_s: how long to wait for the others, in seconds, at each step.
        patience_s: how long a party may be away once it was there, or all programs stuck, in seconds.
        min_circuit_length: the lowest level that is accepted of others.
        stuck_after_s: how long all programs wait for each other before that is told, in seconds.
        padding_bucket_s: what the time from agreement to end is a multiple of, with padding.
        hidden: what is kept from the program, beside our own state.
        allow_subprocess: whether the program may start processes.
        walls: what this party's person was shown to keep the program in; with less it is not started.
        streams: what the program reads and writes.
        timings: how long it stays for the others at the end.
    """

    program: Program | None
    private: tuple[str, ...]
    attached: Attachments = NOTHING
    allow_no_privacy: bool = False
    wait_s: float = 3600.0
    patience_s: float = 600.0
    min_circuit_length: Level = Level.STANDARD
    verbose: bool = False
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


def shared_terms(
    program: Program, attached: Attachments, addresses: Sequence[Onion], agreed: Mapping[str, Any]
) -> SharedTerms:
    """Return the shared terms as this party sees them.

    Args:
        agreed: the value of each agreed option, by its term; see `Wishes`.

    Raises:
        UsageError: a file of the program cannot be read, a name is not UTF-8, or an allowed type is no class of it.
    """
    files = {file.path: file.sha256.hex() for file in program_files(program, attached)}
    check_sendable(agreed["public_arguments"])
    any_word_size = "--mix32-64bit" in agreed["mpyc_options"]
    word_size = "any word size" if any_word_size else f"{64 if sys.maxsize > 2**32 else 32}-bit"
    values = {
        **agreed,
        "public_arguments": tuple(agreed["public_arguments"]),
        "mpyc_options": tuple(agreed["mpyc_options"]),
        "allowed_types": check_allowed_types(agreed["allowed_types"], program),
    }
    return SharedTerms(
        protocol=VERSION,
        addresses=tuple(addresses),
        program=program.name,
        files=files,
        mpyc_version=importlib.metadata.version("mpyc"),
        python=f"{platform.python_implementation()} {word_size}",
        numpy=_numpy_major(),
        **values,
    )


def _numpy_major() -> int | None:
    try:
        return int(importlib.metadata.version("numpy").partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
