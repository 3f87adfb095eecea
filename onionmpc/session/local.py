"""Builds this party's plan and its shared terms, and checks the options that they are made from.

Never imports mpyc, which starts a runtime when it is imported: versions come from the installed metadata.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
# With these MPyC would open connections of its own, past the mesh and past Tor.
CONNECTION_OPTIONS = ("-P", "-M", "-I", "--index", "-C", "--config", "-B", "--base-port", "--ssl", "-T", "--threshold")
# With padding, a successful session lasts a whole number of these: an observer learns minutes, not rounds.
PADDING_BUCKET_S = 60.0
# Programs that wait for each other for this long count as stuck. A link that is lost silently is noticed after 15 s
# (PROTOCOL 3), so it is not mistaken for a stuck program.
STUCK_AFTER_S = 30.0
# How long this party waits for the others, and how long one may be away, unless the user chooses otherwise.
WAIT_S = 3600.0
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Wishes):
    """What this party wants to run: its wishes for the agreed options, and its own options.

    Attributes:
        program: None if the host names it.
        private: arguments that stay at this party.
        attached: further files that must be the same at all parties.
        allow_no_privacy: whether to accept a threshold of 0, which hides nothing.
        wait_s: how long to wait for the peers at each step, in seconds.
        patience_s: how long a connected peer may be away, or all programs stuck, in seconds.
        evidence: what this party shows of who it is; see `onionmpc.names.evidence`.
        min_circuit_length: the lowest level that this party accepts from others.
        stuck_after_s: how long all programs wait for each other before the user is warned, in seconds.
        padding_bucket_s: with padding, the time from agreement to end is a multiple of this.
        hidden: files to hide from the program, besides onionmpc's own state.
        allow_subprocess: whether the program may start processes.
        walls: the protections that the user was shown. The program does not start with fewer.
        streams: the standard streams of the program.
        timings: how long to stay for the peers at the end.
    """

    program: Program | None
    private: tuple[str, ...]
    attached: Attachments = NOTHING
    allow_no_privacy: bool = False
    wait_s: float = WAIT_S
    patience_s: float = PATIENCE_S
    evidence: tuple[str, ...] = field(default=(), repr=False)
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
    """Return the largest number of circuits that this party dials or accepts for one link."""
    if plan.circuits is not None:
        return plan.circuits
    # Each circuit draws new relays, and long is chosen to keep such draws few. At long, a race for speed takes an
    # explicit --circuits.
    return 1 if level is Level.LONG else DEFAULT_CIRCUITS


def threshold_of(plan: Plan, parties: int) -> int:
    """Return the threshold of a party that follows no host: its wish, or the program's default, or onionmpc's."""
    about = None if plan.program is None else plan.program.metadata.about
    wishes = (plan.threshold, None if about is None else about.threshold)
    return next((wish for wish in wishes if wish is not None), default_threshold(parties))


def check_least_parties(program: Program, parties: int) -> None:
    """Check that there are as many parties as the program needs.

    Raises:
        UsageError: there are fewer.
    """
    about = program.metadata.about
    if about is not None and parties < about.min_parties:
        raise UsageError(
            f"{parties} parties, but {printable(program.name)} needs at least {about.min_parties}",
            hint="its author says so in the script: onionmpc programs show explains it",
        )


def check_parties(parties: int, threshold: int, *, allow_no_privacy: bool) -> None:
    """Check the number of parties and the threshold.

    Raises:
        UsageError: they are out of range.
        UnsafeSetting: they would hide nothing, and `allow_no_privacy` is False.
    """
    if not 2 <= parties <= MAX_PARTIES:
        raise UsageError(
            f"{parties} parties, expected 2 to {MAX_PARTIES}",
            hint="a computation needs at least two parties, and three for privacy",
        )
    if not 0 <= 2 * threshold < parties:
        raise UsageError(
            f"threshold {threshold} with {parties} parties, expected 0 to {default_threshold(parties)}",
            hint="MPyC needs an honest majority: 2 t < m",
        )
    if threshold == 0 and not allow_no_privacy:
        raise UnsafeSetting(
            f"threshold 0 with {parties} parties hides nothing: any single party can read every input",
            hint="use at least three parties and threshold 1, or add allow_no_privacy=True",
        )


def check_program_arguments(arguments: Sequence[str]) -> None:
    """Check that a program's arguments contain no options of MPyC, which the parties could not agree on there.

    Raises:
        UsageError: an argument is one. The hint says where it belongs.
    """
    for argument in arguments:
        if any(_is_option(argument, option) for option in CONNECTION_OPTIONS):
            hint = "threshold= is an option of onionmpc" if argument[:2] == "-T" or "threshold" in argument else ""
            hint = "parties= is an option of onionmpc" if argument[:2] == "-M" else hint
            raise UsageError(
                f"{argument.split('=')[0]} is a connection option of MPyC, which onionmpc sets itself",
                hint=hint or "leave it out",
            )
        if any(_is_option(argument, option) for option in WIRE_OPTIONS | WIRE_OPTIONS_WITH_VALUE):
            raise UsageError(
                f"{argument.split('=')[0]} is an option of MPyC that all parties must agree on",
                hint=f'pass it in mpyc_options=["{argument}"], not among the program\'s own arguments',
            )


def check_sendable(public: Iterable[str]) -> None:
    """Check that public arguments can be sent to the peers.

    Raises:
        UsageError: an argument is not valid UTF-8.
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
    """Check that each `--mpyc` option is one that all parties must share; return them sorted.

    Raises:
        UsageError: an option is not, or its value is not a number.
    """
    for option in options:
        if not WIRE_OPTION.fullmatch(option):
            raise UsageError(
                f'"{printable(option, 60)}" is not one of MPyC\'s options that change the wire',
                hint="these are -L64, -K40, --no-prss and --mix32-64bit",
            )
    return tuple(sorted(options))


def check_allowed_types(names: Sequence[str], program: Program) -> tuple[str, ...]:
    """Check the classes that parties may send each other, and return them sorted, each once.

    Only exact names of classes that the program's own files define are allowed, since all parties agreed on these
    files. The authors of a class in Python or in a library did not expect a stranger to choose its arguments.

    Raises:
        UsageError: a name is not that of a class of the program.
    """
    if not names:
        return ()
    defined = program_classes(program)
    for name in names:
        if name not in defined:
            known = [known for known in defined if known.rpartition(".")[2] == name.rpartition(".")[2]]
            raise UsageError(
                f"{printable(name, 60)} is not a class of the program, and only those can be allowed",
                hint=f"did you mean {known[0]}?"
                if known
                else "write __main__.Class for the script's, module.Class for a module's",
            )
    return tuple(sorted(set(names)))


def shared_terms(
    program: Program, attached: Attachments, addresses: Sequence[Onion], agreed: Mapping[str, Any]
) -> SharedTerms:
    """Return the shared terms as this party sees them.

    Args:
        agreed: the value of each agreed option, by its term; see `Wishes`.

    Raises:
        UsageError: a file of the program cannot be read, a name is not UTF-8, or an allowed type is not its class.
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
