"""The options of commands that run a party, each defined once, in a section of --help.

The options that all parties agree on are declared in onionmpc.session.agreed_options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import cloup
from click.core import ParameterSource

from onionmpc.cli.passphrase import DETAILS as PASSPHRASE_DETAILS
from onionmpc.levels import Level
from onionmpc.session.agreed_options import AGREED_OPTIONS, AgreedOption, Choice, OptionKind, Wishes
from onionmpc.testnet.regions import Latency

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Any], Any]


class Duration(click.ParamType[float]):
    """A duration such as 300ms, 90s, 10m or 2h; in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Read it."""
        if isinstance(value, float):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smh]?)", str(value).strip().lower())
        if match is None or float(match[1]) <= 0:
            self.fail(f"{value!r} is not a duration such as 90s, 10m or 2h", param, ctx)
        return float(match[1]) * UNITS_S[match[2] or "s"]


class LevelType(click.Choice[str]):
    """A level, given by its name."""

    def __init__(self) -> None:
        super().__init__([level.value for level in Level])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Read it."""
        return value if isinstance(value, Level) else Level(super().convert(value, param, ctx))


class LatencyType(click.ParamType[Latency]):
    """regions, none, or milliseconds one way."""

    name = "regions|none|MS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Latency:  # noqa: ANN401
        """Read it."""
        if value in ("regions", "none"):
            return cast(Latency, value)
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither regions, none nor a number of milliseconds", param, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyOptions(Wishes):
    """The options that host and join share. Their help explains them."""

    inputs: tuple[str, ...]
    allow_unusual: bool
    then: tuple[str, ...]
    identity: str | None
    passphrase_file: Path | None
    with_files: tuple[Path, ...]
    evidence: tuple[Path, ...]
    yes: bool
    policy: Path | None
    strangers_may_read_everything: bool
    max_unknown: int | None
    allow_no_privacy: bool
    allow_difference: bool
    allow_subprocess: bool
    wait: float
    patience: float
    circuit_length: Level
    min_circuit_length: Level
    or_standard: bool
    show_my_ip: bool
    change_foreign_tor: bool
    control: str | None
    listen: str | None
    profile: str | None
    bridge: tuple[str, ...] = field(repr=False)
    bootstrap_timeout: float
    publish_timeout: float
    testnet: Path | None
    region: str | None
    log_format: str
    json_file: Path | None
    verbose: bool
    events: int | None


class Section(Enum):
    """The groups of options in --help, in their order."""

    SESSION = "Session"
    PRIVACY = "Privacy"
    TOR = "Tor"
    OUTPUT = "Output"
    ADVANCED = "Advanced"


@dataclass(frozen=True, slots=True)
class GroupedOption:
    """One option of a command, with its section of --help.

    Attributes:
        add: the decorator that adds it to a command.
        details: what the reference adds to its help.
    """

    section: Section
    add: Decorator
    details: str = ""


def option(section: Section, *declarations: str, details: str = "", **settings: Any) -> GroupedOption:  # noqa: ANN401
    """Return an option; see `click.option`."""
    return GroupedOption(section, cloup.option(*declarations, **settings), details)


def grouped(*options: GroupedOption) -> Decorator:
    """Return a decorator that adds options to a command, each in its section of --help."""

    def add(command: Command) -> Command:
        for section in reversed(Section):
            members = [option.add for option in options if option.section is section]
            if members:
                # A new group for each command, since cloup stores the command's options in it.
                command = cloup.option_group(section.value, *members)(command)
        return command

    return add


def agreed_option(agreed: AgreedOption) -> GroupedOption:
    """Return the command-line option for an agreed option."""
    section = Section.PRIVACY if agreed.private else Section.SESSION
    settings: dict[str, Any] = {"metavar": agreed.metavar, "help": agreed.help, "details": agreed.details}
    match agreed.kind:
        case OptionKind.NUMBER:
            settings["type"] = click.INT if agreed.bounds is None else click.IntRange(*agreed.bounds)
        case OptionKind.TEXTS:
            settings["multiple"] = True
        case OptionKind.FILE:
            settings["type"] = click.Path(path_type=Path, dir_okay=False)
    return option(section, *agreed.flags, agreed.wish, **settings)


SESSION, PRIVACY, TOR, OUTPUT, ADVANCED = Section
# A narrow first column, so that half a sentence fits a line of an 80-column terminal.
HELP_LAYOUT = cloup.HelpFormatter.settings(col1_max_width=26)

# Each option by the name of its parameter.
OPTIONS: dict[str, GroupedOption] = {
    **{agreed.wish: agreed_option(agreed) for agreed in AGREED_OPTIONS},
    "with_files": option(
        SESSION,
        "--with",
        "with_files",
        multiple=True,
        type=click.Path(exists=True, path_type=Path),
        metavar="FILE|FOLDER",
        help="A further file or folder that must be the same at all parties. Repeatable.",
        details="A folder means all files below it, except .git and __pycache__. Data is read-only for the "
        "program. Name a module here if the program finds it by other means than an import statement for its own "
        "folder: by importlib, sys.path or a plug-in system, in a zip, or compiled. Python must still "
        "find it where it is.",
    ),
    "inputs": option(
        SESSION,
        "--input",
        "inputs",
        multiple=True,
        metavar="NAME=@FILE|NAME=-",
        help="A private input, from FILE or standard input. Default: you are asked. Repeatable.",
        details="The program declares its inputs in its script (see: onionmpc programs show). After you consent, "
        "onionmpc asks for each one without showing it, checks it, and gives it to the program by a pipe or a private "
        "file. Arguments after a lone -- take the place of all inputs. Without a terminal, or with --yes, nobody is "
        "asked: name every input that the program needs.",
    ),
    "allow_unusual": option(
        SESSION,
        "--allow-unusual",
        is_flag=True,
        help="Use inputs beyond what the program's author calls usual without asking.",
        details="Default: you are asked about each. Without a terminal, or with --yes, it is refused.",
    ),
    "then": option(
        SESSION,
        "--then",
        multiple=True,
        metavar='"PROGRAM ARGS"',
        help="Afterwards, compute this with the same parties, over the same links. Repeatable.",
        details="The words are split as a shell does. ARGS are public, and private arguments follow a lone --, as in "
        '--then "my.py 10 -- --input mine.txt". A joiner names the script and the private arguments of its own for '
        "what its host computes next; it can leave out ARGS, which are then the host's, and PROGRAM, if that is an "
        "included one. Without --then, a host at a terminal asks what comes next, and a joiner waits for its host.",
    ),
    "identity": option(
        SESSION,
        "--identity",
        metavar="NAME",
        help="Take part under a kept identity (see: onionmpc id). Default: a fresh one.",
        details="A fresh identity is never written down.",
    ),
    "passphrase_file": option(
        SESSION,
        "--passphrase-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read the passphrase of a sealed --identity from FILE (chmod 600).",
        details=PASSPHRASE_DETAILS,
    ),
    "evidence": option(
        SESSION,
        "--evidence",
        multiple=True,
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Show the other parties who you are: a certificate or a signed statement. Repeatable.",
        details="FILE has certificates in PEM, yours first, or a statement (see: onionmpc id statement), with its "
        "signature in FILE.sig. All parties of the session see it, before you consent to anything, and nobody else "
        "does. It counts for a party that trusts its issuer, or has your key. At most four.",
    ),
    "yes": option(
        SESSION,
        "--yes",
        "-y",
        is_flag=True,
        help="Ask nothing: admit every joiner, and agree unseen to what is proposed.",
        details="It agrees to any program that you named or that comes with onionmpc, with any public arguments, "
        "threshold and parties. It does not lift --max-unknown, nor the rule that strangers may not be able to read "
        "everything.",
    ),
    "policy": option(
        SESSION,
        "--policy",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Consent by the rules in FILE, and ask nothing (see: onionmpc policy).",
        details="The first rule that allows the agreement decides, and gives the inputs. If none does, this party "
        "refuses. It admits joiners that have an invite or are expected. Excludes --yes, --input and --open.",
    ),
    "wait": option(
        SESSION,
        "--wait",
        type=Duration(),
        default="1h",
        show_default=True,
        help="How long to wait for the others to join, to connect and to agree.",
        details="The limit applies to each of the three steps.",
    ),
    "patience": option(
        SESSION,
        "--patience",
        type=Duration(),
        default="10m",
        show_default=True,
        help="Give up when a party is away, or all programs are stuck, for this long.",
    ),
    "circuit_length": option(
        PRIVACY,
        "--circuit-length",
        type=LevelType(),
        default=Level.STANDARD.value,
        show_default=True,
        help="Length of your side of each circuit (see: onionmpc levels).",
    ),
    "min_circuit_length": option(
        PRIVACY,
        "--min-circuit-length",
        type=LevelType(),
        default=Level.STANDARD.value,
        show_default=True,
        help="Refuse sessions in which another party's level is lower.",
    ),
    "or_standard": option(PRIVACY, "--or-standard", is_flag=True, help="If long is not possible, use standard."),
    "show_my_ip": option(
        PRIVACY,
        "--show-my-ip",
        is_flag=True,
        help="With short: let every other party learn this machine's IP address.",
    ),
    "strangers_may_read_everything": option(
        PRIVACY,
        "--strangers-may-read-everything",
        is_flag=True,
        help="Compute even if one person behind several seats could read every input.",
        details="Otherwise this party refuses a session in which more seats than the threshold are strangers (they "
        "came to an open host, without an invite), or are held under one name. With two parties, --allow-no-privacy is "
        "enough.",
    ),
    "max_unknown": option(
        PRIVACY,
        "--max-unknown",
        type=click.IntRange(min=0),
        metavar="N",
        help="Refuse sessions in which more than N seats are strangers, or known to the host alone.",
        details="A party is known by a contact, by evidence, or because you gave its address. An invite makes nobody "
        "known. No other option lifts this one.",
    ),
    "allow_no_privacy": option(
        PRIVACY,
        "--allow-no-privacy",
        is_flag=True,
        help="Accept a threshold of 0, as with two parties. It hides nothing.",
    ),
    "allow_difference": option(
        PRIVACY,
        "--allow-difference",
        is_flag=True,
        help="With --yes: accept a result that, with an earlier one, may expose an input.",
        details="The average of four parties, and then of three of them, reveals what the fourth gave. Without --yes, "
        "you see which parties two results may expose together, and are asked.",
    ),
    "allow_subprocess": option(
        PRIVACY,
        "--allow-subprocess",
        is_flag=True,
        help="Let this party's program start processes, inside the same walls.",
        details="See: onionmpc doctor.",
    ),
    "control": option(
        TOR,
        "--control",
        metavar="unix:PATH|HOST:PORT",
        help="Use a running tor, by its control port. Default: start one.",
    ),
    "bridge": option(
        TOR,
        "--bridge",
        multiple=True,
        metavar="LINE|@FILE",
        help="Reach Tor only by this bridge. @FILE has one per line. Repeatable.",
        details="A LINE is one argument: [TRANSPORT] IP:PORT [FINGERPRINT] [KEY=VALUE ...]. A TRANSPORT needs its "
        "program (see: onionmpc doctor). Other users of this machine can see a command line, so prefer @FILE.",
    ),
    "testnet": option(
        TOR,
        "--testnet",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Use the private Tor network in DIR (see: onionmpc testnet).",
    ),
    "region": option(
        TOR,
        "--region",
        metavar="NAME",
        help="With --testnet: this party's region. Default: each region in turn.",
    ),
    "log_format": option(
        OUTPUT,
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Format of the messages on stderr. json needs --yes or --policy.",
    ),
    "json_file": option(
        OUTPUT,
        "--json",
        "json_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="After a successful computation, write a summary to FILE, then FILE-2, ...",
        details="The summary has each party's level, and each link's own relays and round trip. That of the second "
        "computation goes to FILE-2: s.json, s-2.json, s-3.json.",
    ),
    "verbose": option(OUTPUT, "--verbose", "-v", is_flag=True, help="Also show MPyC's own log."),
    "events": option(
        OUTPUT,
        "--events",
        type=int,
        hidden=True,
        metavar="DESCRIPTOR",
        # The program shares stderr and could forge events there.
        help="With --log-format json: write events to this descriptor.",
    ),
    "listen": option(
        ADVANCED,
        "--listen",
        metavar="ADDRESS:PORT",
        help="With --control: where that tor delivers this party's streams.",
        details="An address of loopback or of a private network, for a tor behind a filter (Tails) or on another "
        "machine (Whonix): see docs/OTHER_TORS.md. Default: a unix socket, or a free port of 127.0.0.1 if that "
        "tor runs as another user.",
    ),
    "change_foreign_tor": option(
        ADVANCED,
        "--change-foreign-tor",
        is_flag=True,
        help="With --control and long: change that tor's settings for the session.",
        details="Every circuit of that tor is long until this party leaves.",
    ),
    "profile": option(
        ADVANCED,
        "--profile",
        metavar="NAME",
        help="Name of the directory that our tor uses. Default: the first free one.",
        details="Each directory is kept, and has its own guards and consensus.",
    ),
    "bootstrap_timeout": option(
        ADVANCED,
        "--bootstrap-timeout",
        type=Duration(),
        default="5m",
        show_default=True,
        help="Time limit for tor to connect to its network.",
    ),
    "publish_timeout": option(
        ADVANCED,
        "--publish-timeout",
        type=Duration(),
        default="3m",
        show_default=True,
        help="Time limit for publishing the onion service.",
    ),
}
# The options that `onionmpc demo` passes on to each party as typed. Not --receipt: each party has a different file.
REHEARSED = (
    *(agreed.wish for agreed in AGREED_OPTIONS if agreed.choice is Choice.HOST),
    *("with_files", "allow_no_privacy", "allow_subprocess", "wait", "patience", "verbose"),
)


def shared_options(*names: str) -> tuple[GroupedOption, ...]:
    """Return the options of these names, for `grouped`."""
    return tuple(OPTIONS[name] for name in names)


def typed_options(context: click.Context, names: Collection[str]) -> list[str]:
    """Return, as words for another command, those of the named options that the user typed for this one."""
    words: list[str] = []
    for typed in context.command.params:
        given = context.get_parameter_source(typed.name or "") is ParameterSource.COMMANDLINE
        if typed.name in names and given and isinstance(typed, click.Option):
            name, value = typed.opts[0], context.params[typed.name]
            values = value if typed.multiple else [value]
            words += [name] if typed.is_flag else [word for one in values for word in _typed(name, one)]
    return words


def _typed(name: str, value: object) -> list[str]:
    text = f"{value:.3f}".rstrip("0").rstrip(".") + "s" if isinstance(value, float) else str(value)
    return [f"{name}={text}"] if text.startswith("-") else [name, text]
