"""`onionmpc estimate`: how long a program will take between parties that are far apart, and which lines make it so.

onionmpc.program.rehearsal finds the hops; this module assumes a round trip and prints the times.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import click
import cloup
import msgspec

from onionmpc.api.tryout import TryOut, try_out
from onionmpc.cli.beforehand import note_program, note_try_out
from onionmpc.cli.inputs import read_inputs
from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import ADVANCED, HELP_LAYOUT, OUTPUT, SESSION, TOR, Duration, grouped, option, shared_options
from onionmpc.cli.output import StatusLine
from onionmpc.cli.profile import hint_for_all, rows_of, table
from onionmpc.cli.reach import reach_lines
from onionmpc.errors import UsageError
from onionmpc.levels import Level
from onionmpc.program.code.attached import attach
from onionmpc.program.code.catalogue import code_of, program_files
from onionmpc.program.rehearsal import Hops, Profile, profile
from onionmpc.program.spec import ProgramSpec
from onionmpc.program.walls.asked import OutOfReach
from onionmpc.program.walls.probe import probe_walls
from onionmpc.session.agreed_options import default_mpyc_options, default_threshold
from onionmpc.session.estimates import Case
from onionmpc.session.local import (
    check_allowed_types,
    check_mpyc_options,
    check_parties,
    check_program_arguments,
    check_sendable,
)
from onionmpc.text import duration, printable


@cloup.command(formatter_settings=HELP_LAYOUT)
@click.argument("program")
@grouped(
    option(SESSION, "--parties", "-m", type=int, required=True, help="Number of parties."),
    *shared_options("threshold", "public", "mpyc_options", "allowed_types", "with_files", "inputs", "allow_subprocess"),
    option(
        TOR,
        "--round-trip",
        "round_trips_s",
        type=Duration(),
        multiple=True,
        help="The slowest link's round trip. Repeatable. Default: a guess for each level.",
    ),
    option(
        OUTPUT,
        "--profile",
        "lines_too",
        is_flag=True,
        help="Show which lines of the program the hops come from, and what may help.",
    ),
    option(OUTPUT, "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
    option(
        ADVANCED,
        "--timeout",
        type=Duration(),
        default="2m",
        show_default=True,
        help="Time limit for the dry run.",
    ),
)
@click.pass_obj
def estimate(
    private: tuple[str, ...],
    /,
    program: str,
    parties: int,
    threshold: int | None,
    public: tuple[str, ...],
    mpyc_options: tuple[str, ...],
    with_files: tuple[Path, ...],
    inputs: tuple[str, ...],
    allowed_types: tuple[str, ...],
    round_trips_s: tuple[float, ...],
    timeout: float,
    *,
    allow_subprocess: bool,
    lines_too: bool,
    as_json: bool,
) -> None:
    """Say how long PROGRAM will take.

    Over Tor, the time depends on hops: messages that must travel one after another. onionmpc counts them in a dry run
    of all parties on this machine, without Tor or any network. The program runs twice for each party.

    --profile shows the longest chain of messages line by line: how many of its hops each line of the program asked for.
    To make a program faster, shorten this chain; what happens beside it costs no time.

    Inputs, and arguments after a lone --, go to every party alike, so you need no real ones; a dry run asks no
    questions. Without any, a program gets the demo values of its script (see: onionmpc programs show), and one that
    comes with onionmpc makes up its inputs. The number of hops may depend on the input: use one as large as the real
    one.

    A later session with the same program, parties and public arguments shows the estimate before its users agree.

    \b
    onionmpc estimate sort --parties 5
    onionmpc estimate sort --parties 3 --public=--count --public=24
    onionmpc estimate my.py --parties 3 --round-trip 400ms --input salary=@example.txt
    onionmpc estimate --profile my.py --parties 3 -- --input example.txt
    """
    threshold = default_threshold(parties) if threshold is None else threshold
    check_parties(parties, threshold, allow_no_privacy=True)  # a dry run has no secret inputs
    check_program_arguments([*private, *public])
    check_sendable(public)
    options = check_mpyc_options(mpyc_options) or default_mpyc_options(parties)
    if inputs and private:
        raise UsageError("--input and arguments after -- exclude each other", hint="leave out one of them")
    tried = try_out(program, public, private, read_inputs(inputs))
    found, public = tried.program, tried.public
    attached = attach(with_files)
    files = {file.path: file.sha256.hex() for file in program_files(found, attached)}
    note_program(found, attached)
    note_try_out(tried.notes)
    spec = ProgramSpec(
        script=str(found.path),
        folder=str(found.folder),
        arguments=(*public, *tried.private),
        number=0,
        parties=parties,
        threshold=threshold,
        mpyc_options=options,
        allowed_types=check_allowed_types(allowed_types, found),
        named=(*public, *private),
        code=code_of(found, attached),
        on_disk=attached.on_disk(),
        reads=tuple(map(str, attached.places)),
        allow_subprocess=allow_subprocess,
        walls=probe_walls(),
    )
    profiled = _dry_run(spec, tried, timeout)
    hops = profiled.hops
    Case(files, parties, threshold, public, options).remember(hops)
    rows = rows_of(profiled.chain, spec.folder, spec.code) if lines_too else []
    if as_json:
        data = _as_data(found.name, parties, hops, round_trips_s)
        if lines_too:
            data["lines"] = [row.as_data() for row in rows]
        click.echo(json.dumps(data, indent=2))
        return
    click.echo(
        f"{printable(found.name)}: {hops.count} hops in a dry run with {parties} parties; "
        f"takes {duration(hops.seconds)} without network delays"
    )
    if lines_too:
        click.echo("\n".join(table(rows)))
        if hint := hint_for_all(profiled.chain, rows):
            click.echo(f"hint: {hint}")
    click.echo(_in_words(hops, round_trips_s))


async def _profiled(spec: ProgramSpec, tried: TryOut, timeout_s: float, beyond: list[OutOfReach]) -> Profile:
    async with tried.delivered() as (arguments, stdin):
        everything, named = (*spec.arguments, *arguments), (*spec.named, *arguments)
        spec = msgspec.structs.replace(spec, arguments=everything, named=named)
        return await profile(spec, timeout_s, on_refused=beyond.append, stdin=stdin)


def _dry_run(spec: ProgramSpec, tried: TryOut, timeout_s: float) -> Profile:
    """Find a program's hops, and show what goes on meanwhile."""
    beyond: list[OutOfReach] = []
    status = StatusLine()
    status.line("walls around the program:")
    for line in spec.walls.lines():
        status.line(f"  {line}")
    status.going_on("dry run", f"{spec.parties} parties on this machine, at most {duration(timeout_s)}")
    try:
        return run_until_interrupted(_profiled(spec, tried, timeout_s, beyond))
    finally:
        status.close()
        # Usually all parties' programs ask for the same files: print each line once.
        for line in dict.fromkeys(line for one in beyond for line in reach_lines(**dataclasses.asdict(one))):
            status.line(line)


def _in_words(hops: Hops, round_trips_s: Sequence[float]) -> str:
    if round_trips_s:
        return ", ".join(f"about {_about(hops, s)} with a round trip of {_milliseconds(s)}" for s in round_trips_s)
    times = {level: f"{_about(hops, level.usual_round_trip_s)} at {level.value}" for level in Level}
    round_trips = ", ".join(f"{level.value} {_milliseconds(level.usual_round_trip_s)}" for level in Level)
    return (
        f"about {times[Level.STANDARD]}, {times[Level.LONG]}, {times[Level.SHORT]} "
        f"(assumed round trips: {round_trips}; to change them, use --round-trip)"
    )


def _about(hops: Hops, round_trip_s: float) -> str:
    return duration(hops.estimate_s(round_trip_s))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _as_data(name: str, parties: int, hops: Hops, round_trips_s: Sequence[float]) -> dict[str, object]:
    assumed = {level.value: level.usual_round_trip_s for level in Level}
    given = {_milliseconds(seconds): seconds for seconds in round_trips_s}
    return {
        "program": name,
        "parties": parties,
        "hops": hops.count,
        "without_delay_s": round(hops.seconds, 3),
        "estimates": {
            label: {"round_trip_s": seconds, "seconds": round(hops.estimate_s(seconds), 1)}
            for label, seconds in (given or assumed).items()
        },
    }
