"""What a party wants to run, checked before a network is needed.

The options have the defaults of the command line's.
"""

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
FROM_STDIN = ("--input", "-")  # has a program that comes with onionmpc read its private input there


class SessionOptions(WishOptions, total=False):
    """What can be said of one session, beside the program. What all parties must agree on is in `Wishes`.

    Attributes:
        with_files: files that must be equal at all parties, or folders of them.
        allow_no_privacy: accept a threshold of 0, which hides nothing.
        allow_subprocess: let this party's program start processes.
        wait_s: how long to wait for the others, at each step.
        patience_s: how long a party may be away, or all programs wait for each other.
        min_circuit_length: the least that is accepted of the others.
        verbose: have MPyC log to the program's standard error.
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
    """What a party wants to run; made by `prepare`.

    Attributes:
        plan: the same in the session's words.
        walls: what the operating system keeps a program in on this machine, if that is known already.
    """

    plan: Plan
    walls: Walls | None = None

    def behind(self, walls: Walls) -> Prepared:
        """Return the same with these walls, which were tried on this machine."""
        return replace(self, walls=walls)

    @property
    def takes_demo_input(self) -> bool:
        """Whether the program comes with onionmpc, and makes up an input if it gets `--demo`."""
        return self.plan.program is not None and self.plan.program.shipped

    def check_parties(self, parties: int) -> None:
        """Check that a host can have so many parties, itself included.

        Raises:
            UsageError: it cannot, or not with this threshold.
            UnsafeSetting: that hides nothing, and nobody has asked for that.
        """
        threshold = default_threshold(parties) if self.plan.threshold is None else self.plan.threshold
        check_parties(parties, threshold, allow_no_privacy=self.plan.allow_no_privacy)

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
    arguments: Sequence[str] = (),
    **options: Unpack[SessionOptions],
) -> Prepared:
    """Check what a party wants to run.

    Args:
        program: a script, or the name of a program that comes with onionmpc; None to run what the host runs, if that
            comes with onionmpc.
        joins_host: what is not said here is as the host says.
        arguments: those that `Table.compute` will get, to check them now.
        **options: see `SessionOptions`.

    Raises:
        UsageError: there is no such program or file, or an option is out of its bounds.
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
        program_files(found, attached)  # with too many of them, nobody is invited
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
    """Return what each program that comes with onionmpc computes, by its name."""
    return dict(catalogue())


def options_of(wishes: Wishes) -> dict[str, Any]:
    """Return the options that `prepare` makes these wishes of."""
    return {name: value for name in WISHES if (value := getattr(wishes, name)) is not None}


def _wishes(options: SessionOptions) -> Wishes:
    values: dict[str, Any] = {name: options[name] for name in WISHES if name in options}  # type: ignore[literal-required]
    values |= {name: tuple(value) for name, value in values.items() if isinstance(value, Sequence)}
    wishes = Wishes(**values)
    wishes.check()
    return replace(wishes, mpyc_options=check_mpyc_options(wishes.mpyc_options or ()))
