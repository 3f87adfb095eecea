"""`python -m benchmarks.attack`: what strangers at the door cost a session. No tor.

The same session runs quiet and attacked, in turns: three `onionmpc join` commands over local sockets, of which one is
visited by strangers of every kind while the programs run. The strangers are the least urgent process of this machine:
what is measured is what the party does about them, not what they do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Failed, Spread, in_turns, options_of, ratio_of, report, run, say, show_ratio, table
from benchmarks.overhead import Case, Run, check_same_work, run_onionmpc
from benchmarks.sessions import WORKLOAD, Process, running, scratch
from onionmpc.identity import Identity
from onionmpc.identity.key_file import decode_key_file
from onionmpc.mesh.secure import EPHEMERAL_BYTES
from onionmpc.wire.handshake import NO_PSK, DiallerHandshake, Hello, Purpose
from tests.support.direct import NAME_CHARACTERS
from tests.support.strangers import at, visit

PARTIES = 3
VISITED = 1
STREAMS = 1000
EVERY_S = 0.005
# Together a little more than the strangers need.
ROUNDS = 250
DELAY_MS = 25
VISIT_LIMIT_S = 60.0
NICE = 19
SIDES = ("quiet", "attacked")
ALL_CAME = "all"


def identity_of(number: int, state: Path) -> Identity:
    """Return what `keep_identities` kept."""
    return decode_key_file((state / "identities" / f"party-{number}.key").read_bytes(), None)


def messages_to(number: int, state: Path) -> list[bytes]:
    """Return first messages to a party of a closed list, as the others would say them."""
    identities = [identity_of(each, state) for each in range(PARTIES)]
    listener = identities.pop(number)
    hellos = [Hello(identity.public_key, Purpose.MESH, bytes(16)) for identity in identities]
    return [
        DiallerHandshake(identity, listener.public_key, NO_PSK, hello, secrets.token_bytes(EPHEMERAL_BYTES)).message()
        for identity, hello in zip(identities, hellos, strict=True)
    ]


@contextlib.asynccontextmanager
async def visited(streams: int, parties: Sequence[Process], state: Path, sockets: Path) -> AsyncIterator[None]:
    """Let strangers come to one of the parties as soon as its program runs.

    Raises:
        Failed: not all came before the parties had ended.
    """
    async with running(VISIT_LIMIT_S) as processes:
        await agreed(parties[VISITED])
        command = ["-m", "benchmarks.attack", "--streams", str(streams), "--visit", str(state), str(sockets)]
        strangers = await processes.start(sys.executable, *command)
        yield
        if ALL_CAME not in strangers.printed:
            raise Failed(f"the session ended before {streams} strangers had come: {strangers.last_words}")


async def agreed(party: Process) -> None:
    """Wait until a party's program runs."""
    while not party.heard("agreed"):  # noqa: ASYNC110 (its supervisor may end without a word)
        await asyncio.sleep(0.02)


def come(streams: int, state: Path, sockets: Path) -> None:
    """Come to the door of a party; say so when all have come, and stay."""
    os.nice(NICE)
    door = sockets / f"{identity_of(VISITED, state).onion[:NAME_CHARACTERS]}.sock"
    firsts = messages_to(VISITED, state)
    asyncio.run(visit(at(door), streams, firsts, every_s=EVERY_S, on_all=lambda: print(ALL_CAME, flush=True)))


async def compare(rounds: int, streams: int, repeats: int, budget_s: float) -> dict[str, list[Run]]:
    """Run the session quiet and attacked in turns; return what each run took."""
    case = Case("rounds", WORKLOAD, (f"rounds={rounds}",), delay_ms=DELAY_MS)
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for repeat, side in in_turns(SIDES, repeats, budget_s):
        beside = None if side == "quiet" else lambda *found: visited(streams, *found)
        with scratch() as folder:
            took = await run_onionmpc(case, PARTIES, folder, beside)
        say(f"{repeat + 1}/{repeats} {side}: {took['compute_s'] * 1000:.0f} ms")
        runs[side].append(took)
    check_same_work(case.name, runs.values())
    return runs


def summarise(runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    """Return what the runs say: time, processor time of all parties, and the highest memory of a supervisor."""
    keys = {"compute_s": "compute_s", "cpu_s": "cpu_s", "supervisor_peak_mib": "peak_mib"}
    found: dict[str, Any] = {
        name: {side: Spread.of(took[key] for took in runs[side]) for side in SIDES} for name, key in keys.items()
    }
    quiet, attacked = ([took["compute_s"] for took in runs[side]] for side in SIDES)
    memory = found["supervisor_peak_mib"]
    return {
        **found,
        "compute_ratio": ratio_of(attacked, quiet),
        "added_mib": memory["attacked"].median - memory["quiet"].median,
    }


def main() -> None:
    """Measure, print and write."""
    parser = options_of("attack", __doc__, repeats=7, budget_s=300)
    parser.add_argument("--streams", type=int, default=STREAMS, help=f"how many strangers come ({STREAMS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of the program ({ROUNDS})")
    parser.add_argument("--visit", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.visit:
        come(options.streams, *options.visit)
        return
    found = summarise(run(compare(options.rounds, options.streams, options.repeats, options.budget)))
    shown = {"compute_s": 2, "cpu_s": 2, "supervisor_peak_mib": 0}
    rows = [[side, *(found[key][side].show(decimals) for key, decimals in shown.items())] for side in SIDES]
    header = ["", "program, s", "processor time of all parties, s", "highest memory of a supervisor, MiB"]
    report(
        "attack",
        f"{options.streams} strangers at one of {PARTIES} parties",
        [table(header, rows), f"attacked / quiet: {show_ratio(found['compute_ratio'])}"],
        {"parties": PARTIES, "streams": options.streams, "rounds": options.rounds, **found},
        options.output,
    )


if __name__ == "__main__":
    main()
