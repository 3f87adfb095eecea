"""`python -m benchmarks.startup`: how long three people wait for a session, on a private Tor network.

Runs the commands that people type, a host and its joiners, and notes when each says what. Beside it, in turns, parties
with full lists, and the least that such a start consists of: the bootstrap of a plain tor, the publication of a service
and one dial to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from benchmarks.benchmark import Aim, Benchmark, Take, Turn, main
from benchmarks.processes import Process, running
from benchmarks.scale import run_session
from benchmarks.sessions import ONIONMPC, scratch
from benchmarks.tors import BOOTSTRAP_TIMEOUT_S, dial_raw, plain_tor, private_network
from onionmpc.files import private_directory, socket_directory, write_private
from onionmpc.identity import SEED_BYTES, Identity
from onionmpc.mesh.listener import listening_unix
from onionmpc.mesh.network import Stream
from onionmpc.testnet.place import profiles_directory
from onionmpc.tor.circuit.status import service_id
from onionmpc.tor.control.connection import Control
from onionmpc.tor.endpoint import UNIX_PREFIX
from onionmpc.tor.service.descriptor import Uploads
from onionmpc.tor.service.service import EphemeralService

PARTIES = 3
PROGRAM = "average-salary"
SESSION_LIMIT_S = 90.0
PLAIN = "plain tors: bootstrap, publication and one dial"
HOSTED = "a host and its joiners"
LISTED = "full lists"

Steps = dict[str, float]


async def run_hosted(directory: Path) -> Steps:
    """Run one session of a host and joiners; return how long its steps took, in seconds.

    Raises:
        Failed: it did not end well within SESSION_LIMIT_S.
    """
    common = ("--yes", "--log-format", "json", "--testnet", directory, "--", "--demo")
    with scratch() as folder:
        async with running(SESSION_LIMIT_S, ONIONMPC_STATE=private_directory(folder / "state")) as processes:
            host = await processes.start(*ONIONMPC, "host", PROGRAM, "--parties", str(PARTIES), *common)
            await processes.hears(lambda: len(host.heard("invite_ready")) == PARTIES - 1)
            for number, ready in enumerate(host.heard("invite_ready")):
                invite = folder / f"invite-{number}.txt"
                write_private(invite, ready["invite"].encode())
                await processes.start(*ONIONMPC, "join", f"@{invite}", PROGRAM, *common)
            await processes.ended(processes.all)
            return steps_of(processes.all)


def steps_of(parties: Sequence[Process]) -> Steps:
    """Return when the last party took each step; the first party is the host."""
    host_s = parties[0].started_s
    return {
        "address_s": max(party.heard_s["address_known"] - party.started_s for party in parties),
        "published_s": max(party.heard_s["published"] - party.started_s for party in parties),
        "connected_s": max(party.connected_s for party in parties) - host_s,
        "result_s": max(party.heard_s["program_ended"] for party in parties) - host_s,
    }


async def run_listed(directory: Path) -> Steps:
    """Run one session of full lists; return how long its steps took, in seconds."""
    took = await run_session(directory, PARTIES, SESSION_LIMIT_S, rounds=1)
    return {step: took[step] for step in ("published_s", "connected_s")}


async def run_plain(directory: Path) -> Steps:
    """Have one plain tor bootstrap and publish, and another dial it; return how long it took, in seconds."""
    async with asyncio.timeout(SESSION_LIMIT_S), contextlib.AsyncExitStack() as stack:
        target = stack.enter_context(socket_directory()) / "service"
        await stack.enter_async_context(listening_unix(target, Stream.close))
        _, socks = await stack.enter_async_context(plain_tor(directory))
        before_s = time.monotonic()
        control, _ = await stack.enter_async_context(plain_tor(directory))
        await control.bootstrap(lambda _percent, _words: None, BOOTSTRAP_TIMEOUT_S)
        service = EphemeralService(control, Identity(secrets.token_bytes(SEED_BYTES)))
        await first_upload(control, service, f"{UNIX_PREFIX}{target}")
        published_s = time.monotonic() - before_s
        await (await dial_raw(socks, service.onion)).close()
        return {"published_s": published_s, "connected_s": time.monotonic() - before_s}


async def first_upload(control: Control, service: EphemeralService, target: str) -> None:
    """Add a service, and wait until one directory has taken its descriptor."""
    uploads = Uploads()
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with control.on_event("HS_DESC", heard.put_nowait):
        await service.add(target)
        while not uploads.taken:
            uploads.hear(service_id(service.onion), await heard.get())


RUNS: dict[str, Callable[[Path], Awaitable[Steps]]] = {PLAIN: run_plain, LISTED: run_listed, HOSTED: run_hosted}


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Take]:
    """Start a network."""
    async with private_network() as directory:

        async def take(turn: Turn) -> None:
            run = RUNS[turn.name]
            shutil.rmtree(profiles_directory(directory), ignore_errors=True)
            if turn.name == PLAIN:
                turn.note(PLAIN, **await run(directory))
                return
            # First without anything kept, then with the consensus and the guards of the first time.
            for start in ("first start", "later start"):
                turn.note(f"{turn.name}, {start}", **await run(directory))

        yield take


BENCHMARK = Benchmark(
    name="startup",
    question="How long do three people wait, from the command to the result?",
    turns=list(RUNS),
    opened=opened,
    # What a person waits for, of the party that is last. The first two count from a party's own command, the others
    # from the host's.
    figures={
        "address_s": ("address shown, s", 1),
        "published_s": ("published, s", 1),
        "connected_s": ("all connected, s", 1),
        "result_s": ("result, s", 1),
    },
    ratios=[(f"{LISTED}, first start", PLAIN)],
    aims=[
        Aim(
            "connected: ours / bootstrap, publication and one dial",
            f"{LISTED}, first start / {PLAIN}",
            "connected_s",
            1.2,
        ),
    ],
    repeats=4,
    networks=1,
)

if __name__ == "__main__":
    main(BENCHMARK)
