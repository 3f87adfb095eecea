"""`onionmpc demo`: a whole session on this machine, over a private Tor network.

Starts the commands that people type, one process per party. It learns about them only from their events, which
onionmpc.cli.followed reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import click
import cloup
from click.core import ParameterSource

from onionmpc.api.options import WISHES, numbered, prepare, program_names
from onionmpc.api.receipt_file import check_receipt
from onionmpc.api.testnet import Latency, NetworkProgress, latency_of, private_network
from onionmpc.api.tryout import TryOut, try_out
from onionmpc.cli.beforehand import note_program, note_try_out
from onionmpc.cli.followed import LAST_WORDS, EventFields, Followed, follow, start
from onionmpc.cli.further import Agenda, Wanted, blamed, no_taker, parse_then
from onionmpc.cli.inputs import read_inputs
from onionmpc.cli.loop import run_until_interrupted, while_read
from onionmpc.cli.options import (
    HELP_LAYOUT,
    OUTPUT,
    PRIVACY,
    REHEARSED,
    SESSION,
    TOR,
    LatencyType,
    LevelType,
    grouped,
    option,
    shared_options,
    typed_options,
)
from onionmpc.cli.output import StatusLine
from onionmpc.cli.reach import reach_lines
from onionmpc.cli.streams import STDERR
from onionmpc.cli.summary import describe_link
from onionmpc.errors import OnionMPCError, ProgramError, UsageError
from onionmpc.files import check_writable, write_named, write_private
from onionmpc.levels import Level
from onionmpc.text import duration, printable

DEFAULT_PROGRAM = "average-salary"
MAX_STDIN_BYTES = 2**26
# The command that people type. -P keeps the current folder off sys.path: a file there could replace our modules.
COMMAND = (sys.executable, "-P", "-m", "onionmpc.cli")
# How long a party may take to say goodbye before it is killed.
PARTIES_GOODBYE_S = 10.0


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a demonstration runs. All parties get the same options, private arguments and inputs.

    Attributes:
        options: the options of each party.
        private: the private arguments of each party's program.
        receipt: the path of the parties' receipts, to which each adds its party's number; None for no receipts.
        keep: whether to keep the programs' output.
        testnet: the directory of a running network, None to start one.
        inputs: the contents of the program's declared inputs, by name.
        then: the words of each party's --then.
    """

    program: str
    parties: int
    options: Sequence[str]
    private: Sequence[str]
    receipt: Path | None = None
    keep: bool = False
    latency: Latency = "regions"
    testnet: Path | None = None
    inputs: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    then: Sequence[str] = ()

    @property
    def computations(self) -> range:
        """The numbers of the session's computations, from 1."""
        return range(1, 2 + len(self.then))

    def receipt_of(self, number: int, computation: int) -> Path | None:
        """Return the path of a party's receipt of a computation."""
        return self.receipt and numbered(self.receipt.with_stem(f"{self.receipt.stem}-{number}"), computation)


class Demo:
    """The parties of one demonstration.

    Args:
        directory: a private directory for the programs' input, the invites and the receipts.
        status: where to show progress.
        command: the words that start a party, before its options.
    """

    def __init__(self, directory: Path, status: StatusLine, command: Sequence[str] = COMMAND) -> None:
        self._directory = directory
        self._status = status
        self._command = command
        self.parties: list[Followed] = []
        self._is_stuck = False

    async def run(self, rehearsal: Rehearsal, testnet: Path, stdin: bytes = b"") -> None:
        """Run one host and its joiners to their end.

        Args:
            testnet: the directory of the network.
            stdin: what each program reads.

        Raises:
            ProgramError: a party failed.
        """
        write_private(self._directory / "stdin", stdin)
        for name, content in rehearsal.inputs.items():
            write_private(self._directory / f"input-{name}", content)
        async with asyncio.TaskGroup() as tasks, self._ended_with_us():
            invites: asyncio.Queue[str] = asyncio.Queue()

            async def begin(name: str, *words: str) -> asyncio.Task[None]:
                party = await self._start(name, words, rehearsal, testnet)

                def on_event(event: EventFields) -> None:
                    if event["event"] == "invite_ready":
                        invites.put_nowait(event["invite"])
                    self._show(party, event)

                return tasks.create_task(follow(party, self._status, on_event, keep=rehearsal.keep))

            following = {await begin("host", "host", rehearsal.program, "--parties", str(rehearsal.parties))}
            for number in range(1, rehearsal.parties):
                invite = asyncio.ensure_future(invites.get())
                await asyncio.wait({invite, *following}, return_when=asyncio.FIRST_COMPLETED)
                if not invite.done():
                    invite.cancel()
                    break
                path = self._directory / f"invite-{number}.txt"
                write_private(path, invite.result().encode())
                following.add(await begin(f"joiner {number}", "join", f"@{path}", rehearsal.program))
            # A party that fails before all have met keeps the others waiting for long, so the demonstration ends. Later
            # the parties report failures to each other.
            while following and not any(party.failed and party.number is None for party in self.parties):
                _, following = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        failed = [party for party in self.parties if party.failed]
        if failed:
            raise _error(failed)

    async def _start(self, name: str, words: Sequence[str], rehearsal: Rehearsal, testnet: Path) -> Followed:
        receipt = [] if rehearsal.receipt is None else ["--receipt", str(self._receipt(name))]
        inputs = [word for name in rehearsal.inputs for word in ("--input", f"{name}=@{self._directory}/input-{name}")]
        then = [word for text in rehearsal.then for word in ("--then", text)]
        options = [*words, *rehearsal.options, *inputs, *then, *receipt]
        typed = [*options, *(["--", *rehearsal.private] if rehearsal.private else [])]
        shown = " ".join(_quoted(printable(word.replace(f"{self._directory}/", ""))) for word in typed)
        self._status.line(f"$ onionmpc {shown}")
        options += ["--testnet", str(testnet)]
        party = await start(name, self._command, options, rehearsal.private, self._directory / "stdin")
        self.parties.append(party)
        return party

    def _receipt(self, name: str) -> Path:
        """Return the path to which a party writes its first receipt while its number is unknown."""
        return self._directory / f"receipt-{name.replace(' ', '-')}.json"

    def keep_receipts(self, rehearsal: Rehearsal) -> list[Path]:
        """Move the receipts to their final paths; return these."""
        kept = []
        for party, computation in itertools.product(self.parties, rehearsal.computations):
            if party.number is not None and (place := rehearsal.receipt_of(party.number, computation)):
                with contextlib.suppress(FileNotFoundError):
                    write_private(place, numbered(self._receipt(party.started_as), computation).read_bytes())
                    kept.append(place)
        return sorted(kept)

    def _show(self, party: Followed, event: EventFields) -> None:
        match event:
            case {"event": "address_known", "onion": onion}:
                party.address = onion
                self._status.line(f"{party.name} is {onion}")
            case {"event": "tor_progress", "phase": phase, "percent": percent, "detail": detail}:
                self._status.going_on(f"{party.name}: {phase}", f"{percent} %, {printable(detail)}")
            case {"event": "published"}:
                self._status.line(f"{party.name} has published its onion service")
            case {"event": "joiner_arrived", "taken": taken, "parties": parties}:
                self._status.line(f"{taken} of {parties} parties are at the host")
            case {"event": "roster_known", "own_number": number}:
                party.number = number
                self._status.going_on("connecting each party to every other")
            case {"event": "dial_retry", "reason": reason}:
                self._status.going_on(f"{party.name} is dialling", printable(reason))
            case {"event": "link_up", "party": other}:
                self._status.going_on("connecting each party to every other", f"{party.name} and party {other}")
            case {"event": "agreed"}:
                self._status.line(f"{party.name} agreed; its program runs")
                self._status.going_on("computing")
            case {"event": "programs_stuck", "lines": [*lines]} if not self._is_stuck:
                self._is_stuck = True  # every party reports the same: show it once
                for line in lines[:-1]:
                    self._status.line(printable(str(line), 500))
            case {"event": "programs_move"} if self._is_stuck:
                self._is_stuck = False
                self._status.line("the programs continue")
            case {"event": "program_ended"}:
                self._status.going_on("waiting for all programs to end")
            case {"event": "out_of_reach", "at_s": _, **beyond}:
                for line in reach_lines(**beyond):
                    self._status.line(f"{party.name}: {line}")
            case {"event": "ended"}:
                party.results.append(event)
            case {"event": "failed"}:
                party.failure = event

    @contextlib.asynccontextmanager
    async def _ended_with_us(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            running = [party for party in self.parties if party.process.returncode is None]
            if running:
                self._status.line(f"stopping {', '.join(party.name for party in running)}")
            # SIGINT first, so that a party says goodbye to the others, stops its tor and removes its files.
            for party in running:
                party.was_ended = True
                with contextlib.suppress(ProcessLookupError):
                    party.process.send_signal(signal.SIGINT)
            ends = [asyncio.ensure_future(party.process.wait()) for party in running]
            if ends:
                await asyncio.wait(ends, timeout=PARTIES_GOODBYE_S)
            for party in running:
                if party.process.returncode is None:
                    party.process.kill()
                    await party.process.wait()


def _reported(parties: Sequence[Followed]) -> ProgramError:
    """Return the first error that one of these parties reports; without any, how the first one ended."""
    for party in parties:
        if party.failure:
            # "this party" in its message means that party: name it.
            message = party.failure["error"].replace(f"this party ({party.name})", party.name)
            if "party " not in message:
                message = f"{party.name}: {message}"
            return ProgramError(message, hint=party.failure["hint"])
    return ProgramError(f"{parties[0].name} ended with status {parties[0].process.returncode}")


def _error(failed: Sequence[Followed]) -> OnionMPCError:
    """Return the error for failed parties, from the first message of one of them."""
    # A party that we stopped failed only because of that.
    at_fault = [party for party in failed if not party.was_ended] or failed
    error = _reported(at_fault)
    named = [party for party in at_fault if party.name in error.message] or at_fault
    words = [line for party in named for line in party.last_words][-LAST_WORDS:]
    if words:
        error.message += "; its last lines:\n" + "\n".join(printable(line, 500) for line in words)
    if not error.hint and any("EOFError" in line for line in words):
        error.hint = "the program asked for input and got none: use --stdin FILE to give it some"
    return error


@contextlib.asynccontextmanager
async def _network(rehearsal: Rehearsal, directory: Path, status: StatusLine) -> AsyncIterator[Path]:
    """Yield the directory of a network that is ready."""

    def show(progress: NetworkProgress) -> None:
        status.going_on(f"private Tor network: {progress.phase.words}", f"{progress.phase.percent} %")

    if rehearsal.testnet is not None:
        status.line(f"{rehearsal.parties} parties, each with its own tor, in the network in {rehearsal.testnet}")
        yield rehearsal.testnet
        return
    status.line("starting a private Tor network on this machine")
    async with private_network(directory, latency=rehearsal.latency, progress=show):
        status.line(
            f"the network is ready after {duration(status.elapsed_s())}; starting {rehearsal.parties} parties, "
            "each with its own tor"
        )
        yield directory


async def _run(rehearsal: Rehearsal, stdin: bytes, status: StatusLine) -> dict[str, Any]:
    """Run the whole demonstration; return its summary."""
    with tempfile.TemporaryDirectory(prefix="onionmpc-demo-") as name:
        directory = Path(name)
        if about := program_names().get(rehearsal.program.replace("-", "_")):
            status.line(f"to compute: {about[0].lower()}{about[1:].rstrip('.')}; each party's input stays its own")
        async with _network(rehearsal, directory, status) as testnet:
            network_s = status.elapsed_s()
            demonstration = Demo(directory, status)
            try:
                await demonstration.run(rehearsal, testnet, stdin)
            finally:
                receipts = demonstration.keep_receipts(rehearsal)
            total_s = status.elapsed_s()
            status.close()
            _summarise(demonstration.parties, status)
            if receipts:
                status.line(f"receipts: {', '.join(map(str, receipts))} (see: onionmpc verify --help)")
            stopping = "" if rehearsal.testnet else "; stopping the network"
            status.line(f"done after {duration(total_s)}{stopping}")
    return {
        "program": rehearsal.program,
        "parties": [_as_data(party) for party in demonstration.parties],
        "latency": rehearsal.latency if rehearsal.testnet is None else latency_of(rehearsal.testnet),
        "network_s": network_s,
        "total_s": total_s,
    }


def _summarise(parties: list[Followed], status: StatusLine) -> None:
    for party in sorted(parties, key=lambda party: party.number or 0):
        for computation, result in enumerate(party.results, 1):
            name = party.name if len(party.results) == 1 else f"{party.name}, computation {computation}"
            # Links stay from one computation to the next.
            connected = f"connected in {duration(result['connect_s'])}, " if computation == 1 else ""
            status.line(
                f"{name}: {connected}agreed in {duration(result['agree_s'])}, computed in {duration(result['run_s'])}"
            )
        for other, link in party.results[-1]["links"].items():
            words = describe_link(
                other, link["own_relays"], link["claimed_relays"], link["round_trip_s"], link["raced"]
            )
            status.line(f"  link to party {other}: {words}")


def _as_data(party: Followed) -> dict[str, Any]:
    """Return what the report says of a party: the facts of its last computation, and those of each before it."""
    facts = [{key: value for key, value in one.items() if key not in ("event", "at_s")} for one in party.results]
    return {"address": party.address, "output": party.output, "times_s": party.times_s, "earlier": facts[:-1]} | facts[
        -1
    ]


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _tried(choices: Sequence[Wanted], given: Mapping[str, bytes]) -> list[TryOut]:
    """Complete what the user gave for each computation of the session.

    Args:
        given: the contents of the inputs that the user gave, by name.

    Raises:
        UsageError: one is not valid, or no program takes an input.
    """
    tried: list[TryOut] = []
    for place, choice in enumerate(choices):
        program = choice.program or DEFAULT_PROGRAM
        try:
            taken = choice.takes(prepare(program, joins_host=True), given) if len(choices) > 1 else given
            tried.append(try_out(program, choice.public, choice.private, taken))
        except UsageError as error:
            raise (blamed(error, place, choice) if place else error) from error
    for name in given:
        if not any(name in one.inputs for one in tried):
            raise no_taker(name)
    return tried


def _rehearsed(
    program: str,
    parties: int,
    private: tuple[str, ...],
    then: tuple[str, ...],
    receipt: Path | None,
    circuit_length: Level,
    *,
    keep: bool,
    testnet: Path | None,
    latency: Latency,
) -> Rehearsal:
    """Check what can be checked before a network starts; return what to run."""
    given = click.get_current_context()
    options = given.params
    if options["inputs"] and private and not then:
        raise UsageError("--input and arguments after -- exclude each other", hint="leave out one of them")
    choices = [Wanted(program, tuple(options["public"] or ()), private), *parse_then(then, joins_host=False)]
    tried = _tried(choices, read_inputs(options["inputs"]))
    wishes = {name: options[name] for name in WISHES if name in REHEARSED and options[name] is not None}
    prepared = prepare(
        program,
        arguments=private,
        with_files=options["with_files"],
        allow_no_privacy=options["allow_no_privacy"],
        **wishes | {"public": tried[0].public},
    )
    prepared.check_parties(parties)
    further = [
        replace(choice, public=one.public, private=one.private)
        for choice, one in zip(choices[1:], tried[1:], strict=True)
    ]
    for _, one in Agenda(prepared, then=tuple(further)).prepared(parties):
        note_program(one.plan.program, one.plan.attached)
    for completed in tried:
        note_try_out(completed.notes)
    words = typed_options(given, (*REHEARSED, "allow_unusual"))
    words += [f"--public={word}" for word in tried[0].public if not options["public"]]
    if circuit_length is not Level.STANDARD:
        words += ["--circuit-length", circuit_length.value, "--min-circuit-length", circuit_length.value]
    if circuit_length is Level.SHORT:
        words += ["--show-my-ip"]  # harmless in a private network: the address is one of loopback
    if testnet is not None:
        if given.get_parameter_source("latency") is ParameterSource.COMMANDLINE:
            raise UsageError(
                "--latency and --testnet exclude each other", hint="a running network already has its delays"
            )
        latency_of(testnet)
    rehearsal = Rehearsal(
        program,
        parties,
        words,
        tried[0].private,
        receipt,
        keep=keep,
        latency=latency,
        testnet=testnet,
        inputs={name: content for one in tried for name, content in one.inputs.items()},
        then=tuple(choice.text for choice in further),
    )
    if options["json_file"] is not None:
        check_writable(options["json_file"])
    for number, computation in itertools.product(range(parties), rehearsal.computations):
        if (place := rehearsal.receipt_of(number, computation)) is not None:
            check_receipt(place)
    return rehearsal


@cloup.command(formatter_settings=HELP_LAYOUT)
@click.argument("program", default=DEFAULT_PROGRAM)
@grouped(
    option(SESSION, "--parties", "-m", default=3, show_default=True, help="Number of parties."),
    option(
        SESSION,
        "--stdin",
        "stdin_file",
        type=click.File("rb"),
        metavar="FILE",
        help="Standard input for each party's program. - passes on demo's own.",
    ),
    *shared_options(*REHEARSED, "inputs", "allow_unusual"),
    option(
        SESSION,
        "--then",
        multiple=True,
        metavar='"PROGRAM ARGS"',
        help="Then compute this with all parties again (so no --allow-difference is needed). Repeatable.",
        details="Over the same links, as host --then does. Two results on the same parties expose nobody by their "
        "difference.",
    ),
    option(
        PRIVACY,
        "--circuit-length",
        type=LevelType(),
        default=Level.STANDARD.value,
        show_default=True,
        help="Every party's level (see: onionmpc levels).",
    ),
    option(
        PRIVACY,
        "--receipt",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Have all parties sign a receipt: r.json makes r-0.json, r-1.json, ...",
    ),
    option(
        TOR,
        "--testnet",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Use the running private Tor network in DIR. Default: a temporary one.",
    ),
    option(
        TOR,
        "--latency",
        type=LatencyType(),
        default="regions",
        show_default=True,
        help="Delay in the private network; MS is one way.",
    ),
    option(
        OUTPUT,
        "--json",
        "json_file",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write a report to FILE, with each party's output in full.",
    ),
)
@click.pass_obj
def demo(
    private: tuple[str, ...],
    /,
    program: str,
    parties: int,
    then: tuple[str, ...],
    circuit_length: Level,
    receipt: Path | None,
    stdin_file: BinaryIO | None,
    testnet: Path | None,
    latency: Latency,
    json_file: Path | None,
    **_passed_on: Any,  # noqa: ANN401 (click passes options by name)
) -> None:
    """Rehearse PROGRAM on this machine, over a private Tor network.

    Starts a Tor network of real tor processes on loopback, with realistic delays between regions of the world. Then
    starts one host and its joiners, each in its own process with its own tor and onion service. Every party gets the
    options that demo shares with host. Everything stops at the end, on Ctrl-C and on failure.

    Inputs, and arguments after a lone --, go to each party's program. Without any, a program gets the demo values of
    its script (see: onionmpc programs show), and the programs that come with onionmpc make up an input for each party.
    Each line that a program prints appears at once, after its party's number.

    \b
    onionmpc demo
    onionmpc demo auction --parties 5
    onionmpc demo vote --public tea,coffee
    onionmpc demo --then sort --then "vote tea,coffee"
    onionmpc demo --circuit-length long
    onionmpc demo my.py -- --input data.txt
    onionmpc demo my.py --stdin answers.txt      for a program that asks

    A network that keeps running makes each further rehearsal about 15 seconds faster:

    \b
    onionmpc testnet up --detach net
    onionmpc demo my.py --testnet net
    onionmpc testnet down net
    """
    keep = json_file is not None
    rehearsal = _rehearsed(
        program, parties, private, then, receipt, circuit_length, keep=keep, testnet=testnet, latency=latency
    )
    stdin = b"" if stdin_file is None else stdin_file.read(MAX_STDIN_BYTES + 1)
    if len(stdin) > MAX_STDIN_BYTES:
        raise UsageError(f"--stdin FILE has more than {MAX_STDIN_BYTES // 2**20} MiB", hint="is it the right file?")
    status = StatusLine()
    try:
        report = run_until_interrupted(
            _run(rehearsal, stdin, status) if keep else while_read(lambda: _run(rehearsal, stdin, status), STDERR)
        )
    finally:
        status.close()
    if json_file is not None:
        write_named(json_file, json.dumps(report, indent=2).encode() + b"\n")
