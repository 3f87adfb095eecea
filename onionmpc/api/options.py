"""The options of a session, checked before a network is needed. Their defaults are those of the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from onionmpc.api.receipt_file import check_receipt
from onionmpc.levels import Level
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import catalogue, find_program, program_files
from onionmpc.program.spec import Walls
from onionmpc.session.agreed_options import Wishes, WishOptions, default_threshold, wishes_of
from onionmpc.session.local import (
    PATIENCE_S,
    WAIT_S,
    Plan,
    check_allowed_types,
    check_mpyc_options,
    check_parties,
    check_program_arguments,
)

WISHES = tuple(WishOptions.__annotations__)  # the names of the options that all parties must agree on
FROM_STDIN = ("--input", "-")  # makes an included program read its private input from standard input


class SessionOptions(WishOptions, total=False):
    """The options of one session. `Wishes` describes those that all parties must agree on.

    Attributes:
        with_files: further files, or folders of files, that must be the same at all parties.
        allow_no_privacy: accept a threshold of 0, which hides nothing.
        allow_subprocess: let this party's program start processes.
        wait_s: how long to wait for the others at each step, in seconds.
        patience_s: how long a party may be away, or all programs stuck, in seconds.
        min_circuit_length: the lowest level to accept from the others.
        verbose: let MPyC log to the program's standard error.
    """

    with_files: Sequence[str | os.PathLike[str]]
    allow_no_privacy: bool
    allow_subprocess: bool
    wait_s: float
    patience_s: float
    min_circuit_length: Level | str
    verbose: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """The checked options of a session, as `prepare` returns them.

    Attributes:
        plan: the options as the session layer takes them.
        walls: the protections that a program process gets on this machine, None if they are not known yet.
    """

    plan: Plan
    walls: Walls | None = None

    def behind(self, walls: Walls) -> Prepared:
        """Return a copy with these walls, which were probed on this machine."""
        return replace(self, walls=walls)

    @property
    def takes_demo_input(self) -> bool:
        """True if the program comes with onionmpc. With `--demo`, it then makes up an input."""
        return self.plan.program is not None and self.plan.program.shipped

    def check_parties(self, parties: int) -> None:
        """Check that a session can have this many parties, the host included.

        Raises:
            UsageError: it cannot, or not with this threshold.
            UnsafeSetting: the threshold hides nothing, and `allow_no_privacy` is False.
        """
        threshold = default_threshold(parties) if self.plan.threshold is None else self.plan.threshold
        check_parties(parties, threshold, allow_no_privacy=self.plan.allow_no_privacy)

    def with_private(self, arguments: Sequence[str], *, reads_input: bool) -> Plan:
        """Return the plan with the arguments that stay at this party.

        Args:
            reads_input: whether the program gets its private input from standard input.
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
    arguments: Sequence[str] = (),
    **options: Unpack[SessionOptions],
) -> Prepared:
    """Check the program and the options of a session.

    Args:
        program: a script, or the name of a program that comes with onionmpc. None runs the host's program, which must
            come with onionmpc.
        joins_host: whether the host's values fill the options that are left out.
        arguments: the arguments that `Table.compute` will get, to check them now.
        **options: see `SessionOptions`.

    Raises:
        UsageError: the program or a file does not exist, or an option is out of bounds.
    """
    wishes = _wishes(options)
    if wishes.receipt is not None:
        check_receipt(wishes.receipt)
    check_program_arguments(arguments)
    check_program_arguments(wishes.public or ())
    found = None if program is None else find_program(os.fspath(program))
    attached = attach([Path(file) for file in options.get("with_files", ())])
    if found is not None:
        check_allowed_types(wishes.allowed_types or (), found)
        program_files(found, attached)  # refuses a program that is too large, before anyone is invited
    plan = Plan(
        program=found,
        private=(),
        attached=attached,
        allow_no_privacy=options.get("allow_no_privacy", False),
        wait_s=options.get("wait_s", WAIT_S),
        patience_s=options.get("patience_s", PATIENCE_S),
        min_circuit_length=Level(options.get("min_circuit_length", Level.STANDARD)),
        verbose=options.get("verbose", False),
        allow_subprocess=options.get("allow_subprocess", False),
        **wishes_of(wishes, joins_host=joins_host),
    )
    return Prepared(plan)


def program_names() -> dict[str, str]:
    """Return a one-line summary of each program that comes with onionmpc, by its name."""
    return dict(catalogue())


def options_of(wishes: Wishes) -> dict[str, Any]:
    """Return these wishes as options for `prepare`."""
    return {name: value for name in WISHES if (value := getattr(wishes, name)) is not None}


def _wishes(options: SessionOptions) -> Wishes:
    values: dict[str, Any] = {name: options[name] for name in WISHES if name in options}  # type: ignore[literal-required]
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, Sequence)}
    wishes = Wishes(**values)
    wishes.check()
    return replace(wishes, mpyc_options=check_mpyc_options(wishes.mpyc_options or ()))
