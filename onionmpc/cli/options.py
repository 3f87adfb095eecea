"""The options of commands that run a party: each is defined once, and a command takes those that mean something to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from onionmpc.cli.passphrase import HELP as PASSPHRASE_HELP
from onionmpc.levels import Level
from onionmpc.session.agreement import MAX_CIRCUITS, MAX_PADDING_RATE
from onionmpc.testnet.regions import Latency

ALLOW_TYPE_HELP = (
    "Let parties send each other instances of a class that the program's own files define (__main__.Class for the script), "
    "by mpc.transfer. By exact name; repeatable. Whoever is a party can then have one made of whatever arguments and "
    "contents: read the class with that in mind. Numbers, texts, arrays and lists of them need none of this."
)
WITH_HELP = (
    "A further file that must be the same at all parties, or a folder with all files below it (except .git and __pycache__). "
    "Data is read-only for the program. A module needs this if the program finds it by other means than an import statement "
    "for its own folder: by importlib, sys.path or a plug-in system, in a zip, or compiled. It must still be where Python "
    "looks for it. Repeatable."
)
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
    """A level, by its name."""

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


@dataclass(frozen=True, slots=True)
class PartyOptions:
    """The options that host and join share; see their help."""

    identity: str | None
    passphrase_file: Path | None
    threshold: int | None
    public: tuple[str, ...]
    with_files: tuple[Path, ...]
    mpyc: tuple[str, ...]
    allow_type: tuple[str, ...]
    padding: int | None
    circuits: int | None
    receipt: Path | None
    yes: bool
    allow_no_privacy: bool
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


# fmt: off
OPTIONS: dict[str, Decorator] = {
    "identity": click.option("--identity", metavar="NAME", help="Take part under a kept identity (see: onionmpc id). Default: a fresh one, never written down."),
    "passphrase_file": click.option("--passphrase-file", type=click.Path(path_type=Path), metavar="FILE", help=f"With an --identity that is sealed. {PASSPHRASE_HELP}"),
    "threshold": click.option("--threshold", "-t", type=int, metavar="T", help="Any T+1 parties together can read every input. Default: the largest T below M/2."),
    "public": click.option("--public", multiple=True, metavar="ARG", help="An argument of the program that is the same at all parties; comes first. Repeatable."),
    "with_files": click.option("--with", "with_files", multiple=True, type=click.Path(exists=True, path_type=Path), metavar="FILE|FOLDER", help=WITH_HELP),
    "mpyc": click.option("--mpyc", multiple=True, metavar="OPTION", help="An option of MPyC that all must agree on: -L64, -K40, --no-prss, --mix32-64bit. Repeatable, as --mpyc=-L64. Default: as the host says, else --no-prss from 15 parties on (the keys of MPyC's pseudorandom secret sharing have 27 kB per peer there and 22 MB at 25; -L32, which is MPyC's own default, keeps them)."),
    "allow_type": click.option("--allow-type", multiple=True, metavar="MODULE.CLASS", help=f"{ALLOW_TYPE_HELP} All must agree. Default: none, or as the host says."),
    "padding": click.option("--padding", type=click.IntRange(0, MAX_PADDING_RATE), metavar="RATE", help="Send RATE records a second (1 to 200) on each link, both ways, whatever there is to say, so that when and how much the program says does not show to whoever watches the line. All must agree. A record has 498 bytes and room for 449 to 468 of the program's; what it says waits for the next one. Default: 0, none, or as the host says."),
    "circuits": click.option("--circuits", type=click.IntRange(1, MAX_CIRCUITS), metavar="K", help="Race each link over K circuits (1 to 8): what is urgent goes over the fastest, and up to 4 carry what is large. Each of them is one more draw of relays at both ends. All must agree; a link has no more than both its parties allow, which is what they said here, or else 3, and 1 at long. Default: 3, 1 with --padding, or as the host says."),
    "receipt": click.option("--receipt", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Have all parties sign, when all are done, what was agreed and a salted digest of what each one's program put out, and keep the signatures in FILE (see: onionmpc verify). Whoever is shown it can check that your onion took part, for ever; without it nothing is signed, and you can deny that. The program's standard output is a pipe then. All must say it, each for itself. Default: none."),
    "yes": click.option("--yes", "-y", is_flag=True, help="Say yes to every joiner and to the agreement, unseen."),
    "allow_no_privacy": click.option("--allow-no-privacy", is_flag=True, help="Accept a threshold of 0, as with two parties: it hides nothing."),
    "allow_subprocess": click.option("--allow-subprocess", is_flag=True, help="Let this party's program start processes; they are walled in as it is (see: onionmpc doctor)."),
    "wait": click.option("--wait", type=Duration(), default="1h", show_default=True, help="How long to wait for the others, at each step: to come, to connect, to agree."),
    "patience": click.option("--patience", type=Duration(), default="10m", show_default=True, help="How long a party may be away, once it was there, or all programs wait for each other, before the session is given up."),
    "circuit_length": click.option("--circuit-length", type=LevelType(), default=Level.STANDARD.value, show_default=True, help="How long this party's own side of every circuit is; see: onionmpc levels."),
    "min_circuit_length": click.option("--min-circuit-length", type=LevelType(), default=Level.STANDARD.value, show_default=True, help="The least that is accepted of the others: with less at any of them, the session does not start."),
    "or_standard": click.option("--or-standard", is_flag=True, help="Where long cannot be had, go on at standard. Default: stop."),
    "show_my_ip": click.option("--show-my-ip", is_flag=True, help="Consent to what short means: every other party learns this machine's IP address."),
    "change_foreign_tor": click.option("--change-foreign-tor", is_flag=True, help="With --control and long: change that tor's settings until this party leaves; all its users get such circuits meanwhile."),
    "control": click.option("--control", metavar="unix:PATH|HOST:PORT", help="Use the tor that runs there, by its control port. Default: a tor of our own."),
    "listen": click.option("--listen", metavar="ADDRESS:PORT", help="With --control: where that tor is to bring this party its streams, at an address of loopback or of a private network; for a tor behind a filter (Tails) or on another machine (Whonix), see docs/OTHER_TORS.md. Default: a unix socket, or a free port of 127.0.0.1 if that tor runs as another user."),
    "profile": click.option("--profile", metavar="NAME", help="Which of our tor's kept directories to use (guards, consensus). Default: the first free one."),
    "bridge": click.option("--bridge", multiple=True, metavar="LINE|@FILE", help="Have our tor enter its network by this bridge alone: [TRANSPORT] IP:PORT [FINGERPRINT] [KEY=VALUE ...], one argument. A TRANSPORT needs its program (see: onionmpc doctor). Other users of this machine can see what stands on a command line, so @FILE is better: a bridge in each line. Repeatable."),
    "bootstrap_timeout": click.option("--bootstrap-timeout", type=Duration(), default="5m", show_default=True, help="How long tor may take to reach its network."),
    "publish_timeout": click.option("--publish-timeout", type=Duration(), default="3m", show_default=True, help="How long the onion service may take to be published."),
    "testnet": click.option("--testnet", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Use the private Tor network in DIR (see: onionmpc testnet) instead of the public one."),
    "region": click.option("--region", metavar="NAME", help="Where in the private network to stand. Default: the regions in turn."),
    "log_format": click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How to write to stderr. JSON needs --yes."),
    "json_file": click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the session's summary to FILE when all went well: levels, and each link's own relays and round trip."),
    "verbose": click.option("--verbose", "-v", is_flag=True, help="Show MPyC's own log too."),
    "events": click.option("--events", type=int, hidden=True, metavar="DESCRIPTOR", help="With --log-format json: where events go, for whoever started this party, so that none of its program's words on stderr passes for one."),
}
# fmt: on
# What `onionmpc demo` passes on to each of its parties as it was typed.
REHEARSED = (
    *("threshold", "public", "with_files", "mpyc", "allow_type", "padding", "circuits"),
    *("allow_no_privacy", "allow_subprocess", "wait", "patience", "verbose"),
)


def shared_options(*names: str) -> Decorator:
    """Return what adds these of the options to a command, in this order."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            command = OPTIONS[name](command)
        return command

    return add


party_options = shared_options(*OPTIONS)


def typed_options(context: click.Context, names: Collection[str]) -> list[str]:
    """Return the words that give another command these options, where they were given to this one."""
    words: list[str] = []
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if option.name in names and given and isinstance(option, click.Option):
            name, value = option.opts[0], context.params[option.name]
            values = value if option.multiple else [value]
            words += [name] if option.is_flag else [word for one in values for word in _typed(name, one)]
    return words


def _typed(name: str, value: object) -> list[str]:
    text = f"{value:.3f}".rstrip("0").rstrip(".") + "s" if isinstance(value, float) else str(value)
    return [f"{name}={text}"] if text.startswith("-") else [name, text]
