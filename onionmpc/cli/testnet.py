"""`onionmpc testnet`: starts, stops and shows a private Tor network on this machine.

onionmpc.testnet.network runs the network; here are the commands and what they print.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from onionmpc.cli.loop import run_until_interrupted
from onionmpc.cli.options import LatencyType
from onionmpc.cli.output import StatusLine
from onionmpc.errors import TorFailed, UsageError
from onionmpc.files import open_private, private_directory
from onionmpc.testnet.network import MAX_RELAYS, MIN_RELAYS, PrivateNetwork
from onionmpc.testnet.progress import NetworkPhase, NetworkProgress
from onionmpc.testnet.regions import Latency
from onionmpc.testnet.state import STATE_NAME, default_directory, owner_of, remove_state
from onionmpc.testnet.status import NetworkStatus, network_status

OWNER_LOG = "owner.log"
# The process that owns the network gives its tors 10 s to end. After twice that, it is stuck itself.
DOWN_TIMEOUT_S = 20.0
OWNER_POLL_S = 0.1

directory_argument = click.argument(
    "directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path, file_okay=False)
)


@click.group()
def testnet() -> None:
    """Run a private Tor network on this machine, to test with.

    Runs real tor processes (3 directory authorities, 12 relays or more) on loopback addresses. It does not need root,
    and no byte leaves this machine. Each relay is in a region of the world. Data between two relays is delayed by the
    time that the distance would take, so that a session takes about as long as over the public network.

    \b
    onionmpc testnet up --detach net       start it in the directory net; takes about 15 seconds
    onionmpc host average-salary --parties 3 --testnet net
    onionmpc testnet down net              stop it

    DIR holds keys, logs and the table of regions. Default: a directory among onionmpc's files.
    """


@testnet.command()
@directory_argument
@click.option("--relays", type=click.IntRange(MIN_RELAYS, MAX_RELAYS), default=MIN_RELAYS, show_default=True, help="Relays besides the 3 authorities. Each takes about 40 MB.")  # fmt: skip  # noqa: E501
@click.option("--latency", type=LatencyType(), default="regions", show_default=True, help="One-way delay: by DIR/regions.toml, which you may edit; none; or MS everywhere.")  # fmt: skip  # noqa: E501
@click.option("--detach", "-d", is_flag=True, help="Return when the network is ready, and leave it running.")
def up(directory: Path | None, relays: int, latency: Latency, detach: bool) -> None:
    """Start a network, and print its directory when it is ready.

    The network runs until Ctrl-C, or with --detach until `onionmpc testnet down`. Several networks can run side by
    side, each in its own DIR.
    """
    directory = (directory or default_directory()).absolute()
    if detach:
        _start_detached(directory, ["--relays", str(relays), "--latency", str(latency)])
        click.echo(bytes(directory))
        return
    run_until_interrupted(_hold(directory, relays, latency))


@testnet.command()
@directory_argument
def down(directory: Path | None) -> None:
    """Stop a network, from any terminal."""
    directory = (directory or default_directory()).absolute()
    owner = owner_of(directory)
    if owner is None:
        click.echo(f"no test network runs in {directory}", err=True)
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(owner, signal.SIGTERM)
    deadline_s = time.monotonic() + DOWN_TIMEOUT_S
    while owner_of(directory) is not None:
        if time.monotonic() > deadline_s:
            raise TorFailed(f"the network's owner (process {owner}) does not stop", hint=f"kill -9 {owner}")
        time.sleep(OWNER_POLL_S)
    click.echo(f"stopped the test network in {directory}", err=True)


@testnet.command()
@directory_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def status(directory: Path | None, as_json: bool) -> None:
    """Show what runs: each tor, its region, address and flags, and the latencies in force."""
    found = network_status((directory or default_directory()).absolute())
    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(found), indent=2))
    else:
        _print_status(found)


async def _hold(directory: Path, relays: int, latency: Latency) -> None:
    """Run a network until this task is cancelled."""
    status = StatusLine()

    def show(progress: NetworkProgress) -> None:
        if progress.phase is NetworkPhase.READY:
            return
        count = f" ({progress.done} of {progress.total})" if progress.total else ""
        status.going_on(progress.phase.words, f"{progress.phase.percent} %{count}")

    with contextlib.closing(status):
        network = PrivateNetwork(directory, relays=relays, latency=latency, progress=show)
        try:
            async with network:
                status.close()
                status.line(f"ready: {relays} relays, 3 authorities, latency {latency}")
                status.line("leave this running; Ctrl-C stops it")
                click.echo(bytes(directory))
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            # Once the network is ready, Ctrl-C is the normal way to end it.
            if network.state is None:
                raise
            status.line("the network has stopped")


def _start_detached(directory: Path, options: list[str]) -> None:
    """Start the owner in a process session of its own, and show its output until the network is ready.

    Raises:
        TorFailed: the owner ended before that.
    """
    private_directory(directory)
    if owner_of(directory) is not None:
        raise UsageError(f"a test network already runs in {directory}", hint=f"onionmpc testnet down {directory}")
    # Otherwise the state file of an owner that was killed would look like the new owner's.
    remove_state(directory)
    log = directory / OWNER_LOG
    with open_private(log) as output:
        owner = subprocess.Popen(
            [sys.executable, "-P", "-m", "onionmpc.cli", "testnet", "up", directory, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    try:
        with log.open("r", encoding="utf-8", errors="replace") as lines:
            while not (directory / STATE_NAME).exists():
                ended = owner.poll() is not None
                click.echo(lines.read(), nl=False, err=True)
                if ended:
                    _tell_end(owner.returncode, spoke=lines.tell() > 0)
                time.sleep(OWNER_POLL_S)
    except KeyboardInterrupt:
        owner.terminate()
        owner.wait()
        raise
    click.echo(f"ready; `onionmpc testnet down {directory}` stops it", err=True)


def _tell_end(status: int, *, spoke: bool) -> NoReturn:
    """Exit as the owner of a network has exited."""
    if status > 0 and spoke:
        sys.exit(status)  # its error and hint have just been shown
    how = f"ended with exit code {status}" if status >= 0 else f"was killed by signal {-status}"
    raise TorFailed(f"the network's owner {how}", hint="check whether the disk is full or memory is low")


def _print_status(found: NetworkStatus) -> None:
    minutes, seconds = divmod(int(time.time() - found.started_at), 60)
    click.echo(f"up for {minutes} min {seconds} s, owner {found.owner}, latency {found.latency}\n")
    _print_columns(
        [("tor", "region", "address", "is", "flags")]
        + [
            (tor.nickname, tor.region, f"{tor.address}:{tor.or_port}", "up" if tor.up else "DOWN", tor.flags)
            for tor in found.tors
        ]
    )
    for party in found.parties:
        click.echo(f"a party is in {party.region}, {party.address}")
    if found.one_way_ms:
        click.echo("\none way, in milliseconds")
        rows = [(one, *(f"{latency_ms:g}" for latency_ms in row.values())) for one, row in found.one_way_ms.items()]
        _print_columns([("", *found.one_way_ms), *rows])


def _print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    """Print aligned columns that never wrap, since the output may go to a pipe."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
