"""`onionmpc doctor`: checks this machine, and says what would stop a party here and how to fix it.

Changes nothing, and sends nothing beyond this machine. It asks the ports of other programs only what kind they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import importlib.metadata
import json
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from onionmpc.cli.loop import run_to_end
from onionmpc.cli.neighbours import neighbours
from onionmpc.errors import OnionMPCError, TorError
from onionmpc.files import private_directory, socket_directory, state_directory
from onionmpc.machine import explained, refusing
from onionmpc.program.walls.probe import probe_walls
from onionmpc.resources import shipped
from onionmpc.tor.control.probe import ListenerKind, Probe, probe
from onionmpc.tor.endpoint import Endpoint
from onionmpc.tor.process.binary import find_tor, has_pow, version_warning
from onionmpc.tor.process.own_tor import verify_config
from onionmpc.tor.process.transports import TRANSPORT_PROGRAMS, find_transport, transport_hint

# Usual ports of other tors. onionmpc never uses Tor Browser's two ports; doctor lists them so that nobody wonders.
SYSTEM_TOR, TOR_BROWSER, TAILS = "a system tor", "Tor Browser", "the filter of Tails"
KNOWN_PLACES = {
    Endpoint(path="/run/tor/control"): SYSTEM_TOR,
    Endpoint(port=951): TAILS,
    Endpoint(port=9050): SYSTEM_TOR,
    Endpoint(port=9051): SYSTEM_TOR,
    Endpoint(port=9150): TOR_BROWSER,
    Endpoint(port=9151): TOR_BROWSER,
}
LOCAL_PROBE_TIMEOUT_S = 1.0
# A rough estimate: a profile holds the consensus and all relays' descriptors, tens of MB on the public network.
NEEDED_BYTES, COMFORTABLE_BYTES = 40 * 10**6, 200 * 10**6
OLDEST_PYTHON = (3, 11)
MPYC_SERIES = "0.11"
# Generous: the clock is only compared with times that have certainly passed.
CLOCK_TOLERANCE = timedelta(hours=1)


class Severity(enum.StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check: what was seen, in one or more lines, and how to fix it."""

    check: str
    severity: Severity
    seen: str
    fix: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check whether a party can run on this machine.

    Each line says ok, warn or fail, and how to fix a problem. The check changes nothing, and nothing leaves this
    machine. Exit code 0 means that a party can run here, 3 that it cannot.
    """
    findings = run_checks()
    usable = all(finding.severity is not Severity.FAIL for finding in findings)
    if as_json:
        shown = [
            {"check": finding.check, "level": finding.severity, "seen": finding.seen, "fix": finding.fix}
            for finding in findings
        ]
        click.echo(json.dumps({"usable": usable, "findings": shown}, indent=2))
    else:
        for finding in findings:
            first, *others = finding.seen.splitlines()
            click.echo(f"{finding.severity:<5} {finding.check + ':':<17} {first}")
            for line in others:
                click.echo(f"{'':<24}{line}")
            if finding.fix:
                click.echo(f"{'':<24}fix: {finding.fix}")
    context.exit(0 if usable else TorError.exit_code)


def run_checks() -> list[CheckResult]:
    """Return all findings, in the order in which to fix them."""
    checks: dict[str, Callable[[], Iterator[CheckResult]]] = {
        "python": _python,
        "tor": _tor,
        "bridges": _transports,
        "state directory": _state,
        "sockets": _sockets,
        "walls": _walls,
        "clock": _clock,
        "also here": _other_tors,
    }
    return [finding for name, check in checks.items() for finding in _withstood(name, check())]


def _withstood(name: str, findings: Iterator[CheckResult]) -> Iterator[CheckResult]:
    """Yield what a check finds. An error in the check itself becomes a finding too."""
    try:
        yield from findings
    except (OSError, MemoryError, RuntimeError, OnionMPCError) as error:
        known = explained(error)
        if known is None:
            raise
        yield CheckResult(name, Severity.FAIL, known.message, known.hint)


def _python() -> Iterator[CheckResult]:
    version = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        yield CheckResult(
            "python", Severity.FAIL, f"Python {version}, expected {oldest} or newer", "install a newer Python"
        )
    else:
        yield CheckResult("python", Severity.OK, f"Python {version}")
    # Never imported here: importing mpyc starts a runtime.
    for package in ("mpyc", "numpy"):
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield CheckResult(package, Severity.FAIL, "not installed", "pip install --upgrade onionmpc")
            continue
        if package == "mpyc" and not f"{found}.".startswith(f"{MPYC_SERIES}."):
            yield CheckResult(
                package, Severity.FAIL, f"mpyc {found}, expected {MPYC_SERIES}", f'pip install "mpyc=={MPYC_SERIES}.*"'
            )
        else:
            yield CheckResult(package, Severity.OK, f"{package} {found}")


def _tor() -> Iterator[CheckResult]:
    try:
        binary = find_tor()
    except TorError as error:
        yield CheckResult("tor", Severity.FAIL, error.message, error.hint)
        return
    without = "" if has_pow(binary) else "out"
    seen = f"tor {binary.version} at {binary.path}, with{without} proof of work against floods"
    if warning := version_warning(binary.version):
        yield CheckResult("tor", Severity.WARN, f"{seen}: {warning}", "update tor")
    else:
        yield CheckResult("tor", Severity.OK, seen)
    try:
        verify_config(binary)
    except OnionMPCError as error:
        yield CheckResult("torrc", Severity.FAIL, error.message, error.hint)
    else:
        yield CheckResult("torrc", Severity.OK, f"tor accepts {shipped('torrc.d') / 'party.torrc'}")


def _transports() -> Iterator[CheckResult]:
    """Report which bridges could be used. Most parties need none, so this never fails."""
    found: dict[str, list[str]] = {}
    for transport in TRANSPORT_PROGRAMS:
        with contextlib.suppress(OnionMPCError):
            found.setdefault(str(find_transport(transport)), []).append(transport)
    carried = "; ".join(f"{', '.join(transports)} ({path})" for path, transports in found.items())
    none = f"only plain bridges (for obfs4: {transport_hint('obfs4')})"
    yield CheckResult("bridges", Severity.OK, f"--bridge works with {carried or none}")


def _state() -> Iterator[CheckResult]:
    directory = private_directory(state_directory())
    with refusing(f"cannot write below {directory}"), tempfile.TemporaryFile(dir=directory):
        free = shutil.disk_usage(directory).free
    severity = Severity.OK if free >= COMFORTABLE_BYTES else Severity.WARN if free >= NEEDED_BYTES else Severity.FAIL
    fix = (
        "" if severity is Severity.OK else "free some space there, or set ONIONMPC_STATE to a directory on another disk"
    )
    yield CheckResult("state directory", severity, f"{directory}, {free // 10**6} MB free", fix)


def _sockets() -> Iterator[CheckResult]:
    with (
        socket_directory() as directory,
        refusing("cannot make a unix socket"),
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(str(directory / "control"))
    yield CheckResult("sockets", Severity.OK, f"unix sockets work in {directory.parent}")


def _walls() -> Iterator[CheckResult]:
    """Report which protections a program process gets here. A party runs with fewer, and shows that to its user."""
    walls = probe_walls()
    seen = "\n".join(walls.lines())
    if walls.sockets and walls.files:
        yield CheckResult("walls", Severity.OK, seen)
    else:
        fix = "read programs before you run them; a newer Linux (x86-64, ARM64) with Landlock and seccomp confines them"
        yield CheckResult("walls", Severity.WARN, seen, fix)


def _clock() -> Iterator[CheckResult]:
    now = datetime.now(UTC)
    latest = max(_known_past(), default=now)
    if now + CLOCK_TOLERANCE < latest:
        yield CheckResult(
            "clock",
            Severity.FAIL,
            f"it shows {now:%Y-%m-%d %H:%M} UTC, but files here are from {latest:%Y-%m-%d %H:%M} UTC",
            "set the clock, preferably by network time; tor cannot connect if it is wrong",
        )
    else:
        yield CheckResult(
            "clock", Severity.OK, f"{now:%Y-%m-%d %H:%M} UTC (checked offline, which cannot notice a fast clock)"
        )


def _known_past() -> Iterator[datetime]:
    """Yield times that have certainly passed: when onionmpc was installed, and when tor's last consensus was made."""
    yield datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    known: list[Path] = []
    with contextlib.suppress(OSError, OnionMPCError):  # the check of the state directory reports it
        known = list(state_directory().glob("tor/*/data/cached-microdesc-consensus"))
    for consensus in known:
        with contextlib.suppress(OSError, ValueError), consensus.open(encoding="ascii", errors="replace") as file:
            for _, line in zip(range(20), file, strict=False):
                if line.startswith("valid-after "):
                    yield datetime.fromisoformat(line.removeprefix("valid-after ").strip()).replace(tzinfo=UTC)


def _other_tors() -> Iterator[CheckResult]:
    """Report which other tors run here. A party needs none of them, so this never fails."""

    async def ask() -> list[Probe]:
        return await asyncio.gather(*(probe(endpoint, LOCAL_PROBE_TIMEOUT_S) for endpoint in KNOWN_PLACES))

    for (endpoint, usual), found in zip(KNOWN_PLACES.items(), run_to_end(ask()), strict=True):
        if found.kind is not ListenerKind.NOTHING:
            yield CheckResult(
                "also here", Severity.OK, f"{endpoint} is {found.kind.value}{_meaning(endpoint, usual, found)}"
            )
    for neighbour in neighbours():
        yield CheckResult("also here", Severity.OK, str(neighbour))


def _meaning(endpoint: Endpoint, usual: str, found: Probe) -> str:
    if found.kind in {ListenerKind.OTHER, ListenerKind.FORBIDDEN}:
        return ""
    if usual == TOR_BROWSER:
        return " of Tor Browser; onionmpc leaves it alone"
    if usual == TAILS:
        return f", as {TAILS} is; usable with --control {endpoint}, see docs/OTHER_TORS.md"
    if found.kind is ListenerKind.CONTROL:
        return f" of a running tor {found.version}; usable with --control {endpoint}"
    return " of a running tor"
