"""The options of a session, checked before a network is needed. Their defaults are those of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from onionmpc.api.arguments import check_names, count, flag, level, optional, path, paths, seconds, texts, whole
from onionmpc.api.receipt_file import check_receipt
from onionmpc.levels import Level
from onionmpc.names.standing import StrangersRule
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import catalogue, find_program, program_files
from onionmpc.program.inputs import check_public
from onionmpc.program.spec import Walls
from onionmpc.session.agreed_options import (
    AGREED_OPTIONS,
    OptionKind,
    Wishes,
    WishOptions,
    wishes_of,
)
from onionmpc.session.local import (
    PATIENCE_S,
    WAIT_S,
    Plan,
    check_allowed_types,
    check_least_parties,
    check_mpyc_options,
    check_parties,
    check_program_arguments,
    threshold_of,
)

WISHES = tuple(WishOptions.__annotations__)  # the names of the options that all parties must agree on
# What a party chooses for one program does not fit another one.
OF_ONE_PROGRAM = ("public", "mpyc_options", "allowed_types", "with_files")
OF_THE_SESSION = ("evidence",)  # shown again in each computation, as it was read for the first
FROM_STDIN = ("--input", "-")  # makes an included program read its private input from standard input


class ProgramOptions(TypedDict, total=False):
    """The options of one computation, for `Table.compute` from the second one on; see `SessionOptions`."""

    threshold: int | None
    public: Sequence[str]
    mpyc_options: Sequence[str]
    allowed_types: Sequence[str]
    with_files: Sequence[str | os.PathLike[str]]


class SessionOptions(WishOptions, total=False):
    """The options of one session, for `Party.host` and `Party.join`.

    All parties must agree on the first seven. A joiner takes the host's value of each one that it leaves out, except
    for `receipt`.

    Attributes:
        threshold: any threshold + 1 parties together can read every input. Default: the largest below half the parties.
        public: arguments of the program that are the same at all parties.
        mpyc_options: MPyC options that all parties use, such as "-L64".
        allowed_types: classes of the program whose instances parties may send each other, such as "__main__.Ballot".
        padding: records a second on each link, 0 to 200, to hide when and how much a party sends. Default: 0.
        circuits: how many circuits race for each link, 1 to 8. Default: 3; 1 with padding.
        receipt: a new file for this party's receipt. Each party must ask for one.
        with_files: further files, or folders of files, that must be the same at all parties.
        evidence: files that prove to the others who this party is: certificates, or statements signed with an SSH key.
        strangers_may_read_everything: compute even if one person behind the seats of strangers, or behind several seats
            of one name, could read every input.
        max_unknown: refuse sessions in which more seats are strangers, or known to the host alone. Default: any number.
        trust: the folder that says whose evidence counts. Default: this user's own (see: onionmpc trust).
        allow_no_privacy: accept a threshold of 0, which hides nothing.
        allow_difference: let `AGREE_TO_ANYTHING` accept a result that may expose an input, with an earlier one.
        allow_subprocess: let this party's program start processes.
        wait_s: how long to wait for the others at each step, in seconds. Default: 3600.
        patience_s: how long a party may be away, or all programs stuck, in seconds. Default: 600.
        min_circuit_length: the lowest level to accept from the others. Default: standard.
        verbose: let MPyC log to the program's standard error.
    """

    with_files: Sequence[str | os.PathLike[str]]
    evidence: Sequence[str | os.PathLike[str]]
    strangers_may_read_everything: bool
    max_unknown: int | None
    trust: str | os.PathLike[str] | None
    allow_no_privacy: bool
    allow_difference: bool
    allow_subprocess: bool
    wait_s: float
    patience_s: float
    min_circuit_length: Level | str
    verbose: bool


_CHECK_OF_KIND = {OptionKind.NUMBER: whole, OptionKind.TEXTS: texts, OptionKind.FILE: path}
# How the value of each option is checked, by its name.
CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    **{option.wish: optional(_CHECK_OF_KIND[option.kind]) for option in AGREED_OPTIONS},
    "with_files": paths,
    "evidence": paths,
    "strangers_may_read_everything": flag,
    "max_unknown": optional(count),
    "trust": optional(path),
    "allow_no_privacy": flag,
    "allow_difference": flag,
    "allow_subprocess": flag,
    "wait_s": seconds,
    "patience_s": seconds,
    "min_circuit_length": level,
    "verbose": flag,
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """The checked options of a session, as `prepare` returns them.

    Attributes:
        plan: the options as the session layer takes them.
        walls: the protections that a program process gets on this machine, None if they are not known yet.
        program, options: what `prepare` was called with.
        joins_host: whether the values of another party fill the options that are left out.
        allow_difference: see `SessionOptions`.
        rule: with whom this party computes.
        trust: the folder that says whose evidence counts; None for the user's own.
    """

    plan: Plan
    walls: Walls | None = None
    program: str | os.PathLike[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    joins_host: bool = False
    allow_difference: bool = False
    rule: StrangersRule = field(default_factory=StrangersRule)
    trust: Path | None = None

    def behind(self, walls: Walls) -> Prepared:
        """Return a copy with these walls, which were probed on this machine."""
        return replace(self, walls=walls)

    def check_parties(self, parties: int) -> None:
        """Check that a session can have this many parties, the host included.

        Raises:
            UsageError: it cannot, or not with this threshold.
            UnsafeSetting: the threshold hides nothing, and `allow_no_privacy` is False.
        """
        check_parties(parties, threshold_of(self.plan, parties), allow_no_privacy=self.plan.allow_no_privacy)
        if self.plan.program is not None:
            check_least_parties(self.plan.program, parties)

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
        UsageError: the program, a file or an option does not exist, or an option is out of bounds.
    """
    check_names(options, CHECKS)
    said = {name: CHECKS[name](name, value) for name, value in options.items()}
    wishes = _wishes(said)
    if wishes.receipt is not None:
        check_receipt(wishes.receipt)
    check_program_arguments(texts("arguments", arguments))
    check_program_arguments(wishes.public or ())
    found = None if program is None else find_program(_program_name(program))
    attached = attach(said.get("with_files", ()))
    if found is not None:
        check_allowed_types(wishes.allowed_types or (), found)
        if found.metadata.about is not None and not joins_host:
            check_public(found.metadata.about, wishes.public or ())
        program_files(found, attached)  # refuses a program that is too large, before anyone is invited
    plan = Plan(
        program=found,
        private=(),
        attached=attached,
        allow_no_privacy=said.get("allow_no_privacy", False),
        wait_s=said.get("wait_s", WAIT_S),
        patience_s=said.get("patience_s", PATIENCE_S),
        evidence=_read_evidence(said.get("evidence", ())),
        min_circuit_length=said.get("min_circuit_length", Level.STANDARD),
        verbose=said.get("verbose", False),
        allow_subprocess=said.get("allow_subprocess", False),
        **wishes_of(wishes, joins_host=joins_host),
    )
    rule = StrangersRule(
        strangers_may_read_everything=said.get("strangers_may_read_everything", False),
        max_unknown=said.get("max_unknown"),
        allow_no_privacy=plan.allow_no_privacy,
    )
    return Prepared(
        plan, None, program, options, joins_host, said.get("allow_difference", False), rule, said.get("trust")
    )


def prepare_next(
    before: Prepared, number: int, program: str | os.PathLike[str] | None, **options: Unpack[ProgramOptions]
) -> Prepared:
    """Check the program and the options of a further computation of a session.

    Args:
        before: what the session's first computation was prepared with.
        number: which computation of the session this is, from 2.
        program: as for `prepare`; None for the program of the first computation.
        **options: those that are left out are as in the first computation, if the program is the same and no host
            chooses them.

    Raises:
        UsageError: see `prepare`.
    """
    check_names(options, ProgramOptions.__annotations__)
    again = program is None and not before.joins_host
    kept = {
        name: value
        for name, value in before.options.items()
        if name not in OF_THE_SESSION and (again or name not in OF_ONE_PROGRAM)
    }
    if program is None:
        program = before.program
        kept |= {name: before.options[name] for name in ("with_files",) if name in before.options}
    if (receipt := before.options.get("receipt")) is not None:
        kept["receipt"] = numbered(Path(receipt), number)
    prepared = prepare(program, joins_host=before.joins_host, **{**kept, **options})
    return replace(prepared, walls=before.walls)


def numbered(file: Path, number: int) -> Path:
    """Return the path of a file for this computation of a session, from 1."""
    return file if number == 1 else file.with_stem(f"{file.stem}-{number}")


def _read_evidence(files: Sequence[Path]) -> tuple[str, ...]:
    if not files:
        return ()
    from onionmpc.names.evidence_files import read_pieces  # not at the top: it loads libraries that few sessions need

    return read_pieces(files)


def _program_name(program: str | os.PathLike[str]) -> str:
    # A path would lose its "./", which tells a script from a program that comes with onionmpc.
    return program if isinstance(program, str) else os.fspath(path("program", program))


def program_names() -> dict[str, str]:
    """Return a one-line summary of each program that comes with onionmpc, by its name."""
    return dict(catalogue())


def options_of(wishes: Wishes) -> dict[str, Any]:
    """Return these wishes as options for `prepare`."""
    return {name: value for name in WISHES if (value := getattr(wishes, name)) is not None}


def _wishes(said: Mapping[str, Any]) -> Wishes:
    wishes = Wishes(**{name: said[name] for name in WISHES if name in said})
    wishes.check()
    return replace(wishes, mpyc_options=check_mpyc_options(wishes.mpyc_options or ()))
