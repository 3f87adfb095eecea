"""`onionmpc demo`: a whole session on this machine, over a private Tor network.

Starts the very commands that people type, one process per party, and follows what they say. Knows nothing of a session
that their JSON lines do not tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import LatencyType, LevelType
from onionmpc.cli.output import StatusLine
from onionmpc.cli.summary import describe_link
from onionmpc.errors import OnionMPCError, ProgramError
from onionmpc.files import write_private
from onionmpc.levels import Level
from onionmpc.program.catalogue import catalogue, find_program
from onionmpc.session.local import check_parties, check_program_arguments, default_threshold
from onionmpc.testnet.network import PrivateNetwork, Progress
from onionmpc.testnet.regions import Latency
from onionmpc.text import duration, printable

DEFAULT_PROGRAM = "average-salary"
# What a party may take to say goodbye before it is killed.
GOODBYE_S = 10.0
LINE_LIMIT_BYTES = 2**20


@dataclass(slots=True)
class DemoParty:
    """One party's process and what it said.

    Attributes:
        name: "host", or "joiner 1" and so on, until the party has a number.
        summary: the fields of its last event, "ended" or "failed".
    """

    name: str
    process: asyncio.subprocess.Process
    number: int | None = None
    address: str = ""
    output: list[str] = field(default_factory=list)
    times_s: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    last_words: list[str] = field(default_factory=list)


class Demo:
    """The parties of one demonstration.

    Args:
        directory: private, for the network, the invites and what the parties keep.
        status: where to show what goes on.
    """

    def __init__(self, directory: Path, status: StatusLine) -> None:
        self._directory = directory
        self._status = status
        self.parties: list[DemoParty] = []

    async def run(self, program: str, parties: int, options: list[str], private: list[str]) -> None:
        """Run one host and its joiners to their end.

        Raises:
            ProgramError: a party did not end well.
        """
        async with asyncio.TaskGroup() as tasks, self._ended_with_us():
            invites: asyncio.Queue[str] = asyncio.Queue()
            arguments = [*options, "--", *private]
            host = await self._start("host", ["host", program, "--parties", str(parties), *arguments])
            following = [tasks.create_task(self._follow(host, invites))]
            for number in range(1, parties):
                invite = asyncio.ensure_future(invites.get())
                waiting: set[asyncio.Future[Any]] = {invite, following[0]}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if not invite.done():
                    invite.cancel()
                    break
                path = self._directory / f"invite-{number}.txt"
                write_private(path, invite.result().encode())
                joiner = await self._start(f"joiner {number}", ["join", f"@{path}", program, *arguments])
                following.append(tasks.create_task(self._follow(joiner, invites)))
            await asyncio.wait(following)
        failed = [party for party in self.parties if party.process.returncode != 0]
        if failed:
            raise _error(failed)

    async def _start(self, name: str, arguments: list[str]) -> DemoParty:
        cut = arguments.index("--")
        testnet = ["--testnet", str(self._directory), "--yes", "--log-format", "json"]
        typed = [word.replace(f"{self._directory}/", "") for word in arguments[: None if arguments[cut + 1 :] else cut]]
        self._status.line(f"$ onionmpc {' '.join(map(printable, typed))}")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "onionmpc.cli", *arguments[:cut], *testnet, *arguments[cut:]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
        )
        party = DemoParty(name, process)
        self.parties.append(party)
        return party

    async def _follow(self, party: DemoParty, invites: asyncio.Queue[str]) -> None:
        """Show what a party does until it ends."""

        async def outputs() -> None:
            async for line in _lines(party.process.stdout):
                party.output.append(line)
                self._status.line(f"{party.name} | {printable(line, 500)}")

        async def events() -> None:
            async for line in _lines(party.process.stderr):
                try:
                    event = json.loads(line)
                    name = event["event"]
                except (ValueError, KeyError, TypeError):
                    party.last_words.append(line)  # of the program, or a traceback of ours
                    continue
                party.times_s.setdefault(name, event["at_s"])
                if name == "invite_ready":
                    invites.put_nowait(event["invite"])
                self._show(party, event)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(outputs())
            tasks.create_task(events())
            await party.process.wait()

    def _show(self, party: DemoParty, event: dict[str, Any]) -> None:
        match event:
            case {"event": "address_known", "onion": onion}:
                party.address = onion
                self._status.line(f"{party.name} is {onion}")
            case {"event": "tor_progress", "phase": phase, "percent": percent, "detail": detail}:
                self._status.going_on(f"{party.name}: {phase}", f"{percent} %, {printable(detail)}")
            case {"event": "published"}:
                self._status.line(f"{party.name} is published")
            case {"event": "joiner_arrived", "taken": taken, "parties": parties}:
                self._status.line(f"{taken} of {parties} parties are at the host")
            case {"event": "roster_known", "own_number": number}:
                party.number, party.name = number, f"party {number}"
                self._status.going_on("connecting each party to every other")
            case {"event": "dial_retry", "reason": reason}:
                self._status.going_on(f"{party.name} is dialling", printable(reason))
            case {"event": "link_up", "party": other}:
                self._status.going_on("connecting each party to every other", f"{party.name} and party {other}")
            case {"event": "agreed"}:
                self._status.line(f"{party.name} agreed; its program runs")
                self._status.going_on("computing")
            case {"event": "program_ended"}:
                self._status.going_on("waiting for all to end")
            case {"event": "ended" | "failed"}:
                party.summary = event

    @contextlib.asynccontextmanager
    async def _ended_with_us(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            running = [party.process for party in self.parties if party.process.returncode is None]
            for process in running:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGINT)
            ends = [asyncio.ensure_future(process.wait()) for process in running]
            if ends:
                await asyncio.wait(ends, timeout=GOODBYE_S)
            for process in running:
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    while stream is not None and (line := await stream.readline()):
        yield line.decode(errors="replace").rstrip("\n")


def _error(failed: list[DemoParty]) -> OnionMPCError:
    """What to say of parties that did not end well: the first sentence that one of them had."""
    for party in failed:
        if party.summary.get("event") == "failed":
            # "this party" is another one for whoever reads it here.
            told = party.summary["error"].replace(f"this party ({party.name})", party.name)
            error = ProgramError(told if "party " in told else f"{party.name}: {told}", hint=party.summary["hint"])
            break
    else:
        error = ProgramError(f"{failed[0].name} ended with status {failed[0].process.returncode}")
    words = [line for party in failed for line in party.last_words]
    if words:
        error.message += "; it said:\n" + "\n".join(printable(line, 500) for line in words[-20:])
    return error


async def _run(
    program: str, parties: int, latency: Latency, options: list[str], private: list[str], status: StatusLine
) -> dict[str, Any]:
    """Run the whole demonstration; return what happened, as data."""

    def show(progress: Progress) -> None:
        status.going_on(f"private Tor network: {progress.phase.words}", f"{progress.phase.percent} %")

    with tempfile.TemporaryDirectory(prefix="onionmpc-demo-") as name:
        directory = Path(name)
        if about := dict(catalogue()).get(program.replace("-", "_")):
            status.line(f"to compute: {about[0].lower()}{about[1:].rstrip('.')}; each party's input stays its own")
        status.line("starting a private Tor network on this machine")
        async with PrivateNetwork(directory, latency=latency, progress=show):
            network_s = status.elapsed_s()
            status.line(
                f"the network is ready after {duration(network_s)}; now {parties} parties, each with a tor of its own"
            )
            demonstration = Demo(directory, status)
            await demonstration.run(program, parties, options, private)
            total_s = status.elapsed_s()
            status.close()
            _summarise(demonstration.parties, status)
            status.line(f"done after {duration(total_s)}; stopping the network")
    return {
        "program": program,
        "parties": [_as_data(party) for party in demonstration.parties],
        "latency": latency,
        "network_s": network_s,
        "total_s": total_s,
    }


def _summarise(parties: list[DemoParty], status: StatusLine) -> None:
    for party in sorted(parties, key=lambda party: party.number or 0):
        summary = party.summary
        status.line(
            f"{party.name}: connected in {duration(summary['connect_s'])}, agreed in {duration(summary['agree_s'])}, "
            f"computed in {duration(summary['run_s'])}"
        )
        for other, link in summary["links"].items():
            words = describe_link(
                other, link["own_relays"], link["claimed_relays"], link["round_trip_s"], link["raced"]
            )
            status.line(f"  link to party {other}: {words}")


def _as_data(party: DemoParty) -> dict[str, Any]:
    facts = {key: value for key, value in party.summary.items() if key not in ("event", "at_s")}
    return {"address": party.address, "output": party.output, "times_s": party.times_s, **facts}


@click.command()
@click.argument("program", default=DEFAULT_PROGRAM)
@click.option("--parties", "-m", default=3, show_default=True, help="How many take part.")
@click.option(
    "--latency",
    type=LatencyType(),
    default="regions",
    show_default=True,
    help="Delay in the private network, MS being one way.",
)
@click.option(
    "--public",
    multiple=True,
    metavar="ARG",
    help="An argument that is the same at all parties; comes first. Repeatable.",
)
@click.option(
    "--circuit-length",
    type=LevelType(),
    default=Level.STANDARD.value,
    show_default=True,
    help="That of each party; see: onionmpc levels.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write what was shown to a file, as data.",
)
@click.pass_obj
def demo(
    private: tuple[str, ...],
    /,
    program: str,
    parties: int,
    latency: Latency,
    public: tuple[str, ...],
    circuit_length: Level,
    json_file: Path | None,
) -> None:
    """See a whole session on this machine: PROGRAM, over a private Tor network.

    Starts a Tor network of real tor processes on loopback, with the delays of a world of regions, then one host and
    its joiners as processes of their own, each behind its own tor and onion service. Everything is stopped at the end,
    on Ctrl-C and on failure. What follows a lone -- goes to each party's program; without it, the programs that come
    along make up an input for each party.

    \b
    onionmpc demo
    onionmpc demo auction --parties 5
    onionmpc demo vote --public tea,coffee
    onionmpc demo --circuit-length long
    onionmpc demo my.py -- --input data.txt
    """
    check_parties(parties, default_threshold(parties), allow_no_privacy=False)
    check_program_arguments([*private, *public])
    found = find_program(program)
    arguments = list(private) if private or not found.shipped else ["--demo"]
    options = [word for argument in public for word in ("--public", argument)]
    if circuit_length is not Level.STANDARD:
        options += ["--circuit-length", circuit_length.value, "--min-circuit-length", circuit_length.value]
    if circuit_length is Level.SHORT:
        options += ["--show-my-ip"]  # an address of this machine's loopback
    status = StatusLine()
    try:
        report = run_until_interrupted(_run(program, parties, latency, options, arguments, status))
    finally:
        status.close()
    if json_file is not None:
        write_private(json_file, json.dumps(report, indent=2).encode() + b"\n")
