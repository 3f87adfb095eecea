"""What a party wants to run, checked before a network is needed.

The options have the names and defaults of the command line's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, Unpack

from onionmpc.errors import UsageError
from onionmpc.files import check_writable
from onionmpc.levels import Level
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import find_program, program_files
from onionmpc.program.spec import Walls
from onionmpc.session.local import Plan, check_allowed_types, check_mpyc_options, check_program_arguments

WAIT_S, PATIENCE_S = 3600.0, 600.0
FROM_STDIN = ("--input", "-")  # has a program that comes with onionmpc read its private input there


class SessionOptions(TypedDict, total=False):
    """What can be said of one session, beside the program.

    Attributes:
        threshold: any threshold + 1 parties together can read every input; the largest below half of them by default.
        public: arguments of the program that are equal at all parties; they come first.
        with_files: files that must be equal at all parties, or folders of them.
        mpyc: options of MPyC that all must agree on: "-L64", "-K40", "--no-prss", "--mix32-64bit".
        allow_type: classes of the program that parties may send each other, by their full names.
        padding: records a second on each link, 0 for none.
        circuits: over how many circuits each link is raced.
        receipt: where to keep a receipt that all parties sign. It permanently proves that this address took part.
        allow_no_privacy: accept a threshold of 0, which hides nothing.
        allow_subprocess: let this party's program start processes.
        wait_s: how long to wait for the others, at each step.
        patience_s: how long a party may be away, or all programs wait for each other.
        min_circuit_length: the least that is accepted of the others.
        verbose: have MPyC log to the program's standard error.
    """

    threshold: int | None
    public: Sequence[str]
    with_files: Sequence[str | os.PathLike[str]]
    mpyc: Sequence[str]
    allow_type: Sequence[str]
    padding: int | None
    circuits: int | None
    receipt: str | os.PathLike[str] | None
    allow_no_privacy: bool
    allow_subprocess: bool
    wait_s: float
    patience_s: float
    min_circuit_length: Level | str
    verbose: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a party wants to run; made by `prepare`.

    Attributes:
        plan: the same in the session's words.
        walls: waits for the walls around a program to be tried on this machine; None: they have yet to be.
    """

    plan: Plan
    walls: Callable[[], Walls] | None = None

    def with_private(self, arguments: Sequence[str], *, reads_input: bool) -> Plan:
        """Return the plan with what stays at this party.

        Args:
            reads_input: whether the program's standard input holds its private input.
        """
        check_program_arguments(arguments)
        program = self.plan.program
        if reads_input and not arguments and (program is None or program.shipped):
            arguments = FROM_STDIN
        return replace(self.plan, private=tuple(arguments))


def prepare(
    program: str | os.PathLike[str] | None,
    *,
    joins_host: bool = False,
    walls: Callable[[], Walls] | None = None,
    **options: Unpack[SessionOptions],
) -> Prepared:
    """Check what a party wants to run.

    Args:
        program: a script, or the name of a program that comes with onionmpc; None to run what the host runs, if that
            comes with onionmpc.
        joins_host: what is not said here is as the host says.
        walls: see `Prepared`.
        **options: see `SessionOptions`.

    Raises:
        UsageError: there is no such program or file, or an option is out of its bounds.
    """
    receipt = options.get("receipt")
    public, mpyc = tuple(options.get("public", ())), tuple(options.get("mpyc", ()))
    allowed_types = tuple(options.get("allow_type", ()))
    if receipt is not None:
        check_receipt(Path(receipt))
    if options.get("padding") and (options.get("circuits") or 1) > 1:
        raise UsageError("a padded link has one circuit", hint="leave out --circuits, or --padding")
    check_program_arguments(public)
    found = None if program is None else find_program(os.fspath(program))
    attached = attach([Path(file) for file in options.get("with_files", ())])
    if found is not None:
        check_allowed_types(allowed_types, found)
        program_files(found, attached)  # with too many of them, nobody is invited
    plan = Plan(
        program=found,
        threshold=options.get("threshold"),
        public=None if joins_host and not public else public,
        private=(),
        mpyc_options=None if joins_host and not mpyc else check_mpyc_options(mpyc),
        allowed_types=None if joins_host and not allowed_types else allowed_types,
        attached=attached,
        allow_no_privacy=options.get("allow_no_privacy", False),
        wait_s=options.get("wait_s", WAIT_S),
        patience_s=options.get("patience_s", PATIENCE_S),
        min_circuit_length=Level(options.get("min_circuit_length", Level.STANDARD)),
        verbose=options.get("verbose", False),
        padding=options.get("padding"),
        circuits=options.get("circuits"),
        receipt=None if receipt is None else Path(receipt),
        allow_subprocess=options.get("allow_subprocess", False),
    )
    return Prepared(plan, walls)


def check_receipt(file: Path) -> None:
    """Check that a receipt can be kept in this file: at the end it would be too late.

    Raises:
        UsageError: there is such a file, or it cannot be written.
    """
    check_writable(file)
    if os.path.lexists(file):
        raise UsageError(
            f"there is a file {file} already", hint="an older receipt is not replaced: choose another name"
        )
